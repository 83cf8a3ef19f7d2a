//! Shells: pipes, redirections, subshells, here-documents, background jobs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    programs::{self, Need},
    workload::{Amount, Work, Workload},
};
use crate::processes::{Group, pause};

/// Bash and the system's `sh`, which redirect descriptors in different ways.
#[derive(Debug, Default)]
pub(super) struct Shells {
    directory: PathBuf,
    lingering: Vec<Group>,
}

const POSIX: &str = include_str!("shell/posix.sh");
const BASH: &str = include_str!("shell/bash.sh");

const LIMIT: Duration = Duration::from_secs(60);

impl Shells {
    fn rounds(&self) -> PathBuf {
        self.directory.join("rounds")
    }

    /// Starts a shell with a script in its own directory.
    fn start(&self, shell: &str, script: &str, name: &str, rounds: u32) -> Result<Group> {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory)?;
        let file = directory.join("script");
        fs::write(&file, script)?;
        let mut command = programs::command(shell)?;
        command
            .arg(file)
            .arg(rounds.to_string())
            .arg(self.rounds())
            .current_dir(&directory);
        Group::logging(&mut command, &directory.join("log"))
    }

    fn start_all(&self) -> Result<[Group; 3]> {
        Ok([
            self.start("sh", POSIX, "posix", u32::MAX)?,
            self.start("bash", POSIX, "posix-by-bash", u32::MAX)?,
            self.start("bash", BASH, "bash", u32::MAX)?,
        ])
    }
}

impl Workload for Shells {
    fn name(&self) -> &'static str {
        "shell"
    }

    fn needs(&self) -> &'static [Need] {
        &[Need {
            program: "bash",
            package: "bash",
        }]
    }

    fn prepare(&mut self, directory: &Path) -> Result<()> {
        directory.clone_into(&mut self.directory);
        Ok(())
    }

    fn run(&mut self, amount: Amount) -> Result<Work> {
        match amount {
            Amount::For(duration) => {
                let end = Instant::now() + duration;
                let mut shells = self.start_all()?;
                while Instant::now() < end {
                    shells.iter_mut().try_for_each(Group::still_runs)?;
                    pause(Duration::from_millis(100))?;
                }
                shells.into_iter().for_each(Group::kill);
            }
            Amount::Sample => {
                self.start("sh", POSIX, "posix", 1)?.finish(LIMIT)?;
                self.start("bash", BASH, "bash", 1)?.finish(LIMIT)?;
            }
        }
        let rounds = fs::metadata(self.rounds()).context("no shell completed a round")?;
        Ok(Work {
            count: rounds.len(),
            unit: "rounds",
        })
    }

    fn linger(&mut self) -> Result<()> {
        self.lingering.extend(self.start_all()?);
        pause(Duration::from_secs(1))?;
        self.lingering.iter().for_each(Group::freeze);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.lingering.clear();
        Ok(())
    }
}
