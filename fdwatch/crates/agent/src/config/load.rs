//! Loads the configuration from its file, and checks the files that it names.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use thiserror::Error;

use super::{
    read::{ConfigError, FileKind, NamedFile, read_all},
    types::{Config, FILE},
};
use fdwatch_render::escape::Escaped;

/// Size limit of a configuration, and of a file with certificates: bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Size limit of a file with a token or password: bytes.
const MAX_SECRET_BYTES: u64 = 4096;

/// Minimum length of a token: a shorter one can be guessed.
const MIN_TOKEN_LEN: usize = 16;

/// A valid configuration.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings: settings that are valid, but probably not intended.
    pub warnings: Vec<ConfigError>,
}

/// Why a configuration could not be loaded.
#[derive(Debug, Error)]
pub enum Failure {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", Escaped(.path.as_os_str().as_encoded_bytes()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// Invalid file, with its errors.
    #[error("{}", lines(.path, .errors))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All errors in it.
        errors: Vec<ConfigError>,
    },
}

fn lines(path: &Path, errors: &[ConfigError]) -> String {
    let lines = errors.iter().map(|it| it.of_file(path).to_string());
    lines.collect::<Vec<_>>().join("\n")
}

/// Loads the configuration at `path`, or at its default path. Without a path and a default file, returns the defaults.
///
/// # Errors
///
/// As [`load`].
pub fn load_default(path: Option<&Path>) -> Result<Loaded, Failure> {
    match (path, load(path.unwrap_or(Path::new(FILE)))) {
        (None, Err(Failure::Unreadable { error, .. }))
            if error.kind() == io::ErrorKind::NotFound =>
        {
            Ok(Loaded::default())
        }
        (_, loaded) => loaded,
    }
}

/// Loads the configuration in a file, and checks the files that it names.
///
/// # Errors
///
/// If it cannot be read, or contains errors: all of them.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    let text = bounded(path, MAX_BYTES).map_err(|error| Failure::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let invalid = |errors| Failure::Invalid {
        path: path.to_owned(),
        errors,
    };
    let reading = read_all(&text).map_err(invalid)?;
    let mut checks = FileChecks {
        errors: Vec::new(),
        warnings: reading.warnings,
    };
    for (i, file) in reading.files.iter().enumerate() {
        checks.check(file, reading.files.get(i + 1));
    }
    if !checks.errors.is_empty() {
        return Err(invalid(checks.errors));
    }
    Ok(Loaded {
        config: reading.config,
        warnings: checks.warnings,
    })
}

/// Reads a file of at most `max` bytes.
fn bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        let reason = format!("larger than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}

/// The errors and warnings about files that a configuration names.
struct FileChecks {
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl FileChecks {
    fn check(&mut self, file: &NamedFile, next: Option<&NamedFile>) {
        let path = &file.path;
        let checked = match file.kind {
            FileKind::OwnToken => secret(path).and_then(|token| {
                if token.len() < MIN_TOKEN_LEN {
                    return Err(format!(
                        "has fewer than {MIN_TOKEN_LEN} characters: create a token with `openssl rand -hex 32`"
                    ));
                }
                Ok(())
            }),
            FileKind::Secret => secret(path).map(drop),
            FileKind::Authorities => authorities(path),
            FileKind::Certificate => certificate(path, next),
            FileKind::Key => Ok(()),
            FileKind::Program => {
                // A warning, because it may be installed later.
                if let Err(reason) = program(path) {
                    self.warnings.push(of(file, &reason));
                }
                return;
            }
        };
        if let Err(reason) = checked {
            self.errors.push(of(file, &reason));
            return;
        }
        let is_secret = matches!(
            file.kind,
            FileKind::OwnToken | FileKind::Secret | FileKind::Key
        );
        if is_secret && fs::metadata(path).is_ok_and(|found| found.mode() & 0o004 != 0) {
            let reason = format!("is readable by all users: run chmod o= {}", path.display());
            self.warnings.push(of(file, &reason));
        }
    }
}

fn of(file: &NamedFile, reason: &str) -> ConfigError {
    ConfigError {
        line: file.line,
        column: file.column,
        message: format!("{} {reason}", file.path.display()),
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

/// Reads a token or password: one line that can be part of an HTTP header.
fn secret(path: &Path) -> Result<String, String> {
    let text = bounded(path, MAX_SECRET_BYTES).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(text).map_err(|_| "is not text".to_owned())?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err("is empty".to_owned());
    }
    if !secret
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        return Err("must be one line of ASCII".to_owned());
    }
    Ok(secret.to_owned())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = bounded(path, MAX_BYTES).map_err(|error| unreadable(&error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err("contains no certificate (-----BEGIN CERTIFICATE-----)".to_owned())
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("is not PEM: {error}")),
    }
}

fn authorities(path: &Path) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = store.add(certificate);
        added.map_err(|error| format!("contains an invalid certificate: {error}"))?;
    }
    Ok(())
}

/// Checks a certificate and its key.
fn certificate(path: &Path, key: Option<&NamedFile>) -> Result<(), String> {
    let chain = certificates(path)?;
    let Some(key) = key.filter(|key| key.kind == FileKind::Key) else {
        return Ok(());
    };
    let of_key = |reason: String| format!("has the key {}, which {reason}", key.path.display());
    let pem = bounded(&key.path, MAX_BYTES).map_err(|error| of_key(unreadable(&error)))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| of_key(format!("is not a PEM key: {error}")))?;
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map(drop)
        .map_err(|error| of_key(format!("does not match it: {error}")))
}

fn program(path: &Path) -> Result<(), String> {
    let found = fs::metadata(path).map_err(|error| format!("is not usable: {error}"))?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return Err("is not an executable file".to_owned());
    }
    Ok(())
}
