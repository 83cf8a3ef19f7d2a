//! The HTTP client that all senders and queries use: its rules for TLS, redirects and proxies.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use reqwest::{
    Certificate, Client, ClientBuilder, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect::{Action, Attempt, Policy},
};

/// Timeout of connecting, unless the user of the client sets another one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of a request to an endpoint.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a file with a token or certificates, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Maximum number of redirects that are followed per request.
const MAX_REDIRECTS: usize = 5;

/// An HTTP server that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its URL: http or https.
    pub url: String,
    /// A file with the token to send (`Authorization: Bearer`).
    pub token_file: Option<PathBuf>,
    /// A PEM file with certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
}

/// Returns a builder with the rules that all clients have in common.
///
/// - TLS: by ring, with the system's certificates.
/// - Redirects: followed if scheme, host and port stay the same and the status keeps method and body (307, 308), at
///   most five. Tokens and events reach no other server, encrypted requests are not repeated in clear
///   text, and a POST does not become a GET whose success would count as delivery.
/// - Timeouts: of connecting; users set that of the request.
/// - Proxies: those of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`). Unix sockets use none.
pub fn builder() -> ClientBuilder {
    use_ring();
    Client::builder()
        .user_agent(concat!("fdwatch/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::custom(redirect))
}

/// Creates a client that sends the endpoint's token and trusts its certificates.
///
/// # Errors
///
/// If the token or the certificates cannot be read or are invalid.
pub fn client(endpoint: &Endpoint) -> Result<Client> {
    let mut builder = builder().timeout(REQUEST_TIMEOUT);
    if let Some(file) = &endpoint.token_file {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, bearer(file)?);
        builder = builder.default_headers(headers);
    }
    if let Some(file) = &endpoint.ca_file {
        let certificates = certificates(&read(file)?)
            .with_context(|| format!("cannot read certificates from {}", file.display()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder
        .build()
        .with_context(|| format!("cannot create an HTTP client for {}", endpoint.url))
}

/// Selects ring as the implementation of TLS, unless the process has selected one already.
pub fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn bearer(file: &Path) -> Result<HeaderValue> {
    let bytes = read(file)?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        bail!("{} contains no token", file.display());
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .ok()
        .filter(|value| value.to_str().is_ok())
        .with_context(|| {
            let file = file.display();
            format!("invalid token in {file}: must be one line of printable ASCII")
        })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Parses certificates in PEM.
///
/// # Errors
///
/// If they cannot be parsed, or there are none.
pub fn certificates(pem: &[u8]) -> Result<Vec<Certificate>> {
    let certificates = Certificate::from_pem_bundle(pem).context("invalid PEM certificate")?;
    if certificates.is_empty() {
        bail!("no PEM certificate found");
    }
    Ok(certificates)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)
        .and_then(|opened| opened.take(MAX_BYTES).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(bytes)
}

fn redirect(attempt: Attempt<'_>) -> Action {
    let next = attempt.url();
    let is_same_origin = attempt
        .previous()
        .first()
        .is_some_and(|first| first.origin() == next.origin());
    let keeps_method = matches!(
        attempt.status(),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    );
    if is_same_origin && keeps_method && attempt.previous().len() <= MAX_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn endpoint(
        token: Option<&[u8]>,
        ca: Option<&[u8]>,
    ) -> (Endpoint, Vec<tempfile::NamedTempFile>) {
        let mut files = Vec::new();
        let mut file = |bytes: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            let path = file.path().to_owned();
            files.push(file);
            path
        };
        let endpoint = Endpoint {
            url: "http://127.0.0.1:1".to_owned(),
            token_file: token.map(&mut file),
            ca_file: ca.map(&mut file),
        };
        (endpoint, files)
    }

    #[test]
    fn token_of_several_lines_is_rejected() {
        let (good, _files) = endpoint(Some(b"s3cret\n"), None);
        assert!(client(&good).is_ok());
        for bad in [&b""[..], b" \n", b"two\nlines", b"\xff"] {
            let (bad, _files) = endpoint(Some(bad), None);
            let error = format!("{:#}", client(&bad).unwrap_err());
            assert!(error.contains("token"), "{error}");
        }
    }

    #[test]
    fn non_pem_certificates_are_rejected() {
        let (bad, _files) = endpoint(None, Some(b"no certificate"));
        let error = format!("{:#}", client(&bad).unwrap_err());
        assert!(error.contains("certificate"), "{error}");
        let (mut missing, _files) = endpoint(None, None);
        missing.ca_file = Some("/nonexistent/ca.pem".into());
        let error = format!("{:#}", client(&missing).unwrap_err());
        assert!(error.contains("cannot read /nonexistent/ca.pem"), "{error}");
    }
}
