//! Recordings of workloads, without what else went on.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;

use super::processes::{Group, eventually, pause};
use crate::{shell, tasks};

/// How long fdwatch goes on after the work: until it has held an audit, and has had the time for
/// another that confirms it.
const AFTER: Duration = Duration::from_secs(13);

const LIMIT: Duration = Duration::from_secs(90);

/// `fdwatch record`, beside a workload.
#[derive(Debug)]
pub(super) struct Recording {
    process: Group,
    whole: PathBuf,
}

/// Starts one, and waits until it follows all processes.
pub(super) fn start(fdwatch: &Path, directory: &Path) -> Result<Recording> {
    let whole = directory.join("whole.fdw");
    let log = directory.join("fdwatch.log");
    let mut command = Command::new(fdwatch);
    command.arg("record").arg(&whole);
    let mut process = Group::logging(&mut command, &log)?;
    eventually(|| {
        process.still_runs()?;
        let said = std::fs::read_to_string(&log)?;
        anyhow::ensure!(said.contains("watching"), "fdwatch does not begin");
        Ok(())
    })?;
    Ok(Recording { process, whole })
}

impl Recording {
    /// Ends it after an audit, and writes to `file` what xtask and those it started did.
    pub(super) fn end(self, file: &Path) -> Result<()> {
        pause(AFTER)?;
        let without = self.process.pid().to_string();
        self.process.signal(libc::SIGINT);
        self.process.finish(LIMIT)?;
        let mut keep = tasks::cargo();
        keep.args(["run", "--quiet", "--release", "--package", "fdwatch"])
            .args(["--example", "keep_family", "--"])
            .arg(&self.whole)
            .arg(file)
            .args([&std::process::id().to_string(), &without]);
        shell::Shell { dry_run: false }.run(&mut keep)
    }
}
