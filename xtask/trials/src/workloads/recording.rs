//! Recordings of workloads, without other processes.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use xtask_support::{
    cargo::{Profile, example},
    shell::SHELL,
};

use crate::processes::{Group, eventually, pause};

/// Time to record after the work: enough for an audit and a confirming one.
const AFTER: Duration = Duration::from_secs(13);

const LIMIT: Duration = Duration::from_secs(90);

/// A running `fdwatch record`.
#[derive(Debug)]
pub(super) struct Recording {
    process: Group,
    whole: PathBuf,
}

/// Starts one and waits until it watches all processes.
pub(super) fn start(fdwatch: &Path, directory: &Path) -> Result<Recording> {
    let whole = directory.join("whole.fdw");
    let log = directory.join("fdwatch.log");
    let mut command = Command::new(fdwatch);
    command.arg("record").arg(&whole);
    let mut process = Group::logging(&mut command, &log)?;
    eventually(|| {
        process.still_runs()?;
        let output = std::fs::read_to_string(&log)?;
        anyhow::ensure!(output.contains("watching"), "fdwatch failed to start");
        Ok(())
    })?;
    Ok(Recording { process, whole })
}

impl Recording {
    /// Ends it after an audit and writes the events of this process and its descendants to `file`.
    pub(super) fn end(self, file: &Path) -> Result<()> {
        pause(AFTER)?;
        let without = self.process.pid().to_string();
        self.process.signal(libc::SIGINT);
        self.process.finish(LIMIT)?;
        let mut keep = example("keep_family", Profile::Release);
        keep.arg(&self.whole)
            .arg(file)
            .args([&std::process::id().to_string(), &without]);
        SHELL.run(&mut keep)
    }
}
