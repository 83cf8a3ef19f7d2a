//! Errors and warnings about a configuration, with their positions.

use std::{
    cell::{Cell, RefCell},
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::config::types::Config;
use fdwatch_core::plural::noun;
use fdwatch_render::escape::Escaped;

/// Limit of errors that are listed; the rest is counted.
const MAX_ERRORS: usize = 200;

/// A parsed configuration, and the files to check.
#[derive(Debug)]
pub(in crate::config) struct Reading {
    pub(in crate::config) config: Config,
    /// Warnings: settings that are valid, but probably not intended.
    pub(in crate::config) warnings: Vec<ConfigError>,
    /// The files that it names.
    pub(in crate::config) files: Vec<NamedFile>,
}

/// A file that a configuration names.
#[derive(Clone, Debug)]
pub(in crate::config) struct NamedFile {
    pub(in crate::config) path: PathBuf,
    pub(in crate::config) kind: FileKind,
    /// The position of its name.
    pub(in crate::config) line: usize,
    pub(in crate::config) column: usize,
}

/// The required content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum FileKind {
    /// A token that clients must send to fdwatch.
    OwnToken,
    /// A token or password that fdwatch sends to servers.
    Secret,
    /// Certificates to trust.
    Authorities,
    /// fdwatch's own certificate. Its key is in the next file.
    Certificate,
    /// The key of that certificate.
    Key,
    /// A program.
    Program,
}

/// An error or warning about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The line, from 1.
    pub line: usize,
    /// The character in it, from 1.
    pub column: usize,
    /// The problem, and how to fix it.
    pub message: String,
}

impl ConfigError {
    /// Formats it as one line: `FILE:LINE:COLUMN: MESSAGE`.
    #[must_use]
    pub fn of_file<'a>(&'a self, file: &'a Path) -> impl fmt::Display + 'a {
        Line { error: self, file }
    }
}

struct Line<'a> {
    error: &'a ConfigError,
    file: &'a Path,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError {
            line,
            column,
            message,
        } = self.error;
        let file = Escaped(self.file.as_os_str().as_encoded_bytes());
        // Quotes from the file may contain anything.
        let message = Escaped(message.as_bytes());
        write!(f, "{file}:{line}:{column}: {message}")
    }
}

/// The errors and warnings about one text.
#[derive(Debug)]
pub(super) struct Diagnostics {
    text: String,
    /// The offset of each line.
    lines: Vec<usize>,
    errors: RefCell<Vec<(usize, String)>>,
    more_errors: Cell<usize>,
    warnings: RefCell<Vec<(usize, String)>>,
    files: RefCell<Vec<NamedFile>>,
    /// Every key that was read, with its section, and whether it was present.
    #[cfg(test)]
    pub(super) read_keys: RefCell<Vec<(String, bool)>>,
}

impl Diagnostics {
    pub(super) fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        Self {
            text: text.to_owned(),
            lines: [0].into_iter().chain(ends.map(|(at, _)| at + 1)).collect(),
            errors: RefCell::default(),
            more_errors: Cell::default(),
            warnings: RefCell::default(),
            files: RefCell::default(),
            #[cfg(test)]
            read_keys: RefCell::default(),
        }
    }

    /// Adds an error at a byte of the text.
    pub(super) fn error(&self, at: usize, message: String) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < MAX_ERRORS {
            errors.push((at, message));
        } else {
            self.more_errors.set(self.more_errors.get() + 1);
        }
    }

    pub(super) fn warn(&self, at: usize, message: String) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MAX_ERRORS {
            warnings.push((at, message));
        }
    }

    pub(super) fn file(&self, at: usize, kind: FileKind, path: PathBuf) {
        let (line, column) = self.place(at);
        self.files.borrow_mut().push(NamedFile {
            path,
            kind,
            line,
            column,
        });
    }

    /// Returns the line and the column of a byte, from 1.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|&begin| begin <= at).max(1);
        let begin = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(begin..at).unwrap_or_default();
        // In UTF-8, all bytes of a character except the first start with the bits 10.
        let characters = before.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        (line, characters + 1)
    }

    fn placed(&self, mut entries: Vec<(usize, String)>) -> Vec<ConfigError> {
        entries.sort_by_key(|&(at, _)| at);
        let placed = entries.into_iter().map(|(at, message)| {
            let (line, column) = self.place(at);
            ConfigError {
                line,
                column,
                message,
            }
        });
        placed.collect()
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        let mut errors = self.placed(self.errors.take());
        let more = self.more_errors.get();
        if more > 0
            && let Some(last) = errors.last()
        {
            errors.push(ConfigError {
                message: format!("and {more} more {}", noun(&more, "error")),
                ..last.clone()
            });
        }
        errors
    }

    pub(super) fn reading(self, config: Config) -> Result<Reading, Vec<ConfigError>> {
        if !self.errors.borrow().is_empty() {
            return Err(self.into_errors());
        }
        Ok(Reading {
            config,
            warnings: self.placed(self.warnings.take()),
            files: self.files.take(),
        })
    }
}

/// Returns the start of a span, or of the text.
pub(super) fn start(span: Option<Range<usize>>) -> usize {
    span.map_or(0, |span| span.start)
}
