//! `cargo xtask package`: builds a .deb and a tar.gz for x86_64 Linux with glibc 2.31 or newer.
//!
//! `[package.metadata.deb]` in `fdwatch/Cargo.toml` lists the files; the tar.gz is built from the .deb. Both
//! are reproducible: the same commit, directory and toolchain give the same bytes.

mod binary;
mod contained;
mod dependencies;
mod filters;
mod roots;
mod service;
mod sources;
mod tarball;
mod target;
mod tools;
mod trial;

use std::{env::consts::ARCH, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use xtask_support::{
    apt,
    cargo::target_directory,
    shell::{SHELL, capture, info},
};

use self::{target::Packages, tools::Tools};
use crate::{manuals, setup};

/// Builds the packages; with `test`, tests them in clean systems.
pub(crate) fn package(test: bool) -> Result<()> {
    if ARCH != "x86_64" || !apt::is_available() {
        bail!(
            "package uses Debian's tools for x86_64: run it on an x86_64 Debian or Ubuntu; `cargo xtask build \
             --release` builds a binary for this system"
        );
    }
    if test {
        trial::check_privileges()?;
    }
    setup::setup_quietly()?;
    let tools = Tools::get()?;
    let source_date = manuals::source_date()?;
    let binary = binary::build(&tools, source_date)?;
    let packages = pack(&tools, &binary, source_date)?;
    if test {
        trial::trial(&packages)?;
    }
    for file in [&packages.deb, &packages.tarball] {
        let bytes = fs::metadata(file)?.len();
        info(format!("built {}, {} KiB", file.display(), bytes >> 10));
    }
    Ok(())
}

/// Tests the packages of the last run.
pub(crate) fn test_built() -> Result<()> {
    trial::check_privileges()?;
    let out = target_directory()?.join("package");
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let deb = tools::debs(&out)?.pop();
    trial::trial(&Packages {
        deb: deb.context("no package found; build it with: cargo xtask package")?,
        tarball: tarball::path(&out, &version),
        version,
    })
}

fn pack(tools: &Tools, binary: &Path, source_date: u64) -> Result<Packages> {
    let out = target_directory()?.join("package");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();

    // cargo-deb looks here for what [package.metadata.deb] calls target/dist.
    let generated = binary.with_file_name("package");
    generate(&generated, source_date)?;
    // Its name contains the revision, which cargo-deb determines.
    let deb = tools.deb(&out, source_date)?;
    let tarball = tarball::build(&deb, &out, &version, source_date)?;
    Ok(Packages {
        version,
        deb,
        tarball,
    })
}

/// Generates the files that are not in the repository: manual pages, completions, the licences of linked
/// libraries, and Debian's changelog.
fn generate(dir: &Path, source_date: u64) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let [man, completions, doc] = ["man", "completions", "doc"].map(|name| dir.join(name));
    for dir in [&man, &doc] {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    manuals::write(&completions, source_date)?;
    let mut compressed = Vec::new();
    for entry in fs::read_dir(&completions)? {
        let from = entry?.path();
        if from.extension().is_some_and(|extension| extension == "1") {
            let to = man.join(from.file_name().context("a manual page has no name")?);
            fs::rename(from, &to)?;
            compressed.push(to);
        }
    }
    let changes = doc.join("changelog.Debian");
    fs::write(&changes, changelog(source_date)?)?;
    compressed.push(changes);
    let dependencies = doc.join("dependencies");
    fs::write(&dependencies, dependencies::licences()?)?;
    compressed.push(dependencies);
    compressed.sort();
    // Without file names and times, which would make each build different.
    SHELL.run(
        Command::new("gzip")
            .args(["-9", "--no-name"])
            .args(compressed),
    )
}

fn changelog(source_date: u64) -> Result<String> {
    let date = capture(
        Command::new("date")
            .env("LC_ALL", "C")
            .args(["--utc", "--rfc-email"])
            .arg(format!("--date=@{source_date}")),
    )?;
    Ok(format!(
        "fdwatch ({}-1) unstable; urgency=medium\n\n  * New release; see CHANGELOG.md.\n\n -- The \
         fdwatch authors <fdwatch@fdwatch.invalid>  {date}",
        env!("CARGO_PKG_VERSION")
    ))
}
