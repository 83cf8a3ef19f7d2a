//! The programs that workloads run: where they are, and how they get there.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    apt,
    shell::{Shell, say},
};

/// A program, and the Debian package that has it.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

/// Debian keeps servers where `PATH` may not lead, and PostgreSQL's by version.
const ELSEWHERE: [&str; 2] = ["/usr/sbin", "/sbin"];
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// Where a program is.
pub(super) fn path_of(program: &str) -> Result<PathBuf> {
    let mut versions: Vec<_> = fs::read_dir(POSTGRESQL)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    versions.sort();
    versions.reverse();
    let path = env::var_os("PATH").unwrap_or_default();
    // PostgreSQL's own first: what is on PATH by the same name may be Debian's wrapper of these.
    let directories = versions
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(ELSEWHERE.map(PathBuf::from));
    directories
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("there is no {program}"))
}

/// A command that runs a program.
pub(super) fn command(program: &str) -> Result<Command> {
    path_of(program).map(Command::new)
}

/// Gets what is not there.
pub(super) fn install(needs: &[Need]) -> Result<()> {
    let is_missing = |need: &&Need| path_of(need.program).is_err();
    let missing: Vec<_> = needs.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    let names: Vec<_> = missing.iter().map(|need| need.program).collect();
    say(format!("there is no {}", names.join(", no ")));
    if !apt::is_here() {
        anyhow::bail!("there is no {}, and no apt", names.join(", no "));
    }
    apt::install(Shell { dry_run: false }, &packages)
}
