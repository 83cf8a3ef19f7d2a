//! What is to be said of a configuration, with the place of each.

use std::{
    cell::{Cell, RefCell},
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::config::types::Config;
use fdwatch_core::plural::{either, noun};
use fdwatch_render::escape::Escaped;

/// Mistakes that are told one by one: after more, there is no sense in them.
const MAX_MISTAKES: usize = 200;

/// What a configuration says, and what of it remains to be looked at.
#[derive(Debug)]
pub(in crate::config) struct Reading {
    pub(in crate::config) config: Config,
    /// What is no mistake, and yet hardly what was meant.
    pub(in crate::config) warnings: Vec<ConfigError>,
    /// Files that it names.
    pub(in crate::config) files: Vec<NamedFile>,
}

/// A file that a configuration names.
#[derive(Clone, Debug)]
pub(in crate::config) struct NamedFile {
    pub(in crate::config) path: PathBuf,
    pub(in crate::config) kind: FileKind,
    /// Where it is named.
    pub(in crate::config) line: usize,
    pub(in crate::config) column: usize,
}

/// What must be in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum FileKind {
    /// A token that others must show to fdwatch.
    OwnToken,
    /// A token or password that fdwatch shows to others.
    Secret,
    /// Certificates that are trusted.
    Authorities,
    /// fdwatch's own certificate; its key is in the file named next.
    Certificate,
    /// The key to it.
    Key,
    /// A program.
    Program,
}

/// Something in a configuration that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The line, from 1.
    pub line: usize,
    /// The character in it, from 1.
    pub column: usize,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl ConfigError {
    /// It as one line: `FILE:LINE:COLUMN: MESSAGE`.
    #[must_use]
    pub fn of_file<'a>(&'a self, file: &'a Path) -> impl fmt::Display + 'a {
        Line {
            mistake: self,
            file,
        }
    }
}

struct Line<'a> {
    mistake: &'a ConfigError,
    file: &'a Path,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError {
            line,
            column,
            message,
        } = self.mistake;
        let file = Escaped(self.file.as_os_str().as_encoded_bytes());
        // What is quoted from the file may be anything.
        let message = Escaped(message.as_bytes());
        write!(f, "{file}:{line}:{column}: {message}")
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Diagnostics {
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
    mistakes: RefCell<Vec<(usize, String)>>,
    more_mistakes: Cell<usize>,
    warnings: RefCell<Vec<(usize, String)>>,
    files: RefCell<Vec<NamedFile>>,
    /// Every key that was asked for, by its section, and whether it was there.
    #[cfg(test)]
    pub(super) asked: RefCell<Vec<(String, bool)>>,
}

impl Diagnostics {
    pub(super) fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        Self {
            text: text.to_owned(),
            lines: [0].into_iter().chain(ends.map(|(at, _)| at + 1)).collect(),
            mistakes: RefCell::default(),
            more_mistakes: Cell::default(),
            warnings: RefCell::default(),
            files: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Diagnostics a mistake at a byte of the text.
    pub(super) fn mistake(&self, at: usize, message: String) {
        let mut mistakes = self.mistakes.borrow_mut();
        if mistakes.len() < MAX_MISTAKES {
            mistakes.push((at, message));
        } else {
            self.more_mistakes.set(self.more_mistakes.get() + 1);
        }
    }

    pub(super) fn warn(&self, at: usize, message: String) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MAX_MISTAKES {
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

    /// The line and the character of a byte, from 1.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|&begin| begin <= at).max(1);
        let begin = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(begin..at).unwrap_or_default();
        // All bytes of a character but the first begin with the bits 10.
        let characters = before.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        (line, characters + 1)
    }

    fn placed(&self, mut notes: Vec<(usize, String)>) -> Vec<ConfigError> {
        notes.sort_by_key(|&(at, _)| at);
        let placed = notes.into_iter().map(|(at, message)| {
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
        let mut mistakes = self.placed(self.mistakes.take());
        let more = self.more_mistakes.get();
        if more > 0
            && let Some(last) = mistakes.last()
        {
            mistakes.push(ConfigError {
                message: format!(
                    "there {} {more} more {}",
                    either(&more, "is", "are"),
                    noun(&more, "mistake")
                ),
                ..last.clone()
            });
        }
        mistakes
    }

    pub(super) fn reading(self, config: Config) -> Result<Reading, Vec<ConfigError>> {
        if !self.mistakes.borrow().is_empty() {
            return Err(self.into_errors());
        }
        Ok(Reading {
            config,
            warnings: self.placed(self.warnings.take()),
            files: self.files.take(),
        })
    }
}

/// Where something begins, or the beginning of the text.
pub(super) fn start(span: Option<Range<usize>>) -> usize {
    span.map_or(0, |span| span.start)
}
