//! The layers of fdwatch: the crates that each library may depend on. Cargo rejects cycles of crates; this also rejects
//! unlisted dependencies, and I/O in `core`.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use xtask_support::cargo::WORKSPACE;

/// The libraries below `fdwatch/crates`, and the libraries of fdwatch that each may depend on.
const LAYERS: [(&str, &[&str]); 13] = [
    ("test-support", &[]),
    ("core", &["common"]),
    ("events", &["common", "core"]),
    ("render", &["common", "core", "events"]),
    ("supervisor", &["core"]),
    ("host", &["common", "core", "supervisor"]),
    ("probe", &["common", "core"]),
    ("options", &["core"]),
    ("http", &["events"]),
    (
        "tracker",
        &[
            "common", "core", "events", "host", "options", "probe", "render",
        ],
    ),
    ("fleet", &["common", "core", "events", "http", "render"]),
    (
        "top",
        &[
            "common", "core", "events", "host", "http", "options", "render", "tracker",
        ],
    ),
    (
        "agent",
        &[
            "common", "core", "events", "fleet", "host", "http", "options", "probe", "render",
            "tracker",
        ],
    ),
];

/// Third-party libraries that `core` may use: data structures, codecs, and constants of the kernel.
const PURE: [&str; 9] = [
    "bytes",
    "clap",
    "crc32fast",
    "globset",
    "indexmap",
    "libc",
    "rustc-hash",
    "strsim",
    "thiserror",
];

/// Checks the manifests of all libraries against the tables.
///
/// # Errors
///
/// If a library has a dependency that is not in the tables, or is not in the tables itself.
pub(crate) fn check() -> Result<()> {
    let crates = Path::new(WORKSPACE).join("fdwatch/crates");
    let mut faults = Vec::new();
    let entries =
        fs::read_dir(&crates).with_context(|| format!("cannot read {}", crates.display()))?;
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let manifest = path.join("Cargo.toml");
        let manifest = fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        faults.extend(forbidden(name, &manifest));
    }
    if !faults.is_empty() {
        bail!(
            "dependencies that xtask/src/layers.rs does not allow:\n{}",
            faults.join("\n")
        );
    }
    Ok(())
}

/// Returns a line for each dependency that the library may not have.
fn forbidden(name: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
        return vec![format!("  {name}: not in the table of layers")];
    };
    let is_allowed = |dependency: &&str| match dependency.strip_prefix("fdwatch-") {
        Some(own) => allowed.contains(&own),
        None => name != "core" || PURE.contains(dependency),
    };
    dependencies(manifest)
        .filter(|dependency| !is_allowed(dependency))
        .map(|dependency| format!("  {name} -> {dependency}"))
        .collect()
}

/// Returns the names in `[dependencies]`; build scripts and tests may use what they need.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undeclared_dependency_is_reported() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\nbytes.workspace = true\nfdwatch-common.workspace = true\n";
        assert_eq!(forbidden("core", manifest), Vec::<String>::new());
        let manifest = "[dependencies]\ntokio = \"1\"\nfdwatch-host.workspace = true\n\n[dev-dependencies]\nproptest = \"1\"\n";
        assert_eq!(
            forbidden("core", manifest),
            ["  core -> tokio", "  core -> fdwatch-host"]
        );
        assert_eq!(forbidden("events", manifest), ["  events -> fdwatch-host"]);
        assert_eq!(
            forbidden("other", manifest),
            ["  other: not in the table of layers"]
        );
    }
}
