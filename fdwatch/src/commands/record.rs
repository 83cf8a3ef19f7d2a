//! `fdwatch record FILE`: writes the kernel's records to a file, for `fdwatch replay`.

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
use fdwatch_tracker::message::{info, warn};
use fdwatch_tracker::{
    EventHandler, RECORDING_FAILED, SignalOrTimeout, Tracker, TrackerOptions, now,
    priority::DEFAULT_NICE,
};

pub(super) fn run(record: &Record) -> Result<ExitCode> {
    let mut live = Tracker::start(TrackerOptions {
        ring_bytes: record.ring_size.0,
        all_types: true,
        // A recording must be complete, so the budget is a whole processor.
        max_cpu: MaxCpu(100.0),
        detail: Detail::Never,
        pids: Vec::new(),
        family: None,
        nice: Some(DEFAULT_NICE),
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
    let recorder = Recorder::new(BufWriter::new(file), &preamble).context(RECORDING_FAILED)?;
    live.recorder = Some(recorder);
    live.follow(&mut SignalOrTimeout::after(record.duration), &mut Recording)?;
    Ok(ExitCode::SUCCESS)
}

/// Marks in the recording when changes settle.
struct Recording;

impl EventHandler for Recording {
    fn started(&mut self, live: &mut Tracker) -> Result<()> {
        info(&fdwatch_render::text::started(&live.stats));
        Ok(())
    }

    fn tick(&mut self, live: &mut Tracker, _: bool) -> Result<()> {
        // Changes are reported on replay. Settling drops them here.
        live.engine.settle(now(), &mut |_, _| {});
        let Some(recorder) = &mut live.recorder else {
            return Ok(());
        };
        recorder
            .frame(Frame::Settle, now(), &[])
            .context(RECORDING_FAILED)
    }

    fn lost(&mut self, _: &mut Tracker, lost: &Lost) -> Result<()> {
        let total = lost.total();
        warn(&format!(
            "{} {} lost; use a larger --ring-size",
            counted(total, "record"),
            either(&total, "was", "were")
        ));
        Ok(())
    }

    fn budget(&mut self, _: &mut Tracker, _: &BudgetReport) -> Result<()> {
        Ok(())
    }

    fn ended(&mut self, live: &mut Tracker) -> Result<()> {
        if let Some(recorder) = live.recorder.take() {
            recorder.end(now()).context(RECORDING_FAILED)?;
        }
        info(&fdwatch_render::text::summary(&live.stats));
        Ok(())
    }
}
