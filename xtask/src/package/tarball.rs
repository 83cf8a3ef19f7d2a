//! Builds the tar.gz: the files of the .deb, with instructions to install them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use xtask_support::{shell::SHELL, temp::TempDir};

use super::target::GLIBC;

/// Builds the tar.gz in `out` from the files in `deb`.
pub(super) fn build(deb: &Path, out: &Path, version: &str, source_date: u64) -> Result<PathBuf> {
    let name = name(version);
    let stage = TempDir::new_in(out, "tarball-").context("cannot create a directory")?;
    let root = stage.path().join(&name);
    SHELL.run(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(deb)
            .arg(&root),
    )?;
    fs::write(root.join("INSTALL"), instructions(version)).context("cannot write INSTALL")?;

    let tarball = path(out, version);
    SHELL.run(
        Command::new("tar")
            .args(["--create", "--sort=name", "--format=gnu", "--numeric-owner"])
            .args(["--owner=0", "--group=0", "--mode=go-w"])
            .arg(format!("--mtime=@{source_date}"))
            .args(["--use-compress-program", "gzip -9 --no-name", "--file"])
            .arg(&tarball)
            .arg("--directory")
            .arg(stage.path())
            .arg(&name),
    )?;
    Ok(tarball)
}

/// Returns the path of the tar.gz.
pub(super) fn path(out: &Path, version: &str) -> PathBuf {
    out.join(format!("{}.tar.gz", name(version)))
}

fn name(version: &str) -> String {
    format!("fdwatch-{version}-x86_64-linux")
}

fn instructions(version: &str) -> String {
    let (major, minor) = GLIBC;
    format!(
        "fdwatch {version}, for Linux on x86_64 with glibc {major}.{minor} or newer

To run it in place:
    ./usr/bin/fdwatch doctor      # check kernel and privileges
    ./usr/bin/fdwatch             # report duplicates as they appear and disappear; as root

To install it, as root, in this directory:
    cp -r --preserve=mode usr /
    cp -rn --preserve=mode etc /  # keeps an existing configuration
    systemctl daemon-reload
    systemctl enable --now fdwatch

To uninstall it, as root, in this directory:
    systemctl disable --now fdwatch
    find usr -type f -print0 | (cd / && xargs -0 rm -f)
    rm -r /etc/fdwatch /var/lib/fdwatch

Without systemd, have your init system run this as root:
    fdwatch agent --config /etc/fdwatch/agent.toml

Documentation: usr/share/doc/fdwatch
"
    )
}
