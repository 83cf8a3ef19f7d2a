//! The holder of the other end of a TCP connection: a user of this host, or another host.

use std::{net::SocketAddr, time::Instant};

use procfs::net::{TcpNetEntry, TcpState};

use super::{places::Holder, sock_diag::SockDiag};

/// Where the kernel has to list all sockets to look up one: the time between two lookups, in multiples of the time
/// that the last one took. Other users control that time: they may have any number of sockets.
const PAUSE: u32 = 100;

/// Looks up the holders of a listener's connections.
#[derive(Debug)]
pub(super) struct Holders {
    /// `None` if the kernel does not support it.
    diag: Option<SockDiag>,
    next_listing: Instant,
}

impl Holders {
    pub(super) fn of(listener: SocketAddr) -> Self {
        let diag = SockDiag::open(listener);
        if let Err(error) = &diag {
            tracing::warn!(
                "cannot query the owners of sockets through netlink: {error}; reading /proc/net/tcp instead, at a limited rate"
            );
        }
        Self {
            diag: diag.ok(),
            next_listing: Instant::now(),
        }
    }

    /// Returns the holder of the other end of the connection from `peer` to `own`. Both must be canonical.
    pub(super) fn holder(&mut self, peer: SocketAddr, own: SocketAddr) -> Holder {
        let is_loopback = peer.ip().is_loopback();
        let found = match self.diag.as_mut().map(|diag| diag.owner(peer, own)) {
            Some(Ok(found)) => found,
            _ if !is_loopback => None,
            _ => match self.listed(peer, own) {
                Some(found) => found,
                None => return Holder::Unknown,
            },
        };
        match found {
            Some(uid) => Holder::User(uid),
            None if is_loopback => Holder::Closed,
            None => Holder::remote(peer.ip()),
        }
    }

    /// Searches the kernel's list of sockets; `None` if it is too early to do so again.
    fn listed(&mut self, peer: SocketAddr, own: SocketAddr) -> Option<Option<u32>> {
        let start = Instant::now();
        if start < self.next_listing {
            return None;
        }
        let owner = listed_owner(peer, own);
        self.next_listing = Instant::now() + start.elapsed().saturating_mul(PAUSE);
        Some(owner)
    }
}

/// Returns the user whose process holds the established connection from `local` to `remote`. A connection that no
/// process holds any more is listed as root's, but without an inode (`get_tcp4_sock`, net/ipv4/tcp_ipv4.c).
fn listed_owner(local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let is_it = |entry: &TcpNetEntry| {
        canonical(entry.local_address) == local
            && canonical(entry.remote_address) == remote
            && entry.state == TcpState::Established
            && entry.inode != 0
    };
    let tables = [procfs::net::tcp(), procfs::net::tcp6()];
    let mut entries = tables.into_iter().flatten().flatten();
    entries.find(is_it).map(|entry| entry.uid)
}

/// Returns the same address, of IPv4 if it is mapped to IPv6.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::fs::MetadataExt as _,
        time::Duration,
    };

    use super::*;

    fn addresses(accepted: &TcpStream) -> (SocketAddr, SocketAddr) {
        let [peer, own] = [accepted.peer_addr(), accepted.local_addr()].map(Result::unwrap);
        (canonical(peer), canonical(own))
    }

    #[test]
    fn owner_is_found_by_query_and_in_list() {
        let own_uid = std::fs::metadata("/proc/self").unwrap().uid();
        for (listen, connect) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("0.0.0.0:0", "127.0.0.7"),
            ("[::1]:0", "::1"),
            ("[::]:0", "::1"),
            // IPv4 as IPv6 at one end, then at both.
            ("[::]:0", "127.0.0.1"),
            ("[::]:0", "::ffff:127.0.0.1"),
            ("127.0.0.1:0", "::ffff:127.0.0.1"),
        ] {
            let listener = TcpListener::bind(listen).unwrap();
            let address = listener.local_addr().unwrap();
            let mut diag = SockDiag::open(address).unwrap();
            let client = TcpStream::connect((connect, address.port())).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let (peer, own) = addresses(&accepted);
            assert!(peer.ip().is_loopback(), "{peer}");
            let both = |diag: &mut SockDiag| {
                let asked = diag.owner(peer, own).unwrap();
                assert_eq!(asked, listed_owner(peer, own), "{listen} {connect}");
                asked
            };
            assert_eq!(both(&mut diag), Some(own_uid));
            // Where no such socket exists, the kernel finds the listening one.
            let no_peer = SocketAddr::new(own.ip(), 0);
            assert_eq!(diag.owner(own, no_peer).unwrap(), None);
            assert_eq!(diag.owner(no_peer, own).unwrap(), None);
            drop(client);
            assert_eq!(both(&mut diag), None, "a closed connection has an owner");
        }
    }

    #[test]
    fn query_fails_for_unknown_listener() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        assert!(SockDiag::open(address.unwrap()).is_err());
    }

    #[test]
    fn holders_without_query_are_listed_at_limited_rate() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let (peer, own) = addresses(&accepted);
        let mut holders = Holders {
            diag: None,
            next_listing: Instant::now(),
        };
        let holder = holders.holder(peer, own);
        assert!(matches!(holder, Holder::User(_)), "{holder:?}");
        holders.next_listing += Duration::from_secs(3600);
        assert_eq!(holders.holder(peer, own), Holder::Unknown);
        let other = SocketAddr::from(([192, 0, 2, 1], 7));
        assert_eq!(holders.holder(other, own), Holder::remote(other.ip()));
        drop(client);
    }
}
