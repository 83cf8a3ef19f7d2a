//! Who may ask: whoever can open the socket; over TCP who shows the token, and on loopback root's
//! processes. What they ask for is not known here.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, Result, bail};
use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use subtle::ConstantTimeEq as _;

use super::{answer::error, page, peer::Lookups};
use crate::state::AgentState;

/// A token is at least so long: what is shorter can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// The secret that clients show.
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// If that cannot be done, or it is too short.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let token = text.trim_ascii();
        if token.len() < SHORTEST_TOKEN {
            bail!(
                "the token in {} is shorter than {SHORTEST_TOKEN} characters: `openssl rand -hex 32` makes one",
                path.display()
            );
        }
        Ok(Self(token.into()))
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION);
        let shown = shown.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        shown.is_some_and(|shown| bool::from(shown.trim_ascii().ct_eq(&self.0)))
    }
}

/// Who is on the other end.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// Who could open the socket, by its permissions.
    Socket,
    /// A process on this host.
    Loopback(Arc<Ends>),
    /// Anyone.
    Other,
}

/// The ends of a connection over loopback.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) own: SocketAddr,
    /// A socket stays the user's who made it.
    is_root: AtomicBool,
}

impl Ends {
    pub(super) const fn new(peer: SocketAddr, own: SocketAddr) -> Self {
        let is_root = AtomicBool::new(false);
        Self { peer, own, is_root }
    }

    /// Whether the other is root's; nothing, if that cannot be told just now.
    fn is_root(&self, lookups: &Lookups) -> Option<bool> {
        if self.is_root.load(Relaxed) {
            return Some(true);
        }
        let is_root = lookups.is_root(self.peer, self.own)?;
        self.is_root.store(is_root, Relaxed);
        Some(is_root)
    }
}

/// What is needed to tell who may ask.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) token: Option<Token>,
    pub(super) shared: Arc<AgentState>,
    pub(super) lookups: Arc<Lookups>,
}

/// Lets those in who may ask.
pub(super) async fn check(
    State(gate): State<Gate>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let shows_token = gate
        .token
        .as_ref()
        .is_some_and(|token| token.is_in(request.headers()));
    // The page has nothing in it but what asks for the rest.
    let may = if shows_token || page::is_part(request.uri().path()) {
        Some(true)
    } else {
        match peer {
            Peer::Socket => Some(true),
            Peer::Loopback(ends) if is_asked_as_loopback(request.headers()) => {
                ends.is_root(&gate.lookups)
            }
            Peer::Loopback(_) | Peer::Other => Some(false),
        }
    };
    if may == Some(true) {
        AgentState::count(&gate.shared.api.requests);
        return next.run(request).await;
    }
    AgentState::count(&gate.shared.api.refused);
    if may.is_none() {
        let words = "too many new connections over loopback to tell whose they are: try again later, use one for all requests, or show the token";
        return error(StatusCode::SERVICE_UNAVAILABLE, words).into_response();
    }
    let words = "a token is needed: send `Authorization: Bearer TOKEN`, with what is in the agent's token_file; on loopback, root needs none";
    let mut response = error(StatusCode::UNAUTHORIZED, words).into_response();
    let challenge = header::HeaderValue::from_static("Bearer");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// A page from elsewhere may have its own name lead here; then it is asked for by that.
fn is_asked_as_loopback(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let is_loopback = |name: &str| {
        let ip = name.parse::<std::net::IpAddr>();
        name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    };
    host.is_some_and(|host| {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        is_loopback(name) || is_loopback(host)
    })
}

/// What TLS needs.
///
/// # Errors
///
/// If the files do not have it.
pub(super) fn tls(chain: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>> {
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("no certificates can be read from {}", chain.display()))?;
    let key_der = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("no key can be read from {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(certificates, key_der)
        })
        .with_context(|| {
            format!(
                "{} and {} cannot be used together",
                chain.display(),
                key.display()
            )
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_token_is_the_whole_token() {
        let token = Token(b"0123456789abcdef"[..].into());
        let shown = |text| token.is_in(&with(header::AUTHORIZATION, text));
        assert!(shown("Bearer 0123456789abcdef"));
        for wrong in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdefg",
            "0123456789abcdef",
            "Bearer ",
            "Basic 0123456789abcdef",
        ] {
            assert!(!shown(wrong), "{wrong}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
    }

    #[test]
    fn only_names_of_loopback_are_loopback() {
        let asked = |host| is_asked_as_loopback(&with(header::HOST, host));
        for host in [
            "localhost",
            "localhost:9742",
            "127.0.0.1:1",
            "[::1]:80",
            "::1",
        ] {
            assert!(asked(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9742",
            "localhost.evil.example",
            "10.0.0.1",
            "",
        ] {
            assert!(!asked(host), "{host}");
        }
        assert!(!is_asked_as_loopback(&HeaderMap::new()));
    }
}
