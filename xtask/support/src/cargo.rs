//! cargo, and the fdwatch that it builds.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::shell::{SHELL, info, run_in_front};

/// The root of this workspace.
pub const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A profile of the workspace's `Cargo.toml` that fdwatch is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// For tests and debuggers.
    Dev,
    /// Optimized, and quick to build.
    Release,
    /// As in packages: optimized across crates.
    Dist,
}

impl Profile {
    /// Its name, as `--profile` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }

    /// Its directory in the target directory.
    #[must_use]
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release | Self::Dist => self.name(),
        }
    }
}

/// Returns the cargo that started this program.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Set by `cargo run` for this program's own package. ring's build script reruns when they change: every
    // switch between a cargo started here and one started by the user would rebuild ring and its dependents.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Builds fdwatch.
///
/// # Errors
///
/// If it does not build.
pub fn build_fdwatch(profile: Profile) -> Result<()> {
    if !fdwatch(profile)?.exists() {
        info(
            "first build of fdwatch with this profile: it compiles all libraries, which takes minutes",
        );
    }
    let mut build = cargo();
    build.args(["build", "--package", "fdwatch", "--bin", "fdwatch"]);
    SHELL.run(build.args(["--profile", profile.name()]))
}

/// Builds an example of fdwatch, and returns its path.
///
/// # Errors
///
/// If it does not build.
pub fn build_example(name: &str, profile: Profile) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "fdwatch", "--example", name]);
    SHELL.run(build.args(["--profile", profile.name()]))?;
    Ok(target_directory()?
        .join(profile.directory())
        .join("examples")
        .join(name))
}

/// Returns a command that runs an example of fdwatch with these arguments.
#[must_use]
pub fn example(name: &str, profile: Profile) -> Command {
    let mut run = cargo();
    run.args(["run", "--quiet", "--profile", profile.name()]);
    run.args(["--package", "fdwatch", "--example", name, "--"]);
    run
}

/// Returns the path of the fdwatch that [`build_fdwatch`] builds.
///
/// # Errors
///
/// If this program is not in a target directory.
pub fn fdwatch(profile: Profile) -> Result<PathBuf> {
    Ok(target_directory()?
        .join(profile.directory())
        .join("fdwatch"))
}

/// Returns the target directory, wherever the user's configuration puts it: this program is in it.
///
/// # Errors
///
/// If this program is not in a target directory.
pub fn target_directory() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find the running program")?;
    let target = own.parent().and_then(Path::parent);
    Ok(target
        .context("the running program is not in a target directory")?
        .to_owned())
}

/// Runs cargo with these arguments, on the caller's standard input and output.
///
/// # Errors
///
/// If it fails.
pub fn run_cargo(arguments: &[&str]) -> Result<()> {
    run_in_front(cargo().args(arguments))
}
