//! Temporary directories that are removed when they are dropped.

use std::{
    env, fs,
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process,
};

/// A directory that only its owner can use; removed with its content when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Creates one in the system's temporary directory. Its name starts with `prefix`.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn new(prefix: &str) -> io::Result<Self> {
        Self::new_in(&env::temp_dir(), prefix)
    }

    /// Creates one in `parent`.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn new_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        let mut number = 0_u32;
        loop {
            let path = parent.join(format!("{prefix}{}-{number}", process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A leftover directory is harmless.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_distinct_and_removed() {
        let [one, other] = [(); 2].map(|()| TempDir::new("xtask-temp-").unwrap());
        assert_ne!(one.path(), other.path());
        let path = one.path().to_owned();
        fs::write(path.join("file"), "").unwrap();
        drop(one);
        assert!(!path.exists() && other.path().exists());
    }
}
