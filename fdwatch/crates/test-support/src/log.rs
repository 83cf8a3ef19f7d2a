//! A log file for processes to hold.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

/// A non-empty file in a directory of its own.
pub struct Log {
    /// Its directory.
    pub directory: TempDir,
    /// Its path.
    pub path: PathBuf,
}

impl Log {
    /// Creates the file.
    pub fn create() -> Self {
        let directory = tempfile::tempdir().expect("cannot create a directory");
        let path = directory.path().join("x.log");
        fs::write(&path, "begun\n").expect("cannot write a file");
        Self { directory, path }
    }

    /// Returns its path, for `--path`.
    pub fn glob(&self) -> &str {
        self.path.to_str().expect("not UTF-8")
    }
}
