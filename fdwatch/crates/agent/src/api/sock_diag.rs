//! Queries the kernel for the owner of one TCP socket, through netlink: see sock_diag(7).

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Type of requests and responses (include/uapi/linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// Type of an error (include/uapi/linux/netlink.h).
const NLMSG_ERROR: u16 = 2;

/// Flag of requests (include/uapi/linux/netlink.h). Without `NLM_F_DUMP` the kernel looks up a single socket by its
/// hash (`inet_diag_find_one_icsk`, net/ipv4/inet_diag.c).
const NLM_F_REQUEST: u16 = 1;

/// The index of the loopback interface (`LOOPBACK_IFINDEX`, include/net/flow.h), where connections between processes
/// of this host arrive.
const LOOPBACK: u32 = 1;

/// State of an established connection (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;

/// State of a listening socket.
const LISTEN: u8 = 10;

/// Size of a request: `struct nlmsghdr` and `struct inet_diag_req_v2`.
const REQUEST_BYTES: u32 = 16 + 56;

/// A connection to the kernel.
#[derive(Debug)]
pub(super) struct SockDiag {
    socket: Socket,
    sequence: u32,
}

/// The part of a response (`struct inet_diag_msg`) that is used.
struct Found {
    state: u8,
    uid: u32,
    inode: u32,
}

impl SockDiag {
    /// Opens a connection, and checks that the kernel finds the listening socket at `listener`. An unknown socket and
    /// a missing module are the same error (`ENOENT`).
    ///
    /// # Errors
    ///
    /// If the kernel does not support such queries, or security modules forbid them.
    pub(super) fn open(listener: SocketAddr) -> io::Result<Self> {
        let family = Domain::from(libc::AF_NETLINK);
        let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
        let socket = Socket::new(family, Type::RAW, Some(protocol))?;
        // The kernel queues the response before the call that sends the request returns.
        socket.set_nonblocking(true)?;
        let mut diag = Self {
            socket,
            sequence: 0,
        };
        // Nobody has port 0.
        let nobody = SocketAddr::new(listener.ip(), 0);
        match diag.find(listener, nobody)? {
            Some(found) if found.state == LISTEN => Ok(diag),
            _ => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    /// Returns the user whose process holds the established connection from `local` to `remote` on this host; `None`
    /// if there is none. Both must be canonical: of IPv4 if they are mapped to IPv6.
    ///
    /// # Errors
    ///
    /// If the kernel does not respond.
    pub(super) fn owner(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Option<u32>> {
        let found = self.find(local, remote)?;
        // A connection that no process holds any more belongs to root, but has no inode (`sock_i_uid`,
        // net/core/sock.c). Instead of a connection, the kernel may find a socket that listens.
        let held = found.filter(|found| found.state == ESTABLISHED && found.inode != 0);
        Ok(held.map(|found| found.uid))
    }

    fn find(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Found>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request(self.sequence, local, remote))?;
        // The response may be longer: attributes follow, and are truncated.
        let mut answer = [0; 128];
        loop {
            let length = (&self.socket).read(&mut answer)?;
            if let Some(found) = parse(&answer[..length], self.sequence) {
                return found;
            }
            // The response to an earlier request, whose read failed.
        }
    }
}

fn request(sequence: u32, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let no_port = 0_u32.to_ne_bytes();
    let all_states = u32::MAX.to_ne_bytes();
    let no_cookie = [0xff; 8];
    [
        // struct nlmsghdr
        &REQUEST_BYTES.to_ne_bytes()[..],
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &NLM_F_REQUEST.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &no_port,
        // struct inet_diag_req_v2
        &[family as u8, libc::IPPROTO_TCP as u8, 0, 0],
        &all_states,
        // struct inet_diag_sockid
        &local.port().to_be_bytes(),
        &remote.port().to_be_bytes(),
        &octets(local.ip()),
        &octets(remote.ip()),
        &LOOPBACK.to_ne_bytes(),
        &no_cookie,
    ]
    .concat()
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&ip.octets());
            octets
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Parses a response; `None` if it belongs to another request.
fn parse(answer: &[u8], sequence: u32) -> Option<io::Result<Option<Found>>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = answer.get(4..6).map(|bytes| [bytes[0], bytes[1]]);
    let (Some(kind), Some(of)) = (kind, number(answer, 8)) else {
        return Some(Err(invalid()));
    };
    if of != sequence {
        return None;
    }
    // The offsets are those in the structures; the header has 16 bytes.
    Some(match u16::from_ne_bytes(kind) {
        SOCK_DIAG_BY_FAMILY => match (
            answer.get(16 + 1),
            number(answer, 16 + 64),
            number(answer, 16 + 68),
        ) {
            (Some(&state), Some(uid), Some(inode)) => Ok(Some(Found { state, uid, inode })),
            _ => Err(invalid()),
        },
        NLMSG_ERROR => match number(answer, 16).map(|error| error.wrapping_neg().cast_signed()) {
            Some(libc::ENOENT) => Ok(None),
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Err(invalid()),
        },
        _ => Err(invalid()),
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}
