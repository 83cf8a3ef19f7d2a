//! A file to be held.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

/// A file with something in it, in a directory of its own.
pub(crate) struct Log {
    pub(crate) directory: TempDir,
    pub(crate) path: PathBuf,
}

impl Log {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let path = directory.path().join("x.log");
        fs::write(&path, "begun\n").expect("a file can be written");
        Self { directory, path }
    }

    /// The pattern of its path.
    pub(crate) fn glob(&self) -> &str {
        self.path.to_str().expect("the path is UTF-8")
    }
}
