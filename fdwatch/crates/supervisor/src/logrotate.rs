//! Parser of logrotate's configuration for the directives that affect files written by supervisord. Others are
//! ignored.

use std::io;

use rustc_hash::FxHashSet;

use crate::{
    host::{FileKind, Host, join},
    ini::Location,
    pattern,
};

/// Endings of the names of files that logrotate skips in a directory (logrotate(8), `tabooext`).
const TABOO: &[&str] = &[
    ",v",
    ".bak",
    ".cfsaved",
    ".disabled",
    ".dpkg-bak",
    ".dpkg-del",
    ".dpkg-dist",
    ".dpkg-new",
    ".dpkg-old",
    ".dpkg-tmp",
    ".rhn-cfg-tmp-",
    ".rpmnew",
    ".rpmorig",
    ".rpmsave",
    ".swp",
    ".ucf-dist",
    ".ucf-new",
    ".ucf-old",
    "~",
];

/// Maximum depth of nested `include` directives.
const MAX_DEPTH: usize = 8;

/// A block of logrotate's configuration: some files, and how to rotate them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The patterns of the files.
    pub patterns: Vec<String>,
    /// First line of the block.
    pub at: Location,
    /// Whether logrotate copies and truncates the file instead of renaming it.
    pub copytruncate: bool,
    /// Whether its scripts mention supervisord or SIGUSR2, and so make it reopen its logs.
    pub notifies_supervisord: bool,
}

/// All rotations that logrotate is configured for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotations {
    /// The files read; [`Location::file`] is an index into it.
    pub files: Vec<String>,
    /// The rotations, in the order they were read.
    pub rotations: Vec<Rotation>,
}

impl Rotations {
    /// Returns the first rotation of a file with any of these paths.
    #[must_use]
    pub fn of<'a>(&'a self, paths: &[&str]) -> Option<&'a Rotation> {
        self.rotations.iter().find(|rotation| {
            let patterns = &mut rotation.patterns.iter();
            patterns.any(|pattern| {
                paths
                    .iter()
                    .any(|path| pattern::path_matches(pattern, path))
            })
        })
    }
}

/// Reads a file, or all files of a directory.
///
/// # Errors
///
/// If it cannot be read. Included files that cannot be read are skipped.
pub fn read(path: &str, host: &dyn Host, rotations: &mut Rotations) -> io::Result<()> {
    let mut reader = Reader {
        rotations,
        host,
        seen: FxHashSet::default(),
        copytruncate: false,
    };
    reader.read(path, 0)
}

struct Reader<'a> {
    rotations: &'a mut Rotations,
    host: &'a dyn Host,
    seen: FxHashSet<String>,
    /// The default for the following blocks.
    copytruncate: bool,
}

/// The part of a file that a line belongs to.
enum State {
    Outside,
    /// Between the file names and the brace.
    Names(Rotation),
    Inside(Rotation),
    /// In a script of a block, or outside of blocks.
    Script(Option<Rotation>),
}

impl Reader<'_> {
    fn read(&mut self, path: &str, depth: usize) -> io::Result<()> {
        let found = self.host.look(path);
        let name = found.resolved.unwrap_or_else(|| path.to_owned());
        if depth > MAX_DEPTH || !self.seen.insert(name) {
            return Ok(());
        }
        if found.kind == Some(FileKind::Directory) {
            let mut paths = self.host.glob(&join(path, "*"));
            paths.sort_unstable();
            paths.retain(|path| !TABOO.iter().any(|taboo| path.ends_with(taboo)));
            for path in paths {
                // Nested directories and unreadable files are skipped.
                if self.host.look(&path).kind != Some(FileKind::Directory) {
                    let _ = self.read(&path, depth);
                }
            }
            return Ok(());
        }
        let bytes = self.host.read(path)?;
        let file = self.rotations.files.len();
        self.rotations.files.push(path.to_owned());
        let mut state = State::Outside;
        for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            let at = Location {
                file,
                line: index + 1,
            };
            state = self.line(state, line.trim(), at, depth);
        }
        Ok(())
    }

    fn line(&mut self, state: State, line: &str, at: Location, depth: usize) -> State {
        if let State::Script(mut rotation) = state {
            if line == "endscript" {
                return rotation.map_or(State::Outside, State::Inside);
            }
            if let Some(rotation) = &mut rotation {
                rotation.notifies_supervisord |=
                    line.contains("supervisor") || line.contains("USR2");
            }
            return State::Script(rotation);
        }
        if line.is_empty() || line.starts_with('#') {
            return state;
        }
        match state {
            State::Names(rotation) => self.names(rotation, line),
            State::Inside(rotation) => self.inside(rotation, line),
            State::Outside if line.starts_with(['/', '"', '\'', '~', '*']) => {
                let rotation = Rotation {
                    patterns: Vec::new(),
                    at,
                    copytruncate: self.copytruncate,
                    notifies_supervisord: false,
                };
                self.names(rotation, line)
            }
            State::Outside | State::Script(_) => self.outside(line, depth),
        }
    }

    fn outside(&mut self, line: &str, depth: usize) -> State {
        match line.split_whitespace().next() {
            Some("copytruncate") => self.copytruncate = true,
            Some("nocopytruncate") => self.copytruncate = false,
            Some("include") => {
                if let Some(path) = line.split_whitespace().nth(1) {
                    let _ = self.read(path, depth + 1);
                }
            }
            Some(word) if is_script(word) => return State::Script(None),
            _ => {}
        }
        State::Outside
    }

    fn names(&mut self, mut rotation: Rotation, line: &str) -> State {
        let (names, after) = match line.split_once('{') {
            Some((names, after)) => (names, Some(after.trim())),
            None => (line, None),
        };
        rotation.patterns.extend(words(names));
        match after {
            None => State::Names(rotation),
            Some("") => State::Inside(rotation),
            Some(after) => self.inside(rotation, after),
        }
    }

    fn inside(&mut self, mut rotation: Rotation, line: &str) -> State {
        // A whole block can be on one line.
        let (directive, closes) = match line.split_once('}') {
            Some((directive, _)) => (directive, true),
            None => (line, false),
        };
        match directive.split_whitespace().next() {
            Some("copytruncate") => rotation.copytruncate = true,
            Some("nocopytruncate") => rotation.copytruncate = false,
            Some(word) if is_script(word) => return State::Script(Some(rotation)),
            _ => {}
        }
        if closes {
            self.rotations.rotations.push(rotation);
            State::Outside
        } else {
            State::Inside(rotation)
        }
    }
}

fn is_script(word: &str) -> bool {
    matches!(
        word,
        "prerotate" | "postrotate" | "firstaction" | "lastaction" | "preremove"
    )
}

/// Splits words, which may be quoted.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = if matches!(first, '"' | '\'') {
            rest[1..].split_once(first).unwrap_or((&rest[1..], ""))
        } else {
            rest.split_once(char::is_whitespace).unwrap_or((rest, ""))
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}
