//! The interface to the host that a configuration is for, and operations on paths.

use std::io;

/// The operations on a host that reading and checking a configuration needs.
///
/// Paths are text, like the whole configuration. Invalid UTF-8 is omitted or replaced with U+FFFD.
pub trait Host {
    /// Returns the contents of a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// Returns the paths that a pattern of Python's `glob` matches, in any order.
    fn glob(&self, pattern: &str) -> Vec<String>;

    /// Returns the environment of supervisord.
    fn environment(&self) -> Vec<(String, String)>;

    /// Returns the host's name, as `uname -n` prints it.
    fn node_name(&self) -> String;

    /// Returns the home of `user`, or of the current user.
    fn home(&self, user: Option<&str>) -> Option<String>;

    /// Returns the current directory, an absolute path.
    fn current_directory(&self) -> String;

    /// Returns the directory for temporary files.
    fn temporary_directory(&self) -> String;

    /// Returns the file that a path refers to, following symbolic links.
    fn look(&self, path: &str) -> Found;

    /// Returns whether `user`, or the current user, may write a file, or create files in a directory; `None`
    /// if unknown.
    fn may_write(&self, path: &str, user: Option<&str>) -> Option<bool>;
}

/// File that a path refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Type of the file; `None` if it does not exist.
    pub kind: Option<FileKind>,
    /// Device and inode, if it exists.
    pub identity: Option<(u64, u64)>,
    /// Its path without symbolic links and `..`. For a missing file, the resolved directory joined with
    /// the file's name; `None` if the directory is missing, too.
    pub resolved: Option<String>,
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A terminal, which is not seekable.
    Terminal,
    /// Any other type: `/dev/null`, sockets, FIFOs.
    Other,
}

/// Joins a directory and a path; an absolute path is returned unchanged.
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

/// Returns the part before the last slash, like Python's `os.path.dirname`.
#[must_use]
pub fn directory_of(path: &str) -> &str {
    let Some((directory, _)) = path.rsplit_once('/') else {
        return "";
    };
    let trimmed = directory.trim_end_matches('/');
    if trimmed.is_empty() {
        // A directory that consists of slashes remains.
        &path[..=directory.len()]
    } else {
        trimmed
    }
}

/// Removes `.`, `..` and repeated slashes, like Python's `os.path.normpath`; symbolic links are
/// ignored.
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

/// Replaces `~` or `~user` at the beginning of a path by the user's home, if known.
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
    fn path_operations_match_python() {
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
