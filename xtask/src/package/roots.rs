//! Clean Debian systems in directories, made by debootstrap, in which packages are tried.
//!
//! What runs there sees processes of its own only, cannot start services, and is gone when the
//! directory is.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::SHELL;
use crate::{
    apt, cache,
    shell::{capture, say, which},
};

/// Where all of Debian's suites are that are not archived.
const MIRROR: &str = "http://deb.debian.org/debian";

/// What keeps services from being started by who installs them.
pub(super) const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What runs programs there, with nothing of xtask's own environment.
const WRAPPER: &str = "/run-clean";
const ENVIRONMENT: &str = r#"exec env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
"#;

/// A system, and what is in it besides debootstrap's least.
#[derive(Debug, Clone, Copy)]
pub(super) struct System {
    pub(super) suite: &'static str,
    pub(super) packages: &'static [&'static str],
}

/// With what shows pages and completes commands.
pub(super) const CURRENT: System = System {
    suite: "bookworm",
    packages: &["man-db", "bash-completion"],
};

/// One that may be changed; it is deleted in the end.
#[derive(Debug)]
pub(super) struct Root {
    dir: TempDir,
}

impl Root {
    /// A new copy of `system`.
    pub(super) fn new(system: System) -> Result<Self> {
        let kept = packed(system)?;
        let cache = directory()?;
        let dir = tempfile::Builder::new()
            .prefix("trial-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(&cache)
            .context("cannot make a directory for a clean system")?;
        unpack(&kept, dir.path())?;
        let root = Self { dir };
        // Debian's way to have no service started.
        root.program(POLICY, "exit 101\n")?;
        root.program(WRAPPER, ENVIRONMENT)?;
        Ok(root)
    }

    /// Writes a script there that may be run.
    pub(super) fn program(&self, path: &str, script: &str) -> Result<()> {
        let path = self.path(path);
        fs::write(&path, format!("#!/bin/sh\n{script}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Where `path`, which is absolute, is seen from outside.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Copies a file into its /tmp, and returns where it is there.
    pub(super) fn bring(&self, file: &Path) -> Result<String> {
        let name = file.file_name().context("a directory is no file")?;
        let inside = format!("/tmp/{}", name.to_string_lossy());
        fs::copy(file, self.path(&inside))
            .with_context(|| format!("cannot copy {} into the clean system", file.display()))?;
        Ok(inside)
    }

    /// Runs a command there; fails if it does.
    pub(super) fn run(&self, command: &[&str]) -> Result<()> {
        SHELL.run(&mut self.command(command))
    }

    /// The same, and returns what it prints.
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

/// Where they are kept.
fn directory() -> Result<PathBuf> {
    let cache = cache::directory("fdwatch-package")?.join("roots");
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    Ok(cache)
}

/// A packed copy of `system`, which is to be left as it is; it is made if there is none yet.
pub(super) fn packed(system: System) -> Result<PathBuf> {
    let cache = directory()?;
    let mut name = system.suite.to_owned();
    for package in system.packages {
        name.push('+');
        name.push_str(package);
    }
    let kept = cache.join(format!("{name}.tar"));
    if kept.is_file() {
        return Ok(kept);
    }
    if !which("debootstrap") && !Path::new("/usr/sbin/debootstrap").is_file() {
        say("clean systems are made by debootstrap, which is not here");
        apt::install(SHELL, &["debootstrap", "debian-archive-keyring"])?;
    }
    say(format!(
        "makes a clean Debian {}, which is kept in {}",
        system.suite,
        cache.display()
    ));
    let dir = tempfile::tempdir_in(&cache).context("cannot make a directory for a clean system")?;
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
                "cannot make a clean Debian {}: is {MIRROR} reachable?",
                system.suite
            )
        })?;
    // Under another name first, for what is broken off must not be taken for whole.
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
    fs::rename(&packed, &kept).with_context(|| format!("cannot keep {}", kept.display()))?;
    Ok(kept)
}

fn unpack(kept: &Path, dir: &Path) -> Result<()> {
    SHELL.run(
        Command::new("tar")
            .args([
                "--extract",
                "--numeric-owner",
                "--preserve-permissions",
                "--file",
            ])
            .arg(kept)
            .arg("--directory")
            .arg(dir),
    )
}
