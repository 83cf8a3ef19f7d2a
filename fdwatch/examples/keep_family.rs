//! Reduces a recording to one process and its descendants, so that it can be shared: other processes and the host's
//! name are removed.
//!
//! Usage: `keep_family RECORDING NEW-RECORDING PID [EXCLUDED-PID...]`

use std::{
    collections::HashSet,
    env,
    fs::File,
    io::{BufReader, BufWriter},
};

use anyhow::{Context as _, Result};
use fdwatch_common::Event;
use fdwatch_core::recording::{Frame, Player, Preamble, Recorder};

/// Replaces the host's name.
const HOST: &str = "example";

/// The processes to keep, as of the last read event.
struct Family {
    members: HashSet<u32>,
    excluded: HashSet<u32>,
}

impl Family {
    fn keeps(&mut self, record: &[u8]) -> bool {
        let Ok(event) = Event::parse(record) else {
            return false;
        };
        let process = event.header().tgid;
        match event {
            Event::Fork(fork) if fork.parent_tgid != process => {
                self.add(process, fork.parent_tgid);
            }
            // In the order of PIDs: parents precede their children.
            Event::SnapshotTask(task) if self.members.contains(&task.parent) => {
                self.add(process, task.parent);
            }
            _ => {}
        }
        self.members.contains(&process)
    }

    fn add(&mut self, process: u32, parent: u32) {
        // A reused PID may belong to another parent.
        if self.members.contains(&parent) && !self.excluded.contains(&process) {
            self.members.insert(process);
        } else {
            self.members.remove(&process);
        }
    }
}

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .context("usage: keep_family RECORDING NEW-RECORDING PID [EXCLUDED-PID...]")
    };
    let (from, to, first) = (next()?, next()?, next()?.parse()?);
    let excluded = arguments.map(|pid| pid.parse()).collect::<Result<_, _>>()?;
    let mut family = Family {
        members: HashSet::from([first]),
        excluded,
    };
    let mut player = Player::new(BufReader::new(File::open(&from).context(from)?))?;
    let preamble = Preamble {
        host: HOST.to_owned(),
        ..player.preamble().clone()
    };
    let to = BufWriter::new(File::create(&to).context(to)?);
    let mut recorder = Recorder::new(to, &preamble)?;
    loop {
        let (frame, at) = player.next_frame()?;
        match frame {
            Frame::Records => {
                player.records(|record| {
                    if family.keeps(record) {
                        recorder.record(record);
                    }
                })?;
                recorder.flush_records(at)?;
            }
            Frame::End => {
                recorder.end(at)?;
                return Ok(());
            }
            Frame::Lost => recorder.frame(frame, at, &player.number().to_le_bytes())?,
            Frame::Forget => {
                let is_kept = u32::try_from(player.number());
                if is_kept.is_ok_and(|process| family.members.contains(&process)) {
                    recorder.frame(frame, at, &player.number().to_le_bytes())?;
                }
            }
            _ => recorder.frame(frame, at, &[])?,
        }
    }
}
