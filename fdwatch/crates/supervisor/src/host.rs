//! The host a configuration is for: what supervisord would find there.

use std::io;

/// What is asked of a host to read a configuration.
///
/// Paths are text, as all of a configuration is. What is not UTF-8 is not there, or stands there with
/// U+FFFD in it.
pub trait Host {
    /// A file's contents.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// The paths that a pattern of Python's `glob` matches, in any order.
    fn glob(&self, pattern: &str) -> Vec<String>;

    /// The environment.
    fn environment(&self) -> Vec<(String, String)>;

    /// The host's name, as `uname -n` tells it.
    fn node_name(&self) -> String;

    /// The home of a user, or that of one's own.
    fn home(&self, user: Option<&str>) -> Option<String>;

    /// The current directory: absolute.
    fn current_directory(&self) -> String;

    /// The directory for temporary files.
    fn temporary_directory(&self) -> String;

    /// What there is at a path, symbolic links followed.
    fn look(&self, path: &str) -> Found;

    /// Whether `user`, or whoever asks, may write a file, or make files in a directory; none if that
    /// cannot be said.
    fn may_write(&self, path: &str, user: Option<&str>) -> Option<bool>;
}

/// What there is at a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its type; none if there is nothing.
    pub kind: Option<FileKind>,
    /// Device and inode, if there is something.
    pub identity: Option<(u64, u64)>,
    /// Its path without symbolic links and `..`; of what there is not, that of its directory with its
    /// name. None if there is no directory either.
    pub resolved: Option<String>,
}

/// A type of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A terminal: it cannot be sought in.
    Terminal,
    /// All else: `/dev/null`, sockets, FIFOs.
    Other,
}

/// A path, seen from a directory.
#[must_use]
pub fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else if directory.ends_with('/') {
        format!("{directory}{path}")
    } else {
        format!("{directory}/{path}")
    }
}

/// What is before the last slash, as Python's `os.path.dirname` cuts it.
#[must_use]
pub fn directory_of(path: &str) -> &str {
    let Some((directory, _)) = path.rsplit_once('/') else {
        return "";
    };
    let trimmed = directory.trim_end_matches('/');
    if trimmed.is_empty() {
        // Slashes only: they stay.
        &path[..=directory.len()]
    } else {
        trimmed
    }
}

/// A path without `.`, `..` and doubled slashes, as Python's `os.path.normpath` has it: without regard
/// to symbolic links.
#[must_use]
pub fn normalized(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if path.starts_with('/') => {
                parts.pop();
            }
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    match (root, parts.is_empty()) {
        ("", true) => ".".to_owned(),
        _ => format!("{root}{}", parts.join("/")),
    }
}

/// A path with `~` or `~user` at its beginning replaced by a home, if that is known.
#[must_use]
pub fn expand_user(host: &dyn Host, path: &str) -> String {
    let Some(after) = path.strip_prefix('~') else {
        return path.to_owned();
    };
    let (user, rest) = after.split_at(after.find('/').unwrap_or(after.len()));
    let home = host.home(Some(user).filter(|user| !user.is_empty()));
    home.map_or_else(
        || path.to_owned(),
        |home| {
            let joined = format!("{}{rest}", home.trim_end_matches('/'));
            if joined.is_empty() {
                "/".to_owned()
            } else {
                joined
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cut_as_python_does() {
        for (path, directory) in [
            ("/a/b", "/a"),
            ("/a", "/"),
            ("a", ""),
            ("a/b", "a"),
            ("a//b", "a"),
            ("/a/b/", "/a/b"),
            ("//a", "//"),
            ("", ""),
        ] {
            assert_eq!(directory_of(path), directory, "{path}");
        }
        for (path, normal) in [
            ("/a/./b//c/../d", "/a/b/d"),
            ("/../a", "/a"),
            ("../a", "../a"),
            ("a/../..", ".."),
            ("", "."),
            ("/", "/"),
        ] {
            assert_eq!(normalized(path), normal, "{path}");
        }
        assert_eq!(join("/a", "b"), "/a/b");
        assert_eq!(join("/", "b"), "/b");
        assert_eq!(join("/a", "/b"), "/b");
    }
}
