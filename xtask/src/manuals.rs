//! `cargo xtask manuals`: the manual pages and the completions.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    setup,
    shell::{Shell, say},
    tasks::{cargo, target_directory},
    toolchain::output,
};

const SHELL: Shell = Shell { dry_run: false };

/// Writes them into `dir`, or into `manuals` in the target directory.
pub(crate) fn manuals(dir: Option<&Path>) -> Result<()> {
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => target_directory()?.join("manuals"),
    };
    write(&dir, source_date()?)?;
    let shown = dir.display();
    say(format!(
        "wrote manual pages and completions to {shown}; to read one: man -l {shown}/fdwatch.1"
    ));
    Ok(())
}

/// Writes them into `dir`, the pages dated `source_date`.
pub(crate) fn write(dir: &Path, source_date: u64) -> Result<()> {
    setup::setup_quietly()?;
    SHELL.run(
        cargo()
            .env("SOURCE_DATE_EPOCH", source_date.to_string())
            .args(["run", "--quiet", "--locked", "--package", "fdwatch"])
            .args(["--example", "manuals", "--"])
            .arg(dir),
    )
}

/// When the source is from, in seconds since 1970: `SOURCE_DATE_EPOCH` if that is set, or else the
/// time of the last commit. What is made of the same source is the same then, whenever it is made.
pub(crate) fn source_date() -> Result<u64> {
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(time) => time,
        Err(_) => output(Command::new("git").args(["log", "-1", "--format=%ct"]))
            .map_err(anyhow::Error::msg)
            .context(
                "git does not tell when the last commit was; set SOURCE_DATE_EPOCH to the time of \
                 the source, in seconds since 1970",
            )?,
    };
    let time = time.trim();
    time.parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH is no number of seconds: {time}"))
}
