//! A client of ClickHouse's HTTP interface: inserts, and questions whose values are typed.
//!
//! Rows go as lines of JSON, and what a question asks for goes beside it, as a table of one row
//! (`asked`): an external table is the one typed way that servers know from 18.16 on. Nothing that a
//! host or a user tells becomes part of a statement.

use std::{fs, io::Write as _, path::Path, time::Duration};

use flate2::{Compression, write::GzEncoder};
use reqwest::{Method, Url};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{hints, rows::Table, schema::identifier};

/// How long a statement may take: one that fills a table reads all rows there are.
const MAX_STATEMENT_LEN: Duration = Duration::from_secs(2 * 3600);

/// The most that is read of an answer: bytes.
const MAX_ANSWER_LEN: usize = 256 << 20;

/// And of what is wrong.
const MAX_ERROR_LEN: usize = 2000;

/// Codes of what is wrong with rows themselves, so that trying again is of no use: they cannot be
/// parsed, or have columns that there are not.
const OF_ROWS: [u32; 9] = [6, 16, 26, 27, 33, 38, 41, 72, 117];

/// What went wrong.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The server was not reached, or did not answer.
    #[error("{0}")]
    Unreachable(String),
    /// It said no.
    #[error("the server refuses ({status}): {message}{}", .code.map_or("", hints::of_code))]
    Refused {
        /// Of HTTP.
        status: u16,
        /// ClickHouse's, if it told one.
        code: Option<u32>,
        /// What it said, shortened.
        message: String,
    },
    /// Its answer cannot be understood.
    #[error("the server's answer cannot be understood: {0}")]
    Odd(String),
    /// A setting is wrong.
    #[error("{0}")]
    Setting(String),
}

impl StoreError {
    /// Whether the server will never take these rows.
    #[must_use]
    pub fn is_of_rows(&self) -> bool {
        matches!(self, Self::Refused { code: Some(code), .. } if OF_ROWS.contains(code))
    }
}

/// Where a server is, and as whom it is spoken to.
#[derive(Clone, Debug, Default)]
pub struct Address {
    /// Its HTTP interface.
    pub url: String,
    /// The database.
    pub database: String,
    /// The user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Certificates to trust besides the system's, PEM.
    pub ca: Option<Vec<u8>>,
}

impl Address {
    /// Reads the password and the certificates.
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

/// A client of HTTP that follows no redirects, so that no password goes where it was not meant to, and
/// asks no proxy.
///
/// # Errors
///
/// If the certificates are none.
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
    /// A client.
    ///
    /// # Errors
    ///
    /// If the URL, the database or the certificates are none.
    pub fn new(address: Address) -> Result<Self, StoreError> {
        let setting = |error: String| StoreError::Setting(error);
        let url = Url::parse(&address.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| setting(format!("{:?} is no http or https URL", address.url)))?;
        identifier(&address.database).map_err(|error| setting(error.to_string()))?;
        let http = http(address.ca.as_deref())?;
        let http = http.build().map_err(|error| setting(error.to_string()))?;
        Ok(Self { http, url, address })
    }

    /// Writes rows: lines of JSON. They are there when this returns.
    ///
    /// # Errors
    ///
    /// If they are not, or that is not known.
    pub async fn insert(&self, table: Table, lines: &[u8]) -> Result<(), StoreError> {
        let database = &self.address.database;
        let statement = format!("INSERT INTO {database}.{} FORMAT JSONEachRow", table.name());
        let settings = [
            ("query", &statement[..]),
            ("input_format_skip_unknown_fields", "1"),
            ("insert_deduplicate", "0"),
            ("insert_distributed_sync", "1"),
        ];
        let packed = gzip(lines).map_err(|error| StoreError::Odd(error.to_string()))?;
        let request = self.request(&settings);
        let request = request.header("Content-Encoding", "gzip").body(packed);
        self.send(request).await.map(drop)
    }

    /// Runs a statement that is not about anything a host or a user told.
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
        let request = request.timeout(MAX_STATEMENT_LEN);
        self.send(request).await
    }

    /// Asks a question that reads what is asked for from the table `asked`, of this structure and row,
    /// and tables of this database by their names.
    ///
    /// # Errors
    ///
    /// If it fails, or the answer is not of such rows.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        question: &str,
        structure: &str,
        asked: &(impl Serialize + Sync),
    ) -> Result<Vec<T>, StoreError> {
        // Of JSON there is no line within a line, so that no value can end the part.
        const BOUNDARY: &str = "fdwatch-asked-4d1f9c6a7e";
        let row =
            serde_json::to_string(asked).map_err(|error| StoreError::Odd(error.to_string()))?;
        let body = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"asked\"; filename=\"asked\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n{row}\n\r\n--{BOUNDARY}--\r\n"
        );
        let settings = [
            ("database", &self.address.database[..]),
            ("query", question),
            ("asked_structure", structure),
            ("asked_format", "JSONEachRow"),
        ];
        let content = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = self.request(&settings);
        let request = request.header("Content-Type", content).body(body);
        let text = self.send(request).await?;
        text.lines()
            .map(|line| {
                // What goes wrong late comes in the middle of the answer.
                serde_json::from_str(line)
                    .map_err(|error| StoreError::Odd(format!("{error}: {}", shortened(line))))
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
        let told = header.and_then(|code| code.to_str().ok()?.parse().ok());
        let body = read(response).await?;
        let text = String::from_utf8_lossy(&body);
        if !status.is_success() {
            return Err(StoreError::Refused {
                status: status.as_u16(),
                code: told.or_else(|| code(&text)),
                message: shortened(text.trim()),
            });
        }
        Ok(text.into_owned())
    }
}

/// The body of an answer, up to its bound.
pub(super) async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| unreachable(&error))?
    {
        if body.len() + chunk.len() > MAX_ANSWER_LEN {
            return Err(StoreError::Odd(format!(
                "it is longer than {} MiB",
                MAX_ANSWER_LEN >> 20
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// With all that it came from, and without the URL, which has the whole statement.
pub(super) fn unreachable(error: &reqwest::Error) -> StoreError {
    use std::error::Error as _;
    let place = error.url().and_then(|url| {
        let port = url.port().map(|port| format!(":{port}"));
        Some(format!("{}{}", url.host_str()?, port.unwrap_or_default()))
    });
    let place = place.unwrap_or_else(|| "the server".to_owned());
    let mut text = format!("cannot speak to {place}");
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    StoreError::Unreachable(text + hints::of_connection(error))
}

fn code(text: &str) -> Option<u32> {
    let digits = text.trim_start().strip_prefix("Code: ")?;
    let end = digits.find(|it: char| !it.is_ascii_digit())?;
    digits[..end].parse().ok()
}

fn shortened(text: &str) -> String {
    let text: String = text.chars().take(MAX_ERROR_LEN).collect();
    fdwatch_render::escaped(text.as_bytes())
}

fn gzip(lines: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 8), Compression::fast());
    encoder.write_all(lines)?;
    encoder.finish()
}
