//! Accepts connections within the limits of places and rates, and serves HTTP on them.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::{
    access::{Origin, Peer},
    peer::{Holders, canonical},
    places::{Holder, Limits, Pace, Place, Places},
};
use crate::state::AgentState;
use fdwatch_host::proc;

/// Limits of concurrent connections over the unix socket.
const MAX_UNIX: Limits = Limits {
    total: 64,
    per_holder: 16,
    for_root: 16,
};

/// Limits of concurrent TCP connections from this host.
const MAX_LOCAL: Limits = Limits {
    total: 128,
    per_holder: 32,
    for_root: 32,
};

/// Limits of concurrent TCP connections from other hosts.
const MAX_REMOTE: Limits = Limits {
    total: 128,
    per_holder: 32,
    for_root: 0,
};

/// Descriptors that connections leave to the agent's own files.
const RESERVED_FDS: u64 = 64;

/// Time in which a TLS handshake must complete.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time in which a request's header must arrive, after the last response or the start of the connection. It does not
/// run during a response: readers of events send nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time after which a client that reads nothing is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Size limit of a request's header: bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// Time that connections get to finish when the API stops.
pub(super) const LINGER: Duration = Duration::from_millis(300);

/// The state that all connections share.
#[derive(Clone)]
pub(super) struct Server {
    router: Router,
    shared: Arc<AgentState>,
    unix: Arc<Places>,
    local: Arc<Places>,
    remote: Arc<Places>,
    /// Connections have descriptors below this limit. The kernel assigns the lowest free number, so that those above
    /// it are free.
    fd_limit: u64,
    stop: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
}

impl Server {
    /// `alive` is dropped with the last connection.
    pub(super) fn new(
        router: Router,
        shared: Arc<AgentState>,
        stop: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) -> Self {
        let fd_limit = proc::fd_limit(std::process::id());
        Self {
            router,
            shared,
            unix: Places::new(MAX_UNIX),
            local: Places::new(MAX_LOCAL),
            remote: Places::new(MAX_REMOTE),
            fd_limit: fd_limit.map_or(u64::MAX, |limit| limit.saturating_sub(RESERVED_FDS)),
            stop,
            alive,
        }
    }

    pub(super) async fn accept_unix(self, listener: UnixListener) {
        let mut pace = Pace::new();
        loop {
            pace.wait().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    accept_failed(&error).await;
                    continue;
                }
            };
            let user = stream.peer_cred().map(|of| Holder::User(of.uid()));
            let peer = Peer {
                holder: user.unwrap_or(Holder::Unknown),
                origin: Origin::Socket,
            };
            if let Some(place) = self.place(&stream, peer, &mut pace) {
                self.begin(stream, peer, place);
            }
        }
    }

    pub(super) async fn accept_tcp(
        self,
        listener: TcpListener,
        mut holders: Holders,
        tls: Option<TlsAcceptor>,
    ) {
        let mut pace = Pace::new();
        loop {
            pace.wait().await;
            let accepted = listener.accept().await;
            let accepted = accepted.and_then(|(stream, address)| {
                let (address, own) = (canonical(address), canonical(stream.local_addr()?));
                let peer = Peer {
                    holder: holders.holder(address, own),
                    origin: if address.ip().is_loopback() {
                        Origin::Loopback
                    } else {
                        Origin::Network
                    },
                };
                Ok((stream, peer))
            });
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    accept_failed(&error).await;
                    continue;
                }
            };
            let Some(place) = self.place(&stream, peer, &mut pace) else {
                continue;
            };
            let Some(tls) = tls.clone() else {
                self.begin(stream, peer, place);
                continue;
            };
            let server = self.clone();
            tokio::task::spawn_local(async move {
                match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => server.begin(stream, peer, place),
                    _ => AgentState::count(&server.shared.api.refused),
                }
            });
        }
    }

    /// Returns a place for an accepted connection; if there is none, counts it as refused.
    fn place(&self, stream: &impl AsRawFd, peer: Peer, pace: &mut Pace) -> Option<Place> {
        let places = match (peer.origin, peer.holder) {
            (Origin::Socket, _) => &self.unix,
            (_, Holder::Address(_)) => &self.remote,
            _ => &self.local,
        };
        let fd = u64::try_from(stream.as_raw_fd());
        let is_allowed = pace.admits(peer.holder) && fd.is_ok_and(|fd| fd < self.fd_limit);
        let place = is_allowed.then(|| places.take(peer.holder)).flatten();
        if place.is_none() {
            AgentState::count(&self.shared.api.refused);
        }
        place
    }

    fn begin(&self, stream: impl AsyncRead + AsyncWrite + 'static, peer: Peer, place: Place) {
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        let shared = Arc::clone(&self.shared);
        let alive = self.alive.clone();
        let mut stop = self.stop.clone();
        tokio::task::spawn_local(async move {
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(WRITE_TIMEOUT));
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEADER_BYTES);
            let io = TokioIo::new(Box::pin(stream));
            let connection = http.serve_connection(io, service);
            let mut connection = std::pin::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                _ = stop.wait_for(|stop| *stop) => {
                    connection.as_mut().graceful_shutdown();
                    timeout(LINGER, connection).await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = result
                && (error.is_timeout() || error.is_parse())
            {
                shared.api.refused.fetch_add(1, Relaxed);
            }
            drop((place, alive));
        });
    }
}

/// Waits after a failed accept: there may be no descriptors left.
async fn accept_failed(error: &io::Error) {
    tracing::warn!("cannot accept a connection: {error}");
    tokio::time::sleep(Duration::from_millis(200)).await;
}
