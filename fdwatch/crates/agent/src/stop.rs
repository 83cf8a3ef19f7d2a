//! The kill switch: a file that only root can create, and that stops the agent immediately.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The default path of the file.
pub const STOP_FILE: &str = "/run/fdwatch.stop";

/// The kill switch.
#[derive(Debug)]
pub struct StopFile {
    path: PathBuf,
    has_warned: bool,
}

impl StopFile {
    /// Creates the kill switch at `path`.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            has_warned: false,
        }
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether it is set. A file of another user is ignored with one warning.
    pub fn is_there(&mut self) -> bool {
        let Ok(metadata) = fs::symlink_metadata(&self.path) else {
            self.has_warned = false;
            return false;
        };
        if metadata.uid() == 0 {
            return true;
        }
        if !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!("ignoring {}: not owned by root", self.path.display());
        }
        false
    }

    /// Sets the kill switch. Follows no symbolic link: the file may be configured in a shared directory.
    ///
    /// # Errors
    ///
    /// If the file cannot be created: this requires root.
    pub fn make(&self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)?;
        file.write_all(b"fdwatch agent does not run while this file exists\n")
    }
}
