//! Access control: clients that can open the unix socket; over TCP those that send the token, and on loopback processes
//! of root.

use std::{fs, path::Path, sync::Arc};

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

use super::{page, places::Holder, response::error};
use crate::state::AgentState;

/// Minimum length of a token: a shorter one can be guessed.
const MIN_TOKEN_LEN: usize = 16;

/// The token that clients send.
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the token from a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or the token is too short.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let token = text.trim_ascii();
        if token.len() < MIN_TOKEN_LEN {
            bail!(
                "the token in {} is shorter than {MIN_TOKEN_LEN} characters: create one with `openssl rand -hex 32`",
                path.display()
            );
        }
        Ok(Self(token.into()))
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(header::AUTHORIZATION);
        let sent = sent.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        sent.is_some_and(|sent| bool::from(sent.trim_ascii().ct_eq(&self.0)))
    }
}

/// The client of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) holder: Holder,
    pub(super) origin: Origin,
}

/// The origin of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The unix socket, which the client could open.
    Socket,
    /// A loopback address.
    Loopback,
    /// Another address.
    Network,
}

/// The data of access control.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) token: Option<Token>,
    pub(super) shared: Arc<AgentState>,
}

impl Gate {
    /// Returns whether a client may send a request; `None` if that is unknown.
    fn permits(&self, peer: Peer, headers: &HeaderMap) -> Option<bool> {
        if peer.origin == Origin::Socket || self.token.as_ref().is_some_and(|it| it.is_in(headers))
        {
            return Some(true);
        }
        if peer.origin == Origin::Network || !names_loopback(headers) {
            return Some(false);
        }
        (peer.holder != Holder::Unknown).then_some(peer.holder == Holder::ROOT)
    }
}

/// Passes on requests of permitted clients. Others may request only the files of the page, which contain no data of
/// this host. Their connections are closed after each request, since only the rate of connections is limited.
pub(super) async fn check(
    State(gate): State<Gate>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let is_permitted = gate.permits(peer, request.headers());
    if is_permitted == Some(true) {
        AgentState::count(&gate.shared.api.requests);
        return next.run(request).await;
    }
    let mut response = if page::is_file(request.uri().path()) {
        AgentState::count(&gate.shared.api.requests);
        next.run(request).await
    } else {
        AgentState::count(&gate.shared.api.refused);
        refusal(is_permitted)
    };
    let close = header::HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

fn refusal(is_permitted: Option<bool>) -> Response {
    if is_permitted.is_none() {
        let reason = "too many new connections over loopback to check their owners: retry later, reuse a connection, or send the token";
        return error(StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    }
    let reason = "token required: send `Authorization: Bearer TOKEN` with the content of the agent's token_file; root needs none on loopback";
    let mut response = error(StatusCode::UNAUTHORIZED, reason).into_response();
    let challenge = header::HeaderValue::from_static("Bearer");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// Returns whether the `Host` header names loopback. It does not if a foreign web page has its own name resolve to
/// loopback (DNS rebinding).
fn names_loopback(headers: &HeaderMap) -> bool {
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

/// Creates the TLS configuration.
///
/// # Errors
///
/// If the files cannot be read or do not match.
pub(super) fn tls(chain: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>> {
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read certificates from {}", chain.display()))?;
    let key_der = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read a key from {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(certificates, key_der)
        })
        .with_context(|| format!("{} and {} do not match", chain.display(), key.display()))?;
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
    fn only_the_whole_token_is_accepted() {
        let token = Token(b"0123456789abcdef"[..].into());
        let sent = |text| token.is_in(&with(header::AUTHORIZATION, text));
        assert!(sent("Bearer 0123456789abcdef"));
        for wrong in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdefg",
            "0123456789abcdef",
            "Bearer ",
            "Basic 0123456789abcdef",
        ] {
            assert!(!sent(wrong), "{wrong}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
    }

    #[test]
    fn only_loopback_names_are_accepted() {
        let accepted = |host| names_loopback(&with(header::HOST, host));
        for host in [
            "localhost",
            "localhost:9742",
            "127.0.0.1:1",
            "[::1]:80",
            "::1",
        ] {
            assert!(accepted(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9742",
            "localhost.evil.example",
            "10.0.0.1",
            "",
        ] {
            assert!(!accepted(host), "{host}");
        }
        assert!(!names_loopback(&HeaderMap::new()));
    }
}
