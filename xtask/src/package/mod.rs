//! `cargo xtask package`: a .deb and a tar.gz of fdwatch, for any x86_64 Linux with glibc 2.31 or
//! newer.
//!
//! What is in them, and where, is said once: in `[package.metadata.deb]` of `fdwatch/Cargo.toml`. The
//! tar.gz is made of the .deb. Both are the same to the byte whenever they are made of the same
//! commit in the same directory with the same toolchain.

mod binary;
mod contained;
mod dependencies;
mod filters;
mod roots;
mod service;
mod tarball;
mod tools;
mod trial;

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use self::tools::Tools;
use crate::{
    apt, manuals, setup,
    shell::{Shell, capture, say},
    tasks::target_directory,
};

const SHELL: Shell = Shell { dry_run: false };

/// What is built for; Rust's name.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The oldest glibc that it runs on: that of Debian 11, Ubuntu 20.04 and later, RHEL 9 has 2.34.
const GLIBC: (u32, u32) = (2, 31);

/// All paths of the sources are below this.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A file of the sources.
fn read(path: &str) -> Result<String> {
    let path = Path::new(SOURCES).join(path);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// What was made.
#[derive(Debug)]
struct Packages {
    version: String,
    deb: PathBuf,
    tarball: PathBuf,
}

/// Makes the packages; with `test`, tries them in clean roots.
pub(crate) fn package(test: bool) -> Result<()> {
    if ARCH != "x86_64" || !apt::is_here() {
        bail!(
            "packages are made and tried with Debian's tools, for x86_64: run this on an x86_64 \
             Debian or Ubuntu; `cargo xtask build --release` makes a binary for this system"
        );
    }
    if test {
        trial::check_privileges()?;
    }
    setup::setup_quietly()?;
    let tools = Tools::get()?;
    let source_date = manuals::source_date()?;
    let binary = binary::build(&tools, source_date)?;
    let packages = make(&tools, &binary, source_date)?;
    if test {
        trial::trial(&packages)?;
    }
    for made in [&packages.deb, &packages.tarball] {
        let bytes = fs::metadata(made)?.len();
        say(format!("made {}, {} KiB", made.display(), bytes >> 10));
    }
    Ok(())
}

/// Tries the packages that were made before.
pub(crate) fn try_made() -> Result<()> {
    trial::check_privileges()?;
    let out = target_directory()?.join("package");
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let deb = tools::debs(&out)?.pop();
    trial::trial(&Packages {
        deb: deb.context("no package was made; to make one: cargo xtask package")?,
        tarball: tarball::place(&out, &version),
        version,
    })
}

fn make(tools: &Tools, binary: &Path, source_date: u64) -> Result<Packages> {
    let out = target_directory()?.join("package");
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();

    // Where cargo-deb looks for what it calls target/release.
    let generated = binary.with_file_name("package");
    generate(&generated, source_date)?;
    // Its name tells the revision, which only cargo-deb knows.
    let deb = tools.deb(&out, source_date)?;
    let tarball = tarball::make(&deb, &out, &version, source_date)?;
    Ok(Packages {
        version,
        deb,
        tarball,
    })
}

/// Writes what is in the packages and in no repository: manual pages, completions, the licences of
/// what is linked in, and the list of changes that Debian wants of each package.
fn generate(dir: &Path, source_date: u64) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    let [man, completions, doc] = ["man", "completions", "doc"].map(|name| dir.join(name));
    for dir in [&man, &doc] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    manuals::write(&completions, source_date)?;
    let mut compressed = Vec::new();
    for entry in fs::read_dir(&completions)? {
        let from = entry?.path();
        if from.extension().is_some_and(|extension| extension == "1") {
            let to = man.join(from.file_name().context("a page has no name")?);
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
    // Without names and times, which would differ.
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
        "fdwatch ({}-1) unstable; urgency=medium\n\n  * What is new is told in the README.\n\n -- The \
         fdwatch authors <fdwatch@fdwatch.invalid>  {date}",
        env!("CARGO_PKG_VERSION")
    ))
}
