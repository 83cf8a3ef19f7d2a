//! Whose process is on the other end of a connection over loopback.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::{Duration, Instant},
};

use procfs::net::{TcpNetEntry, TcpState};

/// Look-ups in one second: each goes through all of the host's sockets.
const MAX: u32 = 20;

/// Asks the kernel's table of sockets, so often and no more.
#[derive(Debug)]
pub(super) struct Lookups(Mutex<(Instant, u32)>);

impl Default for Lookups {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }
}

impl Lookups {
    /// Whether the connection from `peer` to `own` is known to be a process's of root; nothing, if
    /// too much was asked for in this second.
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

/// A connection that no process has any more is shown as root's, but without an inode
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

/// An address of version 4 may be told as one of version 6.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && plain(one.ip()) == plain(other.ip())
}

fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}
