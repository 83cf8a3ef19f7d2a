//! The configuration as it is on this host: read from its file, and held against what is there. What
//! keys there are is not known here.

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

/// Bytes of a configuration, and of a file with certificates.
const LARGEST: u64 = 1 << 20;

/// Bytes of a token or a password.
const LARGEST_SECRET: u64 = 4096;

/// Characters of a token that is not guessed.
const SHORTEST_TOKEN: usize = 16;

/// A configuration that holds.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// That.
    pub config: Config,
    /// What is no mistake, and yet hardly what was meant.
    pub warnings: Vec<ConfigError>,
}

/// Why there is none.
#[derive(Debug, Error)]
pub enum Failure {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", Escaped(.path.as_os_str().as_encoded_bytes()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There are mistakes in it.
    #[error("{}", lines(.path, .mistakes))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All there are.
        mistakes: Vec<ConfigError>,
    },
}

fn lines(path: &Path, mistakes: &[ConfigError]) -> String {
    let lines = mistakes.iter().map(|it| it.of_file(path).to_string());
    lines.collect::<Vec<_>>().join("\n")
}

/// The configuration that is said to hold, or the one at its usual place. Where none is said and
/// there is none, the defaults hold.
///
/// # Errors
///
/// As of [`load`].
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

/// The configuration in a file. The files it names must be there, and be what they are to be.
///
/// # Errors
///
/// If it cannot be read, or has mistakes: all of them.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    let text = bounded(path, LARGEST).map_err(|error| Failure::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let wrong = |mistakes| Failure::Wrong {
        path: path.to_owned(),
        mistakes,
    };
    let reading = read_all(&text).map_err(wrong)?;
    let mut host = Host {
        mistakes: Vec::new(),
        warnings: reading.warnings,
    };
    for (i, file) in reading.files.iter().enumerate() {
        host.check(file, reading.files.get(i + 1));
    }
    if !host.mistakes.is_empty() {
        return Err(wrong(host.mistakes));
    }
    Ok(Loaded {
        config: reading.config,
        warnings: host.warnings,
    })
}

/// What is in a file that is not larger than `most`.
fn bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        let reason = format!("it is larger than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}

/// What is to be said of the files that a configuration names.
struct Host {
    mistakes: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl Host {
    fn check(&mut self, file: &NamedFile, next: Option<&NamedFile>) {
        let path = &file.path;
        let checked = match file.kind {
            FileKind::OwnToken => secret(path).and_then(|token| {
                if token.len() < SHORTEST_TOKEN {
                    return Err(format!(
                        "has fewer than {SHORTEST_TOKEN} characters, and could be guessed: make one \
                         with `openssl rand -hex 32`"
                    ));
                }
                Ok(())
            }),
            FileKind::Secret => secret(path).map(drop),
            FileKind::Authorities => authorities(path),
            FileKind::Certificate => certificate(path, next),
            FileKind::Key => Ok(()),
            FileKind::Program => {
                // It may be there when it is needed.
                if let Err(reason) = program(path) {
                    self.warnings.push(of(file, &reason));
                }
                return;
            }
        };
        if let Err(reason) = checked {
            self.mistakes.push(of(file, &reason));
            return;
        }
        let is_secret = matches!(
            file.kind,
            FileKind::OwnToken | FileKind::Secret | FileKind::Key
        );
        if is_secret && fs::metadata(path).is_ok_and(|found| found.mode() & 0o004 != 0) {
            let reason = format!("can be read by all users: chmod o= {}", path.display());
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

/// A token or password: one line that can be part of a header of HTTP.
fn secret(path: &Path) -> Result<String, String> {
    let text = bounded(path, LARGEST_SECRET).map_err(|error| unreadable(&error))?;
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
    let pem = bounded(path, LARGEST).map_err(|error| unreadable(&error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err("has no certificate in it (-----BEGIN CERTIFICATE-----)".to_owned())
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("is no PEM: {error}")),
    }
}

fn authorities(path: &Path) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = store.add(certificate);
        added
            .map_err(|error| format!("has a certificate in it that cannot be trusted: {error}"))?;
    }
    Ok(())
}

/// The certificate, with the key that comes with it: whether they belong together.
fn certificate(path: &Path, key: Option<&NamedFile>) -> Result<(), String> {
    let chain = certificates(path)?;
    let Some(key) = key.filter(|key| key.kind == FileKind::Key) else {
        return Ok(());
    };
    let of_key = |reason: String| format!("has a key, {}, that {reason}", key.path.display());
    let pem = bounded(&key.path, LARGEST).map_err(|error| of_key(unreadable(&error)))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| of_key(format!("is no key in PEM: {error}")))?;
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map(drop)
        .map_err(|error| of_key(format!("does not belong to it: {error}")))
}

fn program(path: &Path) -> Result<(), String> {
    let found = fs::metadata(path).map_err(|error| format!("is not there: {error}"))?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return Err("is no program: make it executable".to_owned());
    }
    Ok(())
}
