//! What values of the file mean: paths, patterns, addresses, URLs.

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

/// Bytes of a unix socket's path, without what ends it (`sockaddr_un`).
const MAX_SOCKET_LEN: usize = 107;

/// What all users may do, of a file's permissions.
const OTHERS: u32 = 0o007;

/// What the endpoint's URL is followed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// Nothing: it is taken as it is.
    Nothing,
    /// This.
    Path(&'static str),
}

/// The terms of a rule as they are written, to know the same again: by their keys.
pub(super) type Terms = Vec<(&'static str, Vec<String>)>;

impl<'a> ConfigValue<'a> {
    pub(super) fn severity(&self) -> Option<Severity> {
        let all = Severity::value_variants().iter();
        self.choice(all.map(|&severity| (severity.name(), severity)))
    }

    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if !text.starts_with('/') {
            return self.refuse(format!("{} does not begin with /", quote(text)));
        }
        if text.len() >= libc::PATH_MAX as usize {
            return self.refuse("is longer than a path can be");
        }
        Some(PathBuf::from(text))
    }

    /// A path, and what must be in the file.
    pub(super) fn file(&self, kind: FileKind) -> Option<PathBuf> {
        let path = self.path()?;
        self.note_file(kind, path.clone());
        Some(path)
    }

    pub(super) fn socket(&self) -> Option<PathBuf> {
        let path = self.path()?;
        if path.as_os_str().len() > MAX_SOCKET_LEN {
            return self.refuse(format!(
                "a unix socket's path can have {MAX_SOCKET_LEN} bytes"
            ));
        }
        Some(path)
    }

    /// Permissions of what is not for all users.
    pub(super) fn mode(&self) -> Option<u32> {
        // As a number it would be taken for a decimal one.
        if self.is_integer() {
            return self.refuse("must be octal digits in quotes, such as \"0600\"");
        }
        let text = self.text()?;
        let is_octal = text.len() <= 5 && text.bytes().all(|digit| digit.is_ascii_digit());
        let mode = u32::from_str_radix(text, 8).ok();
        let Some(mode) = mode.filter(|&mode| is_octal && mode <= 0o777) else {
            return self.refuse(format!(
                "{}: not permissions such as \"0600\" or \"0660\"",
                quote(text)
            ));
        };
        if mode & OTHERS != 0 {
            return self.refuse(
                "all users could ask about all processes: write \"0600\", or \"0660\" for a group",
            );
        }
        Some(mode)
    }

    pub(super) fn globs(&self) -> Option<GlobSet> {
        let mut globs = Vec::new();
        let mut is_right = true;
        for given in self.texts()? {
            let Some(text) = given.text() else {
                is_right = false;
                continue;
            };
            match fdwatch_options::parse::glob(text) {
                Ok(glob) => globs.push(glob),
                Err(reason) => {
                    is_right = false;
                    given.refuse::<()>(format!("{}: {reason}", quote(text)));
                }
            }
        }
        if !is_right {
            return None;
        }
        match fdwatch_options::parse::globs(&globs) {
            Ok(set) => set,
            Err(error) => self.refuse(format!("too large: {error}")),
        }
    }

    pub(super) fn causes(&self) -> Option<Vec<Cause>> {
        let causes = self.texts()?.into_iter();
        let causes: Vec<_> = causes
            .map(|given| given.choice(Cause::ALL.map(|cause| (cause.name(), cause))))
            .collect();
        causes.into_iter().collect()
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        let text = self.text()?;
        text.parse().ok().or_else(|| {
            self.refuse(format!(
                "{}: not an address and port such as \"127.0.0.1:9464\" or \"[::1]:9464\"",
                quote(text)
            ))
        })
    }

    pub(super) fn url(&self, follows: Follows) -> Option<Url> {
        let text = self.text()?;
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => {
                return self.refuse(format!(
                    "{}: not a URL such as \"https://host.example/\": {error}",
                    quote(text)
                ));
            }
        };
        if !["http", "https"].contains(&url.scheme()) {
            return self.refuse(format!(
                "{}: a URL must begin with http:// or https://",
                quote(text)
            ));
        }
        // What is in a URL is shown, in logs and by the API.
        if !url.username().is_empty() || url.password().is_some() {
            return self.refuse("there must be no user and password in a URL: name a file instead");
        }
        if url.fragment().is_some() {
            return self.refuse("what follows # in a URL is never sent: take it out");
        }
        if let Follows::Path(path) = follows
            && (url.query().is_some() || url.path().trim_end_matches('/').ends_with(path))
        {
            return self.refuse(format!(
                "{path} is added to this URL: it must end before that, and before any ?"
            ));
        }
        Some(url)
    }
}

/// Someone who takes things over HTTP: a URL, and what is needed to be let in.
pub(super) fn endpoint(section: &mut Section<'_>, follows: Follows) -> Option<Endpoint> {
    let given = section.needed("url", "\"https://host.example/\"");
    let url = given.and_then(|given| Some((given, given.url(follows)?)));
    let token = section.value("token_file");
    let token_file = token.and_then(|given| given.file(FileKind::Secret));
    let ca_file = authorities(section, url.as_ref().map(|(_, url)| url));
    let (given, url) = url?;
    if let Some(token) = token {
        warn_of_clear_text(&token, &url);
    }
    Some(Endpoint {
        url: given.text()?.to_owned(),
        token_file,
        ca_file,
    })
}

/// Certificates to trust besides the system's, where `url` is asked.
pub(super) fn authorities(section: &mut Section<'_>, url: Option<&Url>) -> Option<PathBuf> {
    let given = section.value("ca_file")?;
    if url.is_some_and(|url| url.scheme() == "http") {
        return given.refuse("there are no certificates over http: write https, or take it out");
    }
    given.file(FileKind::Authorities)
}

/// Warns where what `secret` is the file of can be read on its way.
pub(super) fn warn_of_clear_text(secret: &ConfigValue<'_>, url: &Url) {
    if url.scheme() == "http" && !is_loopback(url) {
        secret.warn("over http it can be read on its way: write https in the URL");
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

/// The terms of a rule, and how they are written.
pub(super) fn rule(section: &mut Section<'_>) -> (Rule, Terms) {
    let mut terms = Terms::new();
    let mut globs = |key| {
        let given = section.value(key)?;
        terms.push((key, written(&given)));
        given.globs()
    };
    let mut rule = Rule {
        path: globs("path"),
        exe: globs("exe"),
        comm: globs("comm"),
        unit: globs("unit"),
        cause: Vec::new(),
    };
    if let Some(given) = section.value("cause") {
        terms.push(("cause", written(&given)));
        rule.cause = given.causes().unwrap_or_default();
    }
    (rule, terms)
}

fn written(given: &ConfigValue<'_>) -> Vec<String> {
    let mut texts: Vec<_> = given.raw_texts().map(str::to_owned).collect();
    texts.sort_unstable();
    texts
}
