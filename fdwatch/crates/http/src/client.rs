//! The client of whoever takes things over HTTP: one for each endpoint of the configuration.
//!
//! What is sent, and when again, is not known here.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use reqwest::{
    Certificate, Client,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect::{Attempt, Policy},
};

/// How long it may take to reach it.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a request may take in all.
const REQUEST: Duration = Duration::from_secs(10);

/// Bytes of a file with a token or with certificates, at the most.
const MAX_BYTES: u64 = 1 << 20;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Someone who takes things over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where: http or https.
    pub url: String,
    /// A file with a token to show (`Authorization: Bearer`).
    pub token_file: Option<PathBuf>,
    /// Certificates to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

/// A client that shows the endpoint's token and trusts its certificates besides the system's.
///
/// # Errors
///
/// If the token or the certificates cannot be read, or are none.
pub fn client(endpoint: &Endpoint) -> Result<Client> {
    use_ring();
    let mut builder = Client::builder()
        .user_agent(concat!("fdwatch/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(REQUEST)
        .redirect(Policy::custom(redirect));
    if let Some(file) = &endpoint.token_file {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, bearer(file)?);
        builder = builder.default_headers(headers);
    }
    if let Some(file) = &endpoint.ca_file {
        builder = builder.tls_certs_merge(certificates(file)?);
    }
    builder
        .build()
        .with_context(|| format!("no HTTP client can be made for {}", endpoint.url))
}

/// Makes ring do the cryptography of TLS. Where another was chosen before, that stays.
pub fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn bearer(file: &Path) -> Result<HeaderValue> {
    let bytes = read(file)?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        bail!("{} has no token in it", file.display());
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .ok()
        .filter(|value| value.to_str().is_ok())
        .with_context(|| {
            let file = file.display();
            format!("the token in {file} must be one line of printable ASCII")
        })?;
    value.set_sensitive(true);
    Ok(value)
}

fn certificates(file: &Path) -> Result<Vec<Certificate>> {
    let certificates = Certificate::from_pem_bundle(&read(file)?)
        .with_context(|| format!("{} cannot be read as PEM", file.display()))?;
    if certificates.is_empty() {
        bail!("{} has no certificate in it", file.display());
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

/// What is meant for one host goes to no other, and what is encrypted does not go on in the clear.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let next = attempt.url();
    let is_same = attempt.previous().first().is_some_and(|first| {
        (
            first.scheme(),
            first.host_str(),
            first.port_or_known_default(),
        ) == (next.scheme(), next.host_str(), next.port_or_known_default())
    });
    if is_same && attempt.previous().len() <= MAX_REDIRECTS {
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
    fn a_token_is_one_line() {
        let (good, _files) = endpoint(Some(b"s3cret\n"), None);
        assert!(client(&good).is_ok());
        for bad in [&b""[..], b" \n", b"two\nlines", b"\xff"] {
            let (bad, _files) = endpoint(Some(bad), None);
            let error = format!("{:#}", client(&bad).unwrap_err());
            assert!(error.contains("token"), "{error}");
        }
    }

    #[test]
    fn certificates_are_pem() {
        let (bad, _files) = endpoint(None, Some(b"no certificate"));
        let error = format!("{:#}", client(&bad).unwrap_err());
        assert!(error.contains("certificate"), "{error}");
        let (mut missing, _files) = endpoint(None, None);
        missing.ca_file = Some("/nonexistent/ca.pem".into());
        let error = format!("{:#}", client(&missing).unwrap_err());
        assert!(error.contains("cannot read /nonexistent/ca.pem"), "{error}");
    }
}
