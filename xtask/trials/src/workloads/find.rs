//! Programs that read all files, as backups and indexers do.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    programs::{self, Need},
    workload::{Amount, Work, Workload},
};
use crate::processes::{Group, pause};

/// Reads the system's small files with several processes.
#[derive(Debug, Default)]
pub(super) struct Find {
    directory: PathBuf,
    lingering: Option<Group>,
}

/// Prints a line for each file read. First, one process lists the directories and many open the files; then, one
/// process does both.
const SCRIPT: &str =
    "find \"$0\" -xdev -type f -size -16k -print0 | xargs -0 -P 2 -n 100 grep -c ''
    grep -rIc 'no such word' \"$0\"";

/// The directory with most of a system's files.
const DIRECTORY: &str = "/usr";

const LIMIT: Duration = Duration::from_secs(120);

impl Find {
    fn output(&self) -> PathBuf {
        self.directory.join("read")
    }

    fn start(&self, directory: &str) -> Result<Group> {
        let mut command = programs::command("sh")?;
        command.args(["-c", SCRIPT, directory]).env("LC_ALL", "C");
        Group::logging(&mut command, &self.output())
    }

    /// Reads a directory once, or until `end`.
    fn pass(&self, directory: &str, end: Instant) -> Result<()> {
        let mut group = self.start(directory)?;
        while Instant::now() < end {
            if group.child.try_wait()?.is_some() {
                return Ok(());
            }
            pause(Duration::from_millis(10))?;
        }
        group.kill();
        Ok(())
    }
}

impl Workload for Find {
    fn name(&self) -> &'static str {
        "find"
    }

    fn needs(&self) -> &'static [Need] {
        &[
            Need {
                program: "find",
                package: "findutils",
            },
            Need {
                program: "xargs",
                package: "findutils",
            },
            Need {
                program: "grep",
                package: "grep",
            },
        ]
    }

    fn prepare(&mut self, directory: &Path) -> Result<()> {
        directory.clone_into(&mut self.directory);
        Ok(())
    }

    fn run(&mut self, amount: Amount) -> Result<Work> {
        match amount {
            Amount::For(duration) => {
                let end = Instant::now() + duration;
                while Instant::now() < end {
                    self.pass(DIRECTORY, end)?;
                }
            }
            Amount::Sample => self.pass("/etc", Instant::now() + LIMIT)?,
        }
        let read = fs::read(self.output())?;
        let lines = read.split(|&byte| byte == b'\n').count();
        Ok(Work {
            count: lines.saturating_sub(1) as u64,
            unit: "files read",
        })
    }

    fn linger(&mut self) -> Result<()> {
        let group = self.start(DIRECTORY)?;
        pause(Duration::from_secs(1))?;
        group.freeze();
        self.lingering = Some(group);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.lingering = None;
        Ok(())
    }
}
