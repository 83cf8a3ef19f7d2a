//! How the agent calls others over HTTP.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use reqwest::{
    Certificate, Client,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect,
};

use super::config::Endpoint;

/// Within which a connection must be there.
const CONNECT: Duration = Duration::from_secs(5);

/// Within which all must be done.
const TOTAL: Duration = Duration::from_secs(10);

/// A client for one who takes things over HTTP: it shows the token, trusts the certificates, and
/// follows no one elsewhere.
///
/// # Errors
///
/// If the token's or the certificates' file cannot be read or used, or the URL is not one.
pub(crate) fn client(endpoint: &Endpoint) -> Result<Client> {
    // Another one may have been first, with the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = reqwest::Url::parse(&endpoint.url)
        .with_context(|| format!("{} is not a URL", endpoint.url))?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("{} is neither http nor https", endpoint.url);
    }
    let mut certificates = Vec::new();
    if let Some(file) = &endpoint.ca_file {
        let pem =
            fs::read(file).with_context(|| format!("cannot read ca-file {}", file.display()))?;
        certificates = Certificate::from_pem_bundle(&pem)
            .with_context(|| format!("{} has no certificates in PEM", file.display()))?;
        if certificates.is_empty() {
            bail!("{} has no certificates in PEM", file.display());
        }
    }
    let mut headers = HeaderMap::new();
    if let Some(file) = &endpoint.token_file {
        let token = fs::read_to_string(file)
            .with_context(|| format!("cannot read token-file {}", file.display()))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .with_context(|| format!("{} has what no token has", file.display()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let builder = || {
        Client::builder()
            .user_agent(concat!("fdwatch/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers.clone())
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .redirect(redirect::Policy::none())
    };
    // Where nothing is to be checked, the system's certificates are not read, which takes a while.
    if url.scheme() == "http" {
        return builder()
            .tls_certs_only([])
            .build()
            .context("cannot make an HTTP client");
    }
    let merged = builder().tls_certs_merge(certificates.clone()).build();
    match merged {
        // A system without any certificates is fine with those that were named.
        Err(_) if !certificates.is_empty() => builder().tls_certs_only(certificates).build(),
        merged => merged,
    }
    .context("cannot make an HTTP client: are there certificates to trust (ca-certificates)?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint {
            url: url.to_owned(),
            token_file: None,
            ca_file: None,
        }
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let error = |endpoint: &Endpoint| format!("{:#}", client(endpoint).unwrap_err());
        assert!(error(&endpoint("nowhere")).contains("is not a URL"));
        assert!(error(&endpoint("ftp://x/")).contains("neither http nor https"));
        let token = Endpoint {
            token_file: Some("/nonexistent/token".into()),
            ..endpoint("http://127.0.0.1/")
        };
        assert!(error(&token).contains("/nonexistent/token"));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "not a certificate").unwrap();
        let ca = Endpoint {
            ca_file: Some(file.path().to_owned()),
            ..endpoint("https://127.0.0.1/")
        };
        assert!(error(&ca).contains("no certificates"));
        client(&endpoint("http://127.0.0.1/")).unwrap();
    }
}
