//! The agent's API: HTTP over a unix socket, and over TCP if configured.
//!
//! Clients may be slow or hostile: each connection has limits of time and size, their number is limited, and none can
//! delay the live loop.

mod access;
mod health;
mod page;
mod peer;
mod query;
mod response;
mod routes;
mod state;
mod stream;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

pub use self::{access::Token, state::State};
use self::{
    access::{LoopbackAddresses, Peer},
    routes::router,
};
use super::{config, state::AgentState};
use fdwatch_host::proc;

/// Limit of concurrent connections.
const MAX_CONNECTIONS: usize = 128;

/// Time in which a request's header must arrive, after the last response or the start of the connection, and in which
/// a TLS handshake must complete. It does not run during a response: readers of events send nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time after which a client that reads nothing is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Size limit of a request's header: bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// Time that connections get to finish when the API stops.
const LINGER: Duration = Duration::from_millis(300);

/// The sockets of the API.
#[derive(Debug)]
pub struct Listeners {
    unix: Option<(std::os::unix::net::UnixListener, PathBuf)>,
    tcp: Vec<std::net::TcpListener>,
    tls: Option<Arc<rustls::ServerConfig>>,
    token: Option<Token>,
}

impl Listeners {
    /// Binds the addresses.
    ///
    /// # Errors
    ///
    /// If an address is in use, as by another agent, or a file cannot be read.
    pub fn bind(config: &config::Api) -> Result<Self> {
        let token = config.token_file.as_deref().map(Token::read).transpose()?;
        let tls = config.tls.as_ref();
        let tls = tls
            .map(|(chain, key)| access::tls(chain, key))
            .transpose()?;
        for address in &config.listen {
            if !address.ip().is_loopback() && (token.is_none() || tls.is_none()) {
                bail!(
                    "{address} can be reached from other hosts: this requires `tls` and `token_file`"
                );
            }
        }
        let unix = config.socket.as_deref().map(|path| {
            let listener = bind_unix(path, config.socket_mode).with_context(|| {
                let is_root = proc::effective_user() == 0;
                let hint = if is_root {
                    ""
                } else {
                    " (not running as root)"
                };
                format!("cannot listen on {}{hint}", path.display())
            })?;
            Ok::<_, anyhow::Error>((listener, path.to_owned()))
        });
        let unix = unix.transpose()?;
        let tcp = config.listen.iter().map(|address| {
            let listener = std::net::TcpListener::bind(address)
                .with_context(|| format!("cannot listen on {address}"))?;
            listener.set_nonblocking(true)?;
            socket2::SockRef::from(&listener).set_send_buffer_size(MAX_SEND_BUFFER)?;
            Ok(listener)
        });
        let tcp = tcp.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            unix,
            tcp,
            tls,
            token,
        })
    }

    /// Creates an API without sockets.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            unix: None,
            tcp: Vec::new(),
            tls: None,
            token: None,
        }
    }

    /// Returns the bound TCP addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        let listeners = self.tcp.iter();
        listeners
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    /// Serves requests until `stop`.
    ///
    /// # Errors
    ///
    /// If the runtime cannot use the sockets.
    pub async fn serve(self, state: State, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let Self {
            unix,
            tcp,
            tls,
            token,
        } = self;
        let server = Server {
            shared: Arc::clone(&state.shared),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            router: router(state, token),
            stop: stop.clone(),
        };
        let mut accepting = JoinSet::new();
        for listener in tcp {
            let listener = TcpListener::from_std(listener)?;
            let tls = tls.clone().map(TlsAcceptor::from);
            accepting.spawn_local(server.clone().accept_tcp(listener, tls));
        }
        let mut path = None;
        if let Some((listener, at)) = unix {
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            accepting.spawn_local(server.clone().accept_unix(listener));
            path = Some(at);
        }
        let _ = stop.wait_for(|stop| *stop).await;
        accepting.shutdown().await;
        if let Some(path) = path {
            let _ = fs::remove_file(path);
        }
        let every = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        let _ = timeout(LINGER, server.connections.acquire_many(every)).await;
        Ok(())
    }
}

/// The state that all connections share.
#[derive(Clone)]
struct Server {
    router: Router,
    shared: Arc<AgentState>,
    connections: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Server {
    async fn accept_unix(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.begin(stream, Peer::Socket),
                Err(error) => accept_failed(&error).await,
            }
        }
    }

    async fn accept_tcp(self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    accept_failed(&error).await;
                    continue;
                }
            };
            let peer = match stream.local_addr() {
                Ok(own) if address.ip().is_loopback() => {
                    Peer::Loopback(Arc::new(LoopbackAddresses::new(address, own)))
                }
                _ => Peer::Other,
            };
            let Some(tls) = tls.clone() else {
                self.begin(stream, peer);
                continue;
            };
            let server = self.clone();
            tokio::task::spawn_local(async move {
                match timeout(HEADER_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => server.begin(stream, peer),
                    _ => AgentState::count(&server.shared.api.refused),
                }
            });
        }
    }

    fn begin(&self, stream: impl AsyncRead + AsyncWrite + 'static, peer: Peer) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            AgentState::count(&self.shared.api.refused);
            return;
        };
        let router = self.router.clone().layer(Extension(peer));
        let shared = Arc::clone(&self.shared);
        let mut stop = self.stop.clone();
        tokio::task::spawn_local(async move {
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(WRITE_TIMEOUT));
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEADER_BYTES);
            let io = TokioIo::new(Box::pin(stream));
            let connection = http.serve_connection(io, TowerToHyperService::new(router));
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
            drop(permit);
        });
    }
}

/// Size limit of a connection's send buffer in the kernel: bytes. The default grows to megabytes (`tcp_wmem`), half a
/// gigabyte for all connections. Accepted connections inherit the limit of the listener (`sk_clone_lock`,
/// net/core/sock.c).
const MAX_SEND_BUFFER: usize = 256 << 10;

/// Waits after a failed accept: there may be no descriptors left.
async fn accept_failed(error: &io::Error) {
    tracing::warn!("cannot accept a connection: {error}");
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Binds a unix socket. Replaces the socket of an agent that was killed, but not one that accepts connections.
fn bind_unix(path: &Path, mode: u32) -> Result<std::os::unix::net::UnixListener> {
    if let Some(parent) = path.parent()
        && !parent.exists()
    {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("another agent is listening");
    }
    // Set the permissions before the socket gets its name.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let _ = fs::remove_file(&fresh);
    let listener = std::os::unix::net::UnixListener::bind(&fresh)?;
    let placed = fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))
        .and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = placed {
        let _ = fs::remove_file(&fresh);
        return Err(error.into());
    }
    Ok(listener)
}
