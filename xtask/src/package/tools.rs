//! Installs the tools that build packages: zig, which links against an old glibc, cargo-zigbuild and cargo-deb.
//! They are installed into a separate directory, not into the system or the user's home.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use xtask_support::{
    apt, cache,
    cargo::{Profile, cargo},
    pypi,
    shell::{SHELL, info, output, which},
};

use super::target::TARGET;

/// Releases that are known to work together.
const ZIG: &str = "0.15.2";
const CARGO_ZIGBUILD: &str = "0.24.1";
const CARGO_DEB: &str = "3.8.0";

/// The installed tools.
#[derive(Debug)]
pub(super) struct Tools {
    dir: PathBuf,
    zig: PathBuf,
}

impl Tools {
    /// Installs what is missing.
    pub(super) fn get() -> Result<Self> {
        let dir = cache::directory("fdwatch-package")?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // binutils has strip as well.
        let needed = [("objdump", "binutils"), ("git", "git")];
        let missing: Vec<_> = needed
            .iter()
            .filter_map(|&(program, package)| (!which(program)).then_some(package))
            .collect();
        if !missing.is_empty() {
            apt::install(SHELL, &missing)?;
        }
        for (name, release) in [("cargo-zigbuild", CARGO_ZIGBUILD), ("cargo-deb", CARGO_DEB)] {
            cargo_program(&dir, name, release)?;
        }
        let zig = zig(&dir)?;
        Ok(Self { dir, zig })
    }

    /// Returns a `cargo zigbuild` command.
    pub(super) fn zigbuild(&self) -> Result<Command> {
        let mut command = self.cargo("zigbuild")?;
        command
            .env("CARGO_ZIGBUILD_ZIG_PATH", &self.zig)
            .env("CARGO_ZIGBUILD_CACHE_DIR", self.dir.join("zigbuild"))
            .env("ZIG_GLOBAL_CACHE_DIR", self.dir.join("zig-cache"));
        Ok(command)
    }

    /// Packs the built and generated files into a .deb in `out`.
    pub(super) fn deb(&self, out: &Path, source_date: u64) -> Result<PathBuf> {
        // The only .deb left afterwards is the new one.
        for old in debs(out)? {
            fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
        let mut command = self.cargo("deb")?;
        command
            .env("SOURCE_DATE_EPOCH", source_date.to_string())
            .args(["--locked", "--package", "fdwatch", "--no-build", "--strip"])
            .args(["--profile", Profile::Dist.name()])
            .args(["--target", TARGET, "--output"])
            .arg(out);
        SHELL.run(&mut command)?;
        debs(out)?.pop().context("cargo-deb built no package")
    }

    /// Returns a cargo command that finds the tools.
    fn cargo(&self, name: &str) -> Result<Command> {
        let mut path: OsString = self.dir.join("bin").into();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let mut command = cargo();
        command.env("PATH", path).arg(name);
        Ok(command)
    }
}

/// Returns the .deb files in `dir`.
pub(super) fn debs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Installs a program of crates.io into `dir`.
fn cargo_program(dir: &Path, name: &str, release: &str) -> Result<()> {
    // cargo records what it has installed.
    let installed = output(cargo().args(["install", "--list", "--root"]).arg(dir));
    let wanted = format!("{name} v{release}:");
    if installed.is_ok_and(|list| list.lines().any(|line| line == wanted)) {
        return Ok(());
    }
    info(format!("building {name} {release} into {}", dir.display()));
    SHELL
        .run(
            cargo()
                .args(["install", name, "--locked", "--version", release, "--root"])
                .arg(dir),
        )
        .with_context(|| format!("cannot build {name} {release} from crates.io"))
}

/// Installs zig from its wheel on PyPI into a Python environment in `dir`.
fn zig(dir: &Path) -> Result<PathBuf> {
    let environment = dir.join(format!("zig-{ZIG}"));
    if let Some(zig) = zig_in(&environment) {
        return Ok(zig);
    }
    info(format!(
        "installing zig {ZIG} (90 MB) from PyPI into {}",
        dir.display()
    ));
    pypi::install(&environment, &format!("ziglang=={ZIG}"))?;
    match zig_in(&environment) {
        Some(zig) => Ok(zig),
        None => bail!("the wheel ziglang {ZIG} has no zig that runs here"),
    }
}

/// Returns the zig in a Python environment, whatever Python's version; `None` if it does not run.
fn zig_in(environment: &Path) -> Option<PathBuf> {
    let pythons = fs::read_dir(environment.join("lib")).ok()?.flatten();
    let mut zigs = pythons.map(|python| python.path().join("site-packages/ziglang/zig"));
    zigs.find(|zig| {
        let about = output(Command::new(zig).arg("version"));
        about.is_ok_and(|version| version.trim() == ZIG)
    })
}
