//! Backups, indexers and the like: whoever goes through all files.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Amount, Need, Work, Workload,
    processes::{Group, pause},
    programs,
};

/// Reads the small files of the system, some at a time, in several processes.
#[derive(Debug, Default)]
pub(super) struct Find {
    directory: PathBuf,
    lingering: Option<Group>,
}

/// Prints a line for each file that was read. The part in which all directories are listed is done
/// in one process, and that in which files are opened in many.
const SCRIPT: &str =
    "find \"$0\" -xdev -type f -size -16k -print0 | xargs -0 -P 2 -n 100 grep -c ''
    grep -rIc 'no such word' \"$0\"";

/// Where most of a system's files are.
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

    /// Goes through a directory once, or as far as it comes until `end`.
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
