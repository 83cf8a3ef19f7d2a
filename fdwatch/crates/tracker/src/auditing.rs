//! Runs audits in parts, so that events are read in between however many descriptors there are.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context as _, Result};
use fdwatch_core::{model::Moment, recording::Frame};
use fdwatch_host::proc;
use fdwatch_probe::Snapshot;

use crate::{
    clock::{now, thread_time},
    live::{RECORDING_FAILED, Tracker, mark},
    message::warn,
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
}

struct Running {
    snapshot: Snapshot,
    /// CPU time so far, in nanoseconds.
    took: u64,
}

impl Tracker {
    /// Compares a part of the model with a snapshot, if an audit is due or in progress. Called at each tick.
    pub(crate) fn audit_if_due(&mut self) -> Result<()> {
        self.check_processes()?;
        if let Some(running) = self.auditing.running.take() {
            return self.continue_audit(running);
        }
        let is_racing = self.engine.model.has_racing_fds();
        let is_shed = self.shedder.sheds_audits() && !self.audits.is_repairing();
        if is_shed || !self.audits.is_due(now(), is_racing) {
            return Ok(());
        }
        match self.probe.begin_snapshot() {
            Ok(snapshot) => {
                mark(&mut self.recorder, Frame::BeginAudit)?;
                self.engine.begin_audit();
                self.continue_audit(Running { snapshot, took: 0 })
            }
            Err(error) => {
                warn(&format!("{error}; retrying later"));
                self.audits.finish(0, now(), None);
                Ok(())
            }
        }
    }

    fn continue_audit(&mut self, mut running: Running) -> Result<()> {
        let began = thread_time();
        let Self {
            probe,
            engine,
            recorder,
            audits,
            auditing,
            ..
        } = self;
        let step = if audits.is_repairing() {
            REPAIR_STEP
        } else {
            STEP
        };
        let taken = probe.continue_snapshot(&mut running.snapshot, Some(step), |record| {
            if let Some(recorder) = recorder {
                recorder.record(record);
            }
            engine.record(record, now());
        });
        let is_open = match taken {
            Ok(false) => {
                running.took += thread_time() - began;
                auditing.running = Some(running);
                return Ok(());
            }
            Ok(true) => {
                mark(recorder, Frame::EndAudit)?;
                let outcome = engine.end_audit();
                engine.model.free_caches();
                auditing.unverified.extend(outcome.unvisited);
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
        let took = running.took + (thread_time() - began);
        audits.finish(took, now(), is_open);
        Ok(())
    }

    /// Schedules what repairs the model after records were lost: processes with findings are checked first,
    /// because wrong findings are worse than wrong tables.
    pub(crate) fn repair_after_loss(&mut self, now: Moment) {
        for tgid in self.engine.duplicates.processes() {
            self.auditing.unverified.push_front(tgid);
        }
        self.audits.schedule_after_loss(now);
    }

    /// Removes processes that have ended from the model.
    fn check_processes(&mut self) -> Result<()> {
        for _ in 0..MAX_CHECKS {
            let Some(tgid) = self.auditing.unverified.pop_front() else {
                break;
            };
            if !proc::is_stale_process(&self.engine.model, tgid) {
                continue;
            }
            self.engine.forget(tgid);
            if let Some(recorder) = &mut self.recorder {
                let tgid = u64::from(tgid).to_le_bytes();
                recorder
                    .frame(Frame::Forget, now(), &tgid)
                    .context(RECORDING_FAILED)?;
            }
        }
        Ok(())
    }
}
