//! Client of ClickHouse's HTTP interface: inserts rows and runs queries.
//!
//! Rows are sent as lines of JSON. The parameters of a query are sent as an external table of one row
//! (`asked`), the only typed parameters that all servers from 18.16 on support. No data of hosts or users
//! becomes part of a statement.

use std::{fs, io::Write as _, path::Path, time::Duration};

use flate2::{Compression, write::GzEncoder};
use reqwest::{Method, Url};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{hints, rows::Table, schema::identifier};

/// Timeout of a statement. It is long because a statement that fills a rollup reads all rows.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

/// Maximum length of a response, in bytes.
const MAX_ANSWER_LEN: usize = 256 << 20;

/// Maximum length of an error message, in characters.
const MAX_ERROR_LEN: usize = 2000;

/// Error codes for rows that cannot be parsed or have unknown columns. Retries would fail too.
const INVALID_ROWS: [u32; 9] = [6, 16, 26, 27, 33, 38, 41, 72, 117];

/// An error of a server or of its settings.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The connection failed, or there was no response.
    #[error("{0}")]
    Unreachable(String),
    /// The server rejected the request.
    #[error("server returned status {status}: {message}{}", .code.map_or("", hints::of_code))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Error code of ClickHouse, if known.
        code: Option<u32>,
        /// Message, truncated.
        message: String,
    },
    /// The response could not be parsed.
    #[error("invalid response: {0}")]
    InvalidResponse(String),
    /// A setting is invalid.
    #[error("{0}")]
    Setting(String),
}

impl StoreError {
    /// Returns whether the server rejects these rows on every attempt.
    #[must_use]
    pub fn is_invalid_rows(&self) -> bool {
        matches!(self, Self::Refused { code: Some(code), .. } if INVALID_ROWS.contains(code))
    }
}

/// Address and credentials of a server.
#[derive(Clone, Debug, Default)]
pub struct Address {
    /// URL of the HTTP interface.
    pub url: String,
    /// Name of the database.
    pub database: String,
    /// Name of the user.
    pub user: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// PEM certificates to trust in addition to the system's.
    pub ca: Option<Vec<u8>>,
}

impl Address {
    /// Reads the password and the certificates from their files.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn read(
        url: &str,
        database: &str,
        user: Option<&str>,
        password_file: Option<&Path>,
        ca_file: Option<&Path>,
    ) -> Result<Self, StoreError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| {
                StoreError::Setting(format!("cannot read {}: {error}", path.display()))
            })
        };
        let password = password_file.map(read).transpose()?;
        let password = password.map(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            text.trim_end_matches(['\n', '\r']).to_owned()
        });
        Ok(Self {
            url: url.to_owned(),
            database: database.to_owned(),
            user: user.map(str::to_owned),
            password,
            ca: ca_file.map(read).transpose()?,
        })
    }
}

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    address: Address,
}

/// Returns a builder of HTTP clients that follow no redirects, so that passwords reach no other server, and
/// use no proxy.
///
/// # Errors
///
/// If the certificates cannot be parsed.
pub(super) fn http(ca: Option<&[u8]>) -> Result<reqwest::ClientBuilder, StoreError> {
    let mut builder = fdwatch_http::builder()
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(120));
    if let Some(pem) = ca {
        let certificates = fdwatch_http::certificates(pem)
            .map_err(|error| StoreError::Setting(format!("{error:#}")))?;
        builder = builder.tls_certs_merge(certificates);
    }
    Ok(builder)
}

impl Client {
    /// Creates a client.
    ///
    /// # Errors
    ///
    /// If the URL, the name of the database or the certificates are invalid.
    pub fn new(address: Address) -> Result<Self, StoreError> {
        let setting = |error: String| StoreError::Setting(error);
        let url = Url::parse(&address.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                setting(format!(
                    "invalid URL: {:?}: expected http:// or https:// and a host",
                    address.url
                ))
            })?;
        identifier(&address.database).map_err(|error| setting(error.to_string()))?;
        let http = http(address.ca.as_deref())?;
        let http = http.build().map_err(|error| setting(error.to_string()))?;
        Ok(Self { http, url, address })
    }

    /// Inserts rows: lines of JSON. They are stored when this returns.
    ///
    /// # Errors
    ///
    /// If the insert failed, or its outcome is unknown.
    pub async fn insert(&self, table: Table, lines: &[u8]) -> Result<(), StoreError> {
        let database = &self.address.database;
        let statement = format!("INSERT INTO {database}.{} FORMAT JSONEachRow", table.name());
        let settings = [
            ("query", &statement[..]),
            ("input_format_skip_unknown_fields", "1"),
            ("insert_deduplicate", "0"),
            ("insert_distributed_sync", "1"),
        ];
        let packed = gzip(lines).map_err(|error| StoreError::InvalidResponse(error.to_string()))?;
        let request = self.request(&settings);
        let request = request.header("Content-Encoding", "gzip").body(packed);
        self.send(request).await.map(drop)
    }

    /// Runs a statement without parameters, and returns the response.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub async fn run(
        &self,
        statement: &str,
        settings: &[(&str, &str)],
    ) -> Result<String, StoreError> {
        let request = self.request(settings).body(statement.to_owned());
        let request = request.timeout(STATEMENT_TIMEOUT);
        self.send(request).await
    }

    /// Runs a query that reads its parameters from the table `asked`: its columns are `structure`, its only row
    /// `parameters`.
    ///
    /// # Errors
    ///
    /// If it fails, or a row of the response cannot be parsed.
    pub async fn query<T: DeserializeOwned>(
        &self,
        query: &str,
        structure: &str,
        parameters: &(impl Serialize + Sync),
    ) -> Result<Vec<T>, StoreError> {
        // JSON escapes line breaks, so no value can end the part.
        const BOUNDARY: &str = "fdwatch-asked-4d1f9c6a7e";
        let row = serde_json::to_string(parameters)
            .map_err(|error| StoreError::InvalidResponse(error.to_string()))?;
        let body = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"asked\"; filename=\"asked\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n{row}\n\r\n--{BOUNDARY}--\r\n"
        );
        let settings = [
            ("database", &self.address.database[..]),
            ("query", query),
            ("asked_structure", structure),
            ("asked_format", "JSONEachRow"),
        ];
        let content = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = self.request(&settings);
        let request = request.header("Content-Type", content).body(body);
        let text = self.send(request).await?;
        text.lines()
            .map(|line| {
                // An error after the first rows is part of the body.
                serde_json::from_str(line).map_err(|error| {
                    StoreError::InvalidResponse(format!("{error}: {}", truncated(line)))
                })
            })
            .collect()
    }

    fn request(&self, settings: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(settings);
        let mut request = self.http.request(Method::POST, url);
        if let Some(user) = &self.address.user {
            request = request.header("X-ClickHouse-User", user);
        }
        if let Some(password) = &self.address.password {
            request = request.header("X-ClickHouse-Key", password);
        }
        request
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<String, StoreError> {
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let header = response.headers().get("X-ClickHouse-Exception-Code");
        let header_code = header.and_then(|code| code.to_str().ok()?.parse().ok());
        let body = read(response).await?;
        let text = String::from_utf8_lossy(&body);
        if !status.is_success() {
            return Err(StoreError::Refused {
                status: status.as_u16(),
                code: header_code.or_else(|| code(&text)),
                message: truncated(text.trim()),
            });
        }
        Ok(text.into_owned())
    }
}

/// Reads the body of a response, up to [`MAX_ANSWER_LEN`].
pub(super) async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| unreachable(&error))?
    {
        if body.len() + chunk.len() > MAX_ANSWER_LEN {
            return Err(StoreError::InvalidResponse(format!(
                "longer than {} MiB",
                MAX_ANSWER_LEN >> 20
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Converts a connection error with all its causes, without the URL, which contains the statement.
pub(super) fn unreachable(error: &reqwest::Error) -> StoreError {
    use std::error::Error as _;
    let server = error.url().and_then(|url| {
        let port = url.port().map(|port| format!(":{port}"));
        Some(format!("{}{}", url.host_str()?, port.unwrap_or_default()))
    });
    let server = server.unwrap_or_else(|| "the server".to_owned());
    let mut text = format!("connection to {server} failed");
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    StoreError::Unreachable(text + hints::of_connection(error))
}

/// Parses the error code at the start of a message: `Code: 60. ...`.
fn code(text: &str) -> Option<u32> {
    let digits = text.trim_start().strip_prefix("Code: ")?;
    let end = digits.find(|it: char| !it.is_ascii_digit())?;
    digits[..end].parse().ok()
}

/// Escapes and truncates a text of the server.
fn truncated(text: &str) -> String {
    let text: String = text.chars().take(MAX_ERROR_LEN).collect();
    fdwatch_render::escaped(text.as_bytes())
}

fn gzip(lines: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 8), Compression::fast());
    encoder.write_all(lines)?;
    encoder.finish()
}
