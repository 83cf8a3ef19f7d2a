//! `fdwatch record FILE`: the records of the ring, to be gone through again by `replay`.

use std::{fs::File, io::BufWriter, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::cli::Record;
use fdwatch_core::{
    Lost,
    plural::{counted, either},
    recording::{Frame, Preamble, Recorder},
};
use fdwatch_events::BudgetReport;
use fdwatch_host::proc;
use fdwatch_options::{Detail, MaxCpu};
use fdwatch_render::text::{started, summary};
use fdwatch_tracker::{
    CANNOT_RECORD, Follower, Live, Stop, Wanted,
    message::{info, warn},
    now,
};

pub(super) fn run(record: &Record) -> Result<ExitCode> {
    let mut live = Live::start(Wanted {
        ring_bytes: record.ring_size.0,
        all_types: true,
        // All of it is wanted, whatever it takes.
        max_cpu: MaxCpu(100.0),
        detail: Detail::Never,
        pids: Vec::new(),
        family: None,
        shows_steps: true,
    })?;
    let file = File::create(&record.file)
        .with_context(|| format!("cannot create {}", record.file.display()))?;
    let preamble = Preamble {
        anonymous: proc::anonymous_devices(),
        wall_time: proc::wall_time(),
        boottime: proc::boottime(),
        host: proc::hostname(),
    };
    let recorder = Recorder::new(BufWriter::new(file), &preamble).context(CANNOT_RECORD)?;
    live.recorder = Some(recorder);
    live.follow(&mut Stop::after(record.duration), &mut Recording)?;
    Ok(ExitCode::SUCCESS)
}

struct Recording;

impl Follower for Recording {
    fn started(&mut self, live: &mut Live) -> Result<()> {
        info(&started(&live.stats));
        Ok(())
    }

    fn tick(&mut self, live: &mut Live, _: bool) -> Result<()> {
        // What has changed is told when it is replayed; here it is only to be forgotten.
        live.engine.settle(now(), &mut |_, _| {});
        let Some(recorder) = &mut live.recorder else {
            return Ok(());
        };
        recorder
            .frame(Frame::Settle, now(), &[])
            .context(CANNOT_RECORD)
    }

    fn lost(&mut self, _: &mut Live, lost: &Lost) -> Result<()> {
        let total = lost.total();
        warn(&format!(
            "{} {} lost: increase --ring-size",
            counted(total, "record"),
            either(&total, "was", "were")
        ));
        Ok(())
    }

    fn budget(&mut self, _: &mut Live, _: &BudgetReport) -> Result<()> {
        Ok(())
    }

    fn ended(&mut self, live: &mut Live) -> Result<()> {
        if let Some(recorder) = live.recorder.take() {
            recorder.end(now()).context(CANNOT_RECORD)?;
        }
        info(&summary(&live.stats));
        Ok(())
    }
}
