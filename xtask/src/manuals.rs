//! `cargo xtask manuals`: generates manual pages and completions.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};
use xtask_support::{
    cargo::{Profile, example, target_directory},
    shell::{SHELL, info, output},
};

use crate::setup;

/// Writes pages and completions into `dir`, or into `manuals` in the target directory.
pub(crate) fn manuals(dir: Option<&Path>) -> Result<()> {
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => target_directory()?.join("manuals"),
    };
    write(&dir, source_date()?)?;
    let shown = dir.display();
    info(format!(
        "wrote manual pages and completions to {shown}; read one with: man -l {shown}/fdwatch.1"
    ));
    Ok(())
}

/// Writes pages and completions into `dir`. The pages have the date `source_date`, in seconds since 1970.
pub(crate) fn write(dir: &Path, source_date: u64) -> Result<()> {
    setup::setup_quietly()?;
    SHELL.run(
        example("manuals", Profile::Dev)
            .env("SOURCE_DATE_EPOCH", source_date.to_string())
            .arg(dir),
    )
}

/// Returns the date of the source, in seconds since 1970: `SOURCE_DATE_EPOCH` if set, or else the time of the last
/// commit. It makes builds of the same source identical.
pub(crate) fn source_date() -> Result<u64> {
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(time) => time,
        Err(_) => output(Command::new("git").args(["log", "-1", "--format=%ct"]))
            .context(
                "cannot read the time of the last commit; set SOURCE_DATE_EPOCH to the date of the source, in \
                 seconds since 1970",
            )?,
    };
    let time = time.trim();
    time.parse()
        .with_context(|| format!("invalid SOURCE_DATE_EPOCH {time}: expected seconds since 1970"))
}
