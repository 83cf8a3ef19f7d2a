//! Where xtask keeps what takes long to get. All of it may be deleted at any time. What it is, is not
//! known here.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

/// A directory of this name among the user's caches; it may not be there yet.
pub(crate) fn directory(name: &str) -> Result<PathBuf> {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .map(|cache| cache.join(name))
        .with_context(|| {
            format!("there is no home directory to keep {name} in: set XDG_CACHE_HOME")
        })
}
