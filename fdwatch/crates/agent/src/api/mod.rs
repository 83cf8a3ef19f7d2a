//! The agent's API: HTTP over a unix socket, and over TCP if configured.
//!
//! Clients may be slow or hostile: each connection has limits of time and size, their number and rate are limited,
//! also of each user and host, and none can delay the live loop.

mod access;
mod health;
mod page;
mod peer;
mod places;
mod query;
mod response;
mod routes;
mod server;
mod sock_diag;
mod state;
mod stream;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

pub use self::{access::Token, state::State};
use self::{
    peer::Holders,
    routes::router,
    server::{LINGER, Server},
};
use super::config;
use fdwatch_host::proc;

/// Limit of connections that wait to be accepted, in the kernel.
const BACKLOG: i32 = 1024;

/// Size limit of a connection's send buffer in the kernel: bytes. The default grows to megabytes (`tcp_wmem`), half a
/// gigabyte for all connections. Accepted connections inherit the limit of the listener (`sk_clone_lock`,
/// net/core/sock.c).
const MAX_SEND_BUFFER: usize = 256 << 10;

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
            let socket = socket2::SockRef::from(&listener);
            socket.set_send_buffer_size(MAX_SEND_BUFFER)?;
            socket.listen(BACKLOG)?;
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
        let (alive, mut none_alive) = mpsc::channel(1);
        let shared = Arc::clone(&state.shared);
        let server = Server::new(router(state, token), shared, stop.clone(), alive);
        let mut accepting = JoinSet::new();
        for listener in tcp {
            let listener = TcpListener::from_std(listener)?;
            let holders = Holders::of(listener.local_addr()?);
            let tls = tls.clone().map(TlsAcceptor::from);
            accepting.spawn_local(server.clone().accept_tcp(listener, holders, tls));
        }
        let mut path = None;
        if let Some((listener, at)) = unix {
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            accepting.spawn_local(server.clone().accept_unix(listener));
            path = Some(at);
        }
        drop(server);
        let _ = stop.wait_for(|stop| *stop).await;
        accepting.shutdown().await;
        if let Some(path) = path {
            let _ = fs::remove_file(path);
        }
        let _ = timeout(LINGER, none_alive.recv()).await;
        Ok(())
    }
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
