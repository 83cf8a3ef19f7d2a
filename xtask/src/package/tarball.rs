//! The tar.gz: what the .deb installs, with a hint how to do that by hand.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{GLIBC, SHELL};

/// Makes it in `out`, of what is in `deb`.
pub(super) fn make(deb: &Path, out: &Path, version: &str, source_date: u64) -> Result<PathBuf> {
    let name = name(version);
    let stage = tempfile::tempdir_in(out).context("cannot make a directory for the tar.gz")?;
    let root = stage.path().join(&name);
    SHELL.run(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(deb)
            .arg(&root),
    )?;
    fs::write(root.join("INSTALL"), hint(version)).context("cannot write INSTALL")?;

    let tarball = place(out, version);
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

/// Where it is made.
pub(super) fn place(out: &Path, version: &str) -> PathBuf {
    out.join(format!("{}.tar.gz", name(version)))
}

fn name(version: &str) -> String {
    format!("fdwatch-{version}-x86_64-linux")
}

fn hint(version: &str) -> String {
    let (major, minor) = GLIBC;
    format!(
        "fdwatch {version}, for Linux on x86_64 with glibc {major}.{minor} or newer

It runs from where it is:
    ./usr/bin/fdwatch doctor      what this kernel and your privileges allow
    ./usr/bin/fdwatch             tells of duplicates as they come and go; as root

To install it, as root, in this directory:
    cp -r --preserve=mode usr /
    cp -rn --preserve=mode etc /  # keeps a configuration that is there
    systemctl daemon-reload
    systemctl enable --now fdwatch

To remove it again, as root, in this directory:
    systemctl disable --now fdwatch
    find usr -type f -print0 | (cd / && xargs -0 rm -f)
    rm -r /etc/fdwatch /var/lib/fdwatch

Where there is no systemd, run this as root, by what starts programs there:
    fdwatch agent --config /etc/fdwatch/agent.toml

All else is in usr/share/doc/fdwatch.
"
    )
}
