//! `fdwatch replay FILE`: reports what `watch` would have reported of a recording, without details from /proc,
//! such as paths.

use std::{
    fs::File,
    io::{BufReader, Read, Write},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use super::output::{WritingOutput as _, report_run, reporter_of};
use crate::cli::Replay;
use fdwatch_core::{
    engine::Engine,
    filter::Filter,
    model::Moment,
    recording::{Frame, Player},
};
use fdwatch_events::{RunStats, time::Clock};
use fdwatch_host::{
    investigate::{Investigator, Source},
    proc,
};
use fdwatch_render::Reporter;

pub(super) fn run(replay: &Replay) -> Result<ExitCode> {
    let name = replay.file.display();
    let file = File::open(&replay.file).with_context(|| format!("cannot open {name}"))?;
    let player = Player::new(BufReader::new(file)).with_context(|| name.to_string())?;
    let preamble = player.preamble().clone();
    let clock = Clock::new(preamble.wall_time, preamble.boottime);
    let mut reporter = reporter_of(replay.output.format(), preamble.host, clock);
    let filter = replay.filters.filter()?;
    play(
        player,
        &name,
        &mut reporter,
        filter,
        replay.filters.all_types(),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Reports the findings of a recording, and a summary, to `reporter`. Errors name the recording as `name`.
///
/// Generic in its input and output, so that fuzzing can play recordings from memory.
///
/// # Errors
///
/// If the recording cannot be read, or the report cannot be written.
pub fn play<R: Read, W: Write>(
    mut player: Player<R>,
    name: &impl ToString,
    reporter: &mut Reporter<W>,
    filter: Filter,
    all_types: bool,
) -> Result<()> {
    let preamble = player.preamble();
    let began = Moment(preamble.boottime);
    let mut investigator = Investigator::new(filter, Source::Recording);
    let mut engine = Engine::new(preamble.anonymous, all_types);
    let mut stats = RunStats::default();
    let mut now = began;
    loop {
        let (frame, at) = player.next_frame().with_context(|| name.to_string())?;
        now = at.max(now);
        match frame {
            Frame::Records => {
                let taken = player.records(|record| engine.record(record, now));
                taken.with_context(|| name.to_string())?;
            }
            Frame::BeginSnapshot => engine.begin_snapshot(),
            Frame::EndSnapshot => engine.end_snapshot(),
            Frame::BeginAudit => engine.begin_audit(),
            Frame::EndAudit => drop(engine.end_audit()),
            Frame::AbandonAudit => engine.abandon_audit(),
            Frame::Forget => {
                if let Ok(tgid) = player.number().try_into() {
                    engine.forget(tgid);
                }
            }
            Frame::Settle => {
                let mut result = Ok(());
                engine.settle(now, &mut |duplicate, model| {
                    if let Some(finding) = investigator.finding(duplicate, model) {
                        stats.count_finding(&finding);
                        if result.is_ok() {
                            result = reporter.report(&finding, now);
                        }
                    }
                });
                result.writing_output()?;
            }
            Frame::Lost => stats.lost_when_recorded = player.number(),
            Frame::End => break,
        }
    }
    stats.duration = now.since(began);
    stats.take_from(&engine);
    stats.usage = proc::usage();
    report_run(reporter, &stats, now).writing_output()
}
