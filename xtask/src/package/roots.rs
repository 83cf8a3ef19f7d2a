//! Clean Debian systems in directories, created by debootstrap, to test packages in.
//!
//! Programs run in them see only their own processes and cannot start services.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use xtask_support::{
    apt, cache,
    shell::{SHELL, capture, info, which},
    temp::TempDir,
};

/// A mirror of all Debian suites that are not archived.
const MIRROR: &str = "http://deb.debian.org/debian";

/// The script that keeps packages from starting services.
pub(super) const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The script that runs programs in the system without the environment of xtask.
const WRAPPER: &str = "/run-clean";
const ENVIRONMENT: &str = r#"exec env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
"#;

/// A system: its suite, and its packages besides debootstrap's minimum.
#[derive(Debug, Clone, Copy)]
pub(super) struct System {
    pub(super) suite: &'static str,
    pub(super) packages: &'static [&'static str],
}

/// Debian 12, with packages to show manual pages and complete commands.
pub(super) const CURRENT: System = System {
    suite: "bookworm",
    packages: &["man-db", "bash-completion"],
};

/// A copy of a system that may be changed; removed when dropped.
#[derive(Debug)]
pub(super) struct Root {
    dir: TempDir,
}

impl Root {
    /// Unpacks a copy of `system`.
    pub(super) fn new(system: System) -> Result<Self> {
        let archive = packed(system)?;
        let cache = directory()?;
        let dir = TempDir::new_in(&cache, "trial-").context("cannot create a directory")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        unpack(&archive, dir.path())?;
        let root = Self { dir };
        // Debian's policy layer: exit code 101 denies the start of a service.
        root.program(POLICY, "exit 101\n")?;
        root.program(WRAPPER, ENVIRONMENT)?;
        Ok(root)
    }

    /// Writes an executable script to `path` in the system.
    pub(super) fn program(&self, path: &str, script: &str) -> Result<()> {
        let path = self.path(path);
        fs::write(&path, format!("#!/bin/sh\n{script}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Converts an absolute path in the system to one outside of it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Copies a file into the system's /tmp and returns its path there.
    pub(super) fn bring(&self, file: &Path) -> Result<String> {
        let name = file.file_name().context("not a file")?;
        let inside = format!("/tmp/{}", name.to_string_lossy());
        fs::copy(file, self.path(&inside))
            .with_context(|| format!("cannot copy {} into the clean system", file.display()))?;
        Ok(inside)
    }

    /// Runs a command in the system.
    pub(super) fn run(&self, command: &[&str]) -> Result<()> {
        SHELL.run(&mut self.command(command))
    }

    /// Runs a command in the system and returns its standard output.
    pub(super) fn capture(&self, command: &[&str]) -> Result<String> {
        capture(&mut self.command(command))
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut inside = Command::new("unshare");
        inside
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg("--root")
            .arg(self.dir.path())
            .args(["--wd", "/", WRAPPER])
            .args(command);
        inside
    }
}

/// Returns the directory of packed systems.
fn directory() -> Result<PathBuf> {
    let cache = cache::directory("fdwatch-package")?.join("roots");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    Ok(cache)
}

/// Returns the archive of `system`, created on first use.
pub(super) fn packed(system: System) -> Result<PathBuf> {
    let cache = directory()?;
    let mut name = system.suite.to_owned();
    for package in system.packages {
        name.push('+');
        name.push_str(package);
    }
    let archive = cache.join(format!("{name}.tar"));
    if archive.is_file() {
        return Ok(archive);
    }
    if !which("debootstrap") && !Path::new("/usr/sbin/debootstrap").is_file() {
        info("installing debootstrap to create clean systems");
        apt::install(SHELL, &["debootstrap", "debian-archive-keyring"])?;
    }
    info(format!(
        "creating a clean Debian {} in {}",
        system.suite,
        cache.display()
    ));
    let dir = TempDir::new_in(&cache, "new-").context("cannot create a directory")?;
    let root = dir.path().join("root");
    let mut make = Command::new("debootstrap");
    make.arg("--variant=minbase");
    if !system.packages.is_empty() {
        make.arg(format!("--include={}", system.packages.join(",")));
    }
    SHELL
        .run(make.arg(system.suite).arg(&root).arg(MIRROR))
        .with_context(|| {
            format!(
                "cannot create a clean Debian {}: is {MIRROR} reachable?",
                system.suite
            )
        })?;
    // Renamed when complete: an incomplete archive must not be used.
    let packed = dir.path().join("packed.tar");
    SHELL.run(
        Command::new("tar")
            .args([
                "--create",
                "--numeric-owner",
                "--exclude=./var/cache/apt/archives/*.deb",
                "--file",
            ])
            .arg(&packed)
            .arg("--directory")
            .arg(&root)
            .arg("."),
    )?;
    fs::rename(&packed, &archive).with_context(|| format!("cannot save {}", archive.display()))?;
    Ok(archive)
}

fn unpack(archive: &Path, dir: &Path) -> Result<()> {
    SHELL.run(
        Command::new("tar")
            .args([
                "--extract",
                "--numeric-owner",
                "--preserve-permissions",
                "--file",
            ])
            .arg(archive)
            .arg("--directory")
            .arg(dir),
    )
}
