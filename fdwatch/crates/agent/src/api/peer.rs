//! The owner of the peer of a connection over loopback.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::{Duration, Instant},
};

use procfs::net::{TcpNetEntry, TcpState};

/// Lookups per second: each reads the host's whole socket table.
const MAX: u32 = 20;

/// Rate-limited lookups in the kernel's socket table.
#[derive(Debug)]
pub(super) struct Lookups(Mutex<(Instant, u32)>);

impl Default for Lookups {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }
}

impl Lookups {
    /// Returns whether the connection from `peer` to `own` belongs to root; `None` if the limit of lookups is reached.
    pub(super) fn is_root(&self, peer: SocketAddr, own: SocketAddr) -> Option<bool> {
        self.is_allowed().then(|| is_root(peer, own))
    }

    fn is_allowed(&self) -> bool {
        let Ok(mut counted) = self.0.lock() else {
            return false;
        };
        if counted.0.elapsed() > Duration::from_secs(1) {
            *counted = (Instant::now(), 0);
        }
        counted.1 += 1;
        counted.1 <= MAX
    }
}

/// Searches the socket table. A connection that no process holds any more is listed as root's, but without an inode
/// (`get_tcp4_sock`, net/ipv4/tcp_ipv4.c).
fn is_root(peer: SocketAddr, own: SocketAddr) -> bool {
    let is_it = |entry: &TcpNetEntry| {
        same(entry.local_address, peer)
            && same(entry.remote_address, own)
            && entry.state == TcpState::Established
            && entry.inode != 0
    };
    let tables = [procfs::net::tcp(), procfs::net::tcp6()];
    let mut entries = tables.into_iter().flatten().flatten();
    entries.find(is_it).is_some_and(|entry| entry.uid == 0)
}

/// Compares addresses; an IPv4 address may be listed as IPv6.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && plain(one.ip()) == plain(other.ip())
}

fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}
