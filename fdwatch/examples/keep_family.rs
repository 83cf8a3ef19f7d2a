//! Makes of a recording one that can be given away: with what one process did, and those that
//! descend from it, and nothing of others on the host, or of its name.
//!
//! `keep_family RECORDING NEW-RECORDING PID [PID-TO-LEAVE-OUT...]`

use std::{
    collections::HashSet,
    env,
    fs::File,
    io::{BufReader, BufWriter},
};

use anyhow::{Context as _, Result};
use fdwatch_common::Event;
use fdwatch_core::recording::{Frame, Player, Preamble, Recorder};

/// What stands in place of the host's name.
const HOST: &str = "example";

/// Who is kept, as far as is known from what was gone through.
struct Family {
    members: HashSet<u32>,
    left_out: HashSet<u32>,
}

impl Family {
    fn keeps(&mut self, record: &[u8]) -> bool {
        let Ok(event) = Event::parse(record) else {
            return false;
        };
        let process = event.header().tgid;
        match event {
            Event::Fork(fork) if fork.parent_tgid != process => {
                self.meet(process, fork.parent_tgid);
            }
            // In the order of their numbers: parents come before their children.
            Event::SnapshotTask(task) if self.members.contains(&task.parent) => {
                self.meet(process, task.parent);
            }
            _ => {}
        }
        self.members.contains(&process)
    }

    fn meet(&mut self, process: u32, parent: u32) {
        // A number serves again.
        if self.members.contains(&parent) && !self.left_out.contains(&process) {
            self.members.insert(process);
        } else {
            self.members.remove(&process);
        }
    }
}

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mut next = || arguments.next().context("an argument is missing");
    let (from, to, first) = (next()?, next()?, next()?.parse()?);
    let left_out = arguments.map(|pid| pid.parse()).collect::<Result<_, _>>()?;
    let mut family = Family {
        members: HashSet::from([first]),
        left_out,
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
