//! Checks that the modules of each crate do not import each other in cycles.
//!
//! Module A depends on module B if A names an item that B *defines*, in a `use` or in any other path. A name that
//! B only imports or re-exports is followed to the module that defines it; declaring or re-exporting a child
//! module is no dependency. So a parent may re-export its children's items, and a child may use its siblings
//! through the parent, but a parent that uses a child which uses the parent's own items is a cycle: the shared
//! items belong in their own module. Tests are ignored, and so are methods, whose module a path does not
//! name.

mod graph;
mod source;
mod tokens;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use xtask_support::{
    cargo::{WORKSPACE, cargo},
    shell::{info, output},
};

use self::{graph::Graph, source::Crate};

/// Checks all crates of the workspace. Fails if there are cycles, after printing them.
pub(crate) fn check() -> Result<()> {
    info("checking for import cycles");
    let mut count = 0;
    for root in roots()? {
        let crate_ = Crate::read(&root)?;
        for cycle in Graph::of(&crate_).cycles() {
            count += 1;
            println!("import cycle of {} modules:", cycle.modules.len());
            for edge in cycle.edges {
                let from = shown(&edge.file);
                println!("  {from} uses {} of {}", edge.names.join(", "), edge.to);
            }
        }
    }
    if count > 0 {
        bail!(
            "{count} import cycles\nhelp: move the shared items to a module that all of them can import"
        );
    }
    Ok(())
}

/// Returns the path of a file, relative to the workspace.
fn shown(file: &Path) -> String {
    let workspace = Path::new(WORKSPACE).canonicalize().unwrap_or_default();
    let file = file.strip_prefix(workspace).unwrap_or(file);
    file.display().to_string()
}

/// Returns the root files of all libraries and programs of the workspace.
fn roots() -> Result<Vec<PathBuf>> {
    let metadata = output(
        cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(WORKSPACE),
    )?;
    let metadata: Value =
        serde_json::from_str(&metadata).context("cannot parse cargo's metadata")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.filter_map(|package| package["targets"].as_array());
    let is_source = |target: &&Value| {
        let kind = target["kind"][0].as_str().unwrap_or_default();
        ["bin", "lib", "proc-macro"].contains(&kind)
    };
    let paths = targets.flatten().filter(is_source);
    Ok(paths
        .filter_map(|target| target["src_path"].as_str().map(PathBuf::from))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspace_has_xtask_as_root() {
        let own = Path::new(file!()).with_file_name("main.rs");
        assert!(roots().unwrap().iter().any(|root| root.ends_with(&own)));
    }
}
