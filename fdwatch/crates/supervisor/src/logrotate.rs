//! What logrotate rotates: the little of its configuration that concerns who else writes a file. What
//! it does not know it passes over.

use std::io;

use rustc_hash::FxHashSet;

use super::{
    host::{FileKind, Host, join},
    ini::Place,
    pattern,
};

/// Files that logrotate passes over in a directory, by the ends of their names (logrotate(8),
/// `tabooext`).
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

/// How deep an `include` in an included file is followed.
const DEEPEST: usize = 8;

/// What logrotate is told to do with some files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Which files.
    pub patterns: Vec<String>,
    /// Where that is said.
    pub at: Place,
    /// Whether it copies the file and cuts it to nothing, and does not rename it.
    pub copytruncate: bool,
    /// Whether its scripts have to do with supervisord.
    pub tells_supervisord: bool,
}

/// What logrotate is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotations {
    /// The files that were read: what [`Place::file`] is an index of.
    pub files: Vec<String>,
    /// In the order it is told.
    pub rotations: Vec<Rotation>,
}

impl Rotations {
    /// What is said of a file by any of its paths.
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

/// Reads a file, or all of a directory.
///
/// # Errors
///
/// If there is none, or it cannot be read. Of what is included that is passed over.
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
    /// What holds for all that follows.
    copytruncate: bool,
}

/// Where a line belongs.
enum State {
    Outside,
    /// Between the files' names and the brace.
    Names(Rotation),
    Inside(Rotation),
    /// In a script of the block, or of all.
    Script(Option<Rotation>),
}

impl Reader<'_> {
    fn read(&mut self, path: &str, depth: usize) -> io::Result<()> {
        let found = self.host.look(path);
        let name = found.resolved.unwrap_or_else(|| path.to_owned());
        if depth > DEEPEST || !self.seen.insert(name) {
            return Ok(());
        }
        if found.kind == Some(FileKind::Directory) {
            let mut paths = self.host.glob(&join(path, "*"));
            paths.sort_unstable();
            paths.retain(|path| !TABOO.iter().any(|taboo| path.ends_with(taboo)));
            for path in paths {
                // A directory in a directory is passed over, as what cannot be read is.
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
            let at = Place {
                file,
                line: index + 1,
            };
            state = self.line(state, line.trim(), at, depth);
        }
        Ok(())
    }

    fn line(&mut self, state: State, line: &str, at: Place, depth: usize) -> State {
        if let State::Script(mut rotation) = state {
            if line == "endscript" {
                return rotation.map_or(State::Outside, State::Inside);
            }
            if let Some(rotation) = &mut rotation {
                rotation.tells_supervisord |= line.contains("supervisor") || line.contains("USR2");
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
                    tells_supervisord: false,
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
        // A block may be on one line.
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

/// Words, of which some may be quoted.
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
