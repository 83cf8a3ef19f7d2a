//! A compiler: many short-lived processes that open many files each.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;
use xtask_support::cargo::{WORKSPACE, cargo};

use super::{
    programs::Need,
    workload::{Amount, Work, Workload},
};
use crate::processes::{Group, pause};

/// Builds packages of this workspace from scratch.
#[derive(Debug, Default)]
pub(super) struct Cargo {
    directory: PathBuf,
    /// Number of builds so far.
    builds: u64,
    lingering: Option<Group>,
}

/// A package with many dependencies, which are downloaded already: this program is built from it.
const PACKAGE: &str = "fdwatch-trials";

/// A package without dependencies.
const SMALL_PACKAGE: &str = "fdwatch-common";

const LIMIT: Duration = Duration::from_secs(900);

impl Cargo {
    fn build(&self, package: &str, target: &str) -> Result<Group> {
        let mut build = cargo();
        build
            .args(["build", "--offline", "--locked", "--package", package])
            .current_dir(WORKSPACE)
            .arg("--target-dir")
            .arg(self.directory.join(target));
        Group::logging(&mut build, &self.directory.join("log"))
    }
}

impl Workload for Cargo {
    fn name(&self) -> &'static str {
        "cargo"
    }

    fn needs(&self) -> &'static [Need] {
        &[]
    }

    fn prepare(&mut self, directory: &Path) -> Result<()> {
        directory.clone_into(&mut self.directory);
        Ok(())
    }

    fn run(&mut self, amount: Amount) -> Result<Work> {
        let (package, duration) = match amount {
            Amount::For(duration) => (PACKAGE, duration),
            Amount::Sample => (SMALL_PACKAGE, Duration::ZERO),
        };
        let end = Instant::now() + duration;
        let mut count = 0;
        while count == 0 || Instant::now() < end {
            let target = self.builds.to_string();
            self.build(package, &target)?.finish(LIMIT)?;
            self.builds += 1;
            count += 1;
        }
        Ok(Work {
            count,
            unit: "builds",
        })
    }

    fn linger(&mut self) -> Result<()> {
        let build = self.build(PACKAGE, "lingering")?;
        pause(Duration::from_secs(2))?;
        build.freeze();
        self.lingering = Some(build);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.lingering = None;
        Ok(())
    }
}
