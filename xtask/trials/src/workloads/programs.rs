//! Finds and installs the programs that workloads run.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use xtask_support::{
    apt,
    shell::{SHELL, info},
};

/// A required program and its Debian package.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

/// Debian's directories of servers, which may not be on `PATH`, and of PostgreSQL's versions.
const SERVERS: [&str; 2] = ["/usr/sbin", "/sbin"];
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// Returns the path of a program.
pub(super) fn path_of(program: &str) -> Result<PathBuf> {
    let mut versions: Vec<_> = fs::read_dir(POSTGRESQL)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    versions.sort();
    versions.reverse();
    let path = env::var_os("PATH").unwrap_or_default();
    // PostgreSQL's own first: those on PATH may be Debian's wrappers.
    let directories = versions
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(SERVERS.map(PathBuf::from));
    directories
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("program not found: {program}"))
}

/// Returns a command that runs a program.
pub(super) fn command(program: &str) -> Result<Command> {
    path_of(program).map(Command::new)
}

/// Installs missing programs.
pub(super) fn install(needs: &[Need]) -> Result<()> {
    let is_missing = |need: &&Need| path_of(need.program).is_err();
    let missing: Vec<_> = needs.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    let names: Vec<_> = missing.iter().map(|need| need.program).collect();
    info(format!("installing {}", names.join(", ")));
    if !apt::is_available() {
        anyhow::bail!("not found, and no apt to install: {}", names.join(", "));
    }
    apt::install(SHELL, &packages)
}
