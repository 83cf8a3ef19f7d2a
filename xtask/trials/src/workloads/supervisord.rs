//! supervisord, with programs that log heavily, so that logs are rotated continuously.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    programs::{self, Need},
    workload::{Amount, Work, Workload},
};
use crate::processes::{Group, eventually, pause};

/// supervisord and its clients: some make one request, some follow a log and are killed.
#[derive(Debug, Default)]
pub(super) struct Supervisord {
    directory: PathBuf,
    process: Option<Group>,
    lingering: Vec<Group>,
}

const LIMIT: Duration = Duration::from_secs(60);

impl Supervisord {
    fn config(&self) -> PathBuf {
        self.directory.join("supervisord.conf")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn client(&self, arguments: &[&str]) -> Result<Command> {
        let mut client = programs::command("supervisorctl")?;
        client.arg("-c").arg(self.config()).args(arguments);
        Ok(client)
    }

    fn request(&self, arguments: &[&str]) -> Result<()> {
        Group::logging(&mut self.client(arguments)?, &self.log("requests"))?.finish(LIMIT)
    }

    fn follow(&self, program: &str) -> Result<Group> {
        let mut follow = self.client(&["tail", "-f", program])?;
        Group::logging(&mut follow, &self.log("follows"))
    }

    /// Runs four clients, one of which is killed while it follows a log.
    fn round(&self) -> Result<()> {
        let follower = self.follow("talker:talker_0")?;
        self.request(&["tail", "-2000", "talker:talker_1"])?;
        self.request(&["status"])?;
        self.request(&["restart", "short"])?;
        follower.kill();
        Ok(())
    }
}

impl Workload for Supervisord {
    fn name(&self) -> &'static str {
        "supervisord"
    }

    fn needs(&self) -> &'static [Need] {
        &[
            Need {
                program: "supervisord",
                package: "supervisor",
            },
            Need {
                program: "supervisorctl",
                package: "supervisor",
            },
        ]
    }

    fn prepare(&mut self, directory: &Path) -> Result<()> {
        directory.clone_into(&mut self.directory);
        fs::write(self.config(), include_str!("supervisord.conf"))?;
        let mut command = programs::command("supervisord")?;
        command.arg("-c").arg(self.config());
        let mut process = Group::logging(&mut command, &self.log("output"))?;
        // Ready once a log has been rotated.
        let rotated = self.directory.join("talker_0.log.1");
        let ready = eventually(|| {
            process.still_runs()?;
            fs::metadata(&rotated).context("no log has been rotated")
        });
        self.process = Some(process);
        ready.map(drop)
    }

    fn run(&mut self, amount: Amount) -> Result<Work> {
        let mut count = 0;
        match amount {
            Amount::For(duration) => {
                let end = Instant::now() + duration;
                while Instant::now() < end {
                    self.round()?;
                    count += 4;
                    pause(Duration::from_millis(100))?;
                }
            }
            Amount::Sample => {
                let follower = self.follow("talker:talker_0")?;
                pause(Duration::from_millis(600))?;
                follower.kill();
                count += 1;
                pause(Duration::from_millis(100))?;
                // It would keep rotating. Its programs block when nobody reads their output.
                self.process.iter().for_each(Group::freeze);
            }
        }
        Ok(Work {
            count,
            unit: "clients",
        })
    }

    fn linger(&mut self) -> Result<()> {
        // The programs keep running: the log of supervisord is the file that is held.
        for program in ["talker:talker_0", "talker:talker_0", "talker:talker_1"] {
            self.lingering.push(self.follow(program)?);
        }
        pause(Duration::from_secs(1))
    }

    fn stop(&mut self) -> Result<()> {
        self.lingering.clear();
        // It stops its programs before it exits.
        self.process.take().map_or(Ok(()), |process| {
            process.signal(libc::SIGCONT);
            process.end(libc::SIGTERM)
        })
    }
}
