//! Runs audits in parts, so that events are read in between however many descriptors there are.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context as _, Result};
use fdwatch_core::{engine::Engine, recording::Frame};
use fdwatch_host::proc;
use fdwatch_probe::{Probe, Snapshot};

use crate::{
    audits::Audits,
    clock::{now, thread_time},
    message::warn,
    recorder::{FileRecorder, RECORDING_FAILED, mark},
};

/// Time that an audit may take at each tick.
const STEP: Duration = Duration::from_millis(5);

/// The same for an audit after records were lost.
const REPAIR_STEP: Duration = Duration::from_millis(20);

/// Processes that are looked up in /proc at each tick.
const MAX_CHECKS: usize = 128;

/// An audit in progress, and processes that may have ended.
#[derive(Default)]
pub(crate) struct Auditing {
    running: Option<Running>,
    /// Processes to look up in /proc.
    unverified: VecDeque<u32>,
    /// Processes that /proc no longer had at the last tick.
    ended: Vec<u32>,
}

struct Running {
    snapshot: Snapshot,
    /// CPU time so far, in nanoseconds.
    took: u64,
}

impl Auditing {
    /// Compares a part of the model with a snapshot, if an audit is due or in progress. Called at each tick. With
    /// `is_shed`, begins no audit except after records were lost.
    pub(crate) fn step(
        &mut self,
        probe: &mut Probe,
        engine: &mut Engine,
        recorder: &mut Option<FileRecorder>,
        audits: &mut Audits,
        is_shed: bool,
    ) -> Result<()> {
        self.check_processes(engine, recorder)?;
        let mut running = match self.running.take() {
            Some(running) => running,
            None if is_shed && !audits.is_repairing() => return Ok(()),
            None if !audits.is_due(now(), engine.model.has_racing_fds()) => return Ok(()),
            None => match probe.begin_snapshot() {
                Ok(snapshot) => {
                    mark(recorder, Frame::BeginAudit)?;
                    engine.begin_audit();
                    Running { snapshot, took: 0 }
                }
                Err(error) => {
                    warn(&format!("{error}; retrying later"));
                    audits.finish(0, now(), None);
                    return Ok(());
                }
            },
        };
        let began = thread_time();
        let limit = if audits.is_repairing() {
            REPAIR_STEP
        } else {
            STEP
        };
        let taken = probe.continue_snapshot(&mut running.snapshot, Some(limit), |record| {
            if let Some(recorder) = recorder {
                recorder.record(record);
            }
            engine.record(record, now());
        });
        running.took += thread_time() - began;
        let is_open = match taken {
            Ok(false) => {
                self.running = Some(running);
                return Ok(());
            }
            Ok(true) => {
                mark(recorder, Frame::EndAudit)?;
                let outcome = engine.end_audit();
                engine.model.free_caches();
                self.unverified.extend(outcome.unvisited);
                Some(outcome.is_open)
            }
            // Differences of this time are found by the next audit.
            Err(error) => {
                mark(recorder, Frame::AbandonAudit)?;
                engine.abandon_audit();
                warn(&format!("{error}; retrying later"));
                None
            }
        };
        audits.finish(running.took, now(), is_open);
        Ok(())
    }

    /// Checks soon, before others, that these processes still exist.
    pub(crate) fn check_first(&mut self, processes: impl IntoIterator<Item = u32>) {
        for tgid in processes {
            self.unverified.push_front(tgid);
        }
    }

    /// Removes processes that have ended from the model. One that has just ended is removed by its own record, which
    /// is read before the next tick: only what is still there then has ended unnoticed.
    fn check_processes(
        &mut self,
        engine: &mut Engine,
        recorder: &mut Option<FileRecorder>,
    ) -> Result<()> {
        for tgid in std::mem::take(&mut self.ended) {
            if engine.model.process(tgid).is_none() || !proc::is_stale_process(&engine.model, tgid)
            {
                continue;
            }
            engine.forget(tgid);
            if let Some(recorder) = recorder {
                let tgid = u64::from(tgid).to_le_bytes();
                recorder
                    .frame(Frame::Forget, now(), &tgid)
                    .context(RECORDING_FAILED)?;
            }
        }
        let some = self.unverified.len().min(MAX_CHECKS);
        let model = &engine.model;
        let unverified = self.unverified.drain(..some);
        self.ended
            .extend(unverified.filter(|&tgid| proc::is_stale_process(model, tgid)));
        Ok(())
    }
}
