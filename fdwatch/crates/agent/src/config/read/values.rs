//! Conversions of values to paths, patterns, addresses and URLs.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::ValueEnum;
use globset::GlobSet;
use reqwest::Url;

use super::{
    diagnostics::FileKind,
    section::Section,
    value::{ConfigValue, quote},
};
use crate::config::types::Rule;
use fdwatch_core::diagnose::{Cause, Severity};
use fdwatch_http::Endpoint;

/// Length limit of a unix socket's path, without the final NUL (`sockaddr_un`): bytes.
const MAX_SOCKET_LEN: usize = 107;

/// The permission bits of other users.
const OTHERS: u32 = 0o007;

/// What is appended to an endpoint's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// Nothing: it is used as it is.
    Nothing,
    /// This path.
    Path(&'static str),
}

/// The terms of a rule as written, by key, to recognize equal rules.
pub(super) type Terms = Vec<(&'static str, Vec<String>)>;

impl<'a> ConfigValue<'a> {
    pub(super) fn severity(&self) -> Option<Severity> {
        let all = Severity::value_variants().iter();
        self.choice(all.map(|&severity| (severity.name(), severity)))
    }

    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if !text.starts_with('/') {
            return self.reject(format!("{} must start with /", quote(text)));
        }
        if text.len() >= libc::PATH_MAX as usize {
            return self.reject("longer than PATH_MAX");
        }
        Some(PathBuf::from(text))
    }

    /// Returns a path, and adds its file to those to check.
    pub(super) fn file(&self, kind: FileKind) -> Option<PathBuf> {
        let path = self.path()?;
        self.add_file(kind, path.clone());
        Some(path)
    }

    pub(super) fn socket(&self) -> Option<PathBuf> {
        let path = self.path()?;
        if path.as_os_str().len() > MAX_SOCKET_LEN {
            return self.reject(format!(
                "path of a unix socket longer than {MAX_SOCKET_LEN} bytes"
            ));
        }
        Some(path)
    }

    /// Returns permissions that give other users no access.
    pub(super) fn mode(&self) -> Option<u32> {
        // TOML would read the number as decimal.
        if self.is_integer() {
            return self.reject("must be octal digits in quotes, such as \"0600\"");
        }
        let text = self.text()?;
        let is_octal = text.len() <= 5 && text.bytes().all(|digit| digit.is_ascii_digit());
        let mode = u32::from_str_radix(text, 8).ok();
        let Some(mode) = mode.filter(|&mode| is_octal && mode <= 0o777) else {
            return self.reject(format!(
                "invalid permissions {}: write \"0600\" or \"0660\"",
                quote(text)
            ));
        };
        if mode & OTHERS != 0 {
            return self.reject("gives all users access: write \"0600\", or \"0660\" for a group");
        }
        Some(mode)
    }

    pub(super) fn globs(&self) -> Option<GlobSet> {
        let mut globs = Vec::new();
        let mut is_right = true;
        for value in self.texts()? {
            let Some(text) = value.text() else {
                is_right = false;
                continue;
            };
            match fdwatch_options::parse::glob(text) {
                Ok(glob) => globs.push(glob),
                Err(reason) => {
                    is_right = false;
                    value.reject::<()>(format!("{}: {reason}", quote(text)));
                }
            }
        }
        if !is_right {
            return None;
        }
        match fdwatch_options::parse::globs(&globs) {
            Ok(set) => set,
            Err(error) => self.reject(format!("too large: {error}")),
        }
    }

    pub(super) fn causes(&self) -> Option<Vec<Cause>> {
        let causes = self.texts()?.into_iter();
        let causes: Vec<_> = causes
            .map(|value| value.choice(Cause::ALL.map(|cause| (cause.name(), cause))))
            .collect();
        causes.into_iter().collect()
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        let text = self.text()?;
        text.parse().ok().or_else(|| {
            self.reject(format!(
                "invalid address {}: write an IP address and port such as \"127.0.0.1:9464\" or \"[::1]:9464\"",
                quote(text)
            ))
        })
    }

    pub(super) fn url(&self, follows: Follows) -> Option<Url> {
        let text = self.text()?;
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => {
                return self.reject(format!("invalid URL {}: {error}", quote(text)));
            }
        };
        if !["http", "https"].contains(&url.scheme()) {
            return self.reject(format!(
                "invalid URL {}: must start with http:// or https://",
                quote(text)
            ));
        }
        // URLs appear in logs and in the API.
        if !url.username().is_empty() || url.password().is_some() {
            return self.reject("a URL must not contain a user or password: use a file instead");
        }
        if url.fragment().is_some() {
            return self.reject("a URL must not contain a fragment (#)");
        }
        if let Follows::Path(path) = follows
            && (url.query().is_some() || url.path().trim_end_matches('/').ends_with(path))
        {
            return self.reject(format!(
                "{path} is appended to this URL: remove it, and any query (?)"
            ));
        }
        Some(url)
    }
}

/// Reads an endpoint: a URL, and files with a token and certificates.
pub(super) fn endpoint(section: &mut Section<'_>, follows: Follows) -> Option<Endpoint> {
    let value = section.required("url", "\"https://host.example/\"");
    let url = value.and_then(|value| Some((value, value.url(follows)?)));
    let token = section.value("token_file");
    let token_file = token.and_then(|value| value.file(FileKind::Secret));
    let ca_file = authorities(section, url.as_ref().map(|(_, url)| url));
    let (value, url) = url?;
    if let Some(token) = token {
        warn_of_clear_text(&token, &url);
    }
    Some(Endpoint {
        url: value.text()?.to_owned(),
        token_file,
        ca_file,
    })
}

/// Reads the file of certificates to trust for `url`.
pub(super) fn authorities(section: &mut Section<'_>, url: Option<&Url>) -> Option<PathBuf> {
    let value = section.value("ca_file")?;
    if url.is_some_and(|url| url.scheme() == "http") {
        return value.reject("unused with http: write https in the URL, or remove it");
    }
    value.file(FileKind::Authorities)
}

/// Warns if the secret would be sent in clear text.
pub(super) fn warn_of_clear_text(secret: &ConfigValue<'_>, url: &Url) {
    if url.scheme() == "http" && !is_loopback(url) {
        secret.warn("sent in clear text over http: write https in the URL");
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(is_loopback_address)
}

pub(super) fn is_loopback_address(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Reads the terms of a rule; returns them also as written.
pub(super) fn rule(section: &mut Section<'_>) -> (Rule, Terms) {
    let mut terms = Terms::new();
    let mut globs = |key| {
        let value = section.value(key)?;
        terms.push((key, written(&value)));
        value.globs()
    };
    let mut rule = Rule {
        path: globs("path"),
        exe: globs("exe"),
        comm: globs("comm"),
        unit: globs("unit"),
        cause: Vec::new(),
    };
    if let Some(value) = section.value("cause") {
        terms.push(("cause", written(&value)));
        rule.cause = value.causes().unwrap_or_default();
    }
    (rule, terms)
}

fn written(value: &ConfigValue<'_>) -> Vec<String> {
    let mut texts: Vec<_> = value.raw_texts().map(str::to_owned).collect();
    texts.sort_unstable();
    texts
}
