//! The kill switch: a file that only root can make, and for which the agent ends at once.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Where it is, if nothing else is said.
pub const STOP_FILE: &str = "/run/fdwatch.stop";

/// The file.
#[derive(Debug)]
pub struct StopFile {
    path: PathBuf,
    has_warned: bool,
}

impl StopFile {
    /// The one at `path`.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            has_warned: false,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there. One that is not root's does not count, and is told of once.
    pub fn is_there(&mut self) -> bool {
        let Ok(metadata) = fs::symlink_metadata(&self.path) else {
            self.has_warned = false;
            return false;
        };
        if metadata.uid() == 0 {
            return true;
        }
        if !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(
                "{} does not belong to root, and is passed over",
                self.path.display()
            );
        }
        false
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// If that cannot be done, as by others than root.
    pub fn make(&self) -> io::Result<()> {
        fs::write(
            &self.path,
            "fdwatch agent does not run as long as this file is here\n",
        )
    }
}
