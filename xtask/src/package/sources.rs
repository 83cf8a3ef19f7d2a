//! Files of this workspace.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use xtask_support::cargo::WORKSPACE;

/// Returns the text of the file at `path`, which is relative to the workspace.
pub(super) fn read(path: &str) -> Result<String> {
    let path = Path::new(WORKSPACE).join(path);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
