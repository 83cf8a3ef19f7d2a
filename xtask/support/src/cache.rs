//! The cache of downloads and built tools. It may be deleted at any time.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

/// Returns the directory `name` in the user's cache directory; it may not exist yet.
///
/// # Errors
///
/// If the user has no home directory.
pub fn directory(name: &str) -> Result<PathBuf> {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .map(|cache| cache.join(name))
        .with_context(|| format!("no home directory for {name}: set XDG_CACHE_HOME"))
}
