//! Keeps fdwatch within its CPU budget: measures its CPU time, and drops work as [`Budget`] decides.

use crate::message::warn;
use fdwatch_common::Header;
use fdwatch_core::{
    budget::{Budget, BudgetStep, ShedLevel},
    engine::Engine,
};
use fdwatch_events::BudgetReport;
use fdwatch_host::proc;
use fdwatch_probe::{Probe, ProbeError};
use rustc_hash::FxHashMap;

use crate::clock::now;

/// Work that is dropped to keep the budget.
pub struct LoadShedder {
    /// Measures and decides.
    pub budget: Budget,
    /// Events per process since the last step. Counted only when a step may need them.
    census: Option<FxHashMap<u32, u64>>,
    /// Processes that are not followed, and their start times.
    not_followed: FxHashMap<u32, u64>,
}

/// Result of a step that dropped or resumed work.
pub(crate) struct Change {
    pub(crate) report: BudgetReport,
    /// Whether processes were dropped or followed again, so that the model needs an audit.
    pub(crate) needs_audit: bool,
}

impl LoadShedder {
    pub(crate) fn new(percent: f64) -> Self {
        Self {
            budget: Budget::new(percent),
            census: None,
            not_followed: FxHashMap::default(),
        }
    }

    /// Returns how many processes are not followed.
    pub fn not_followed(&self) -> usize {
        self.not_followed.len()
    }

    pub(crate) fn sheds_audits(&self) -> bool {
        self.budget.shedding() == ShedLevel::Audits
    }

    pub(crate) fn sheds_detail(&self) -> bool {
        self.budget.shedding() >= ShedLevel::Detail
    }

    /// Counts a record for its process, while a step may need that.
    pub(crate) fn count(&mut self, record: &[u8]) {
        if let Some(census) = &mut self.census
            && let Some(header) = Header::of(record)
        {
            *census.entry(header.tgid).or_default() += 1;
        }
    }

    /// Measures CPU time and takes the next step, if one is due. Called once a second. Processes for which
    /// `is_important` returns true are dropped last.
    pub(crate) fn update(
        &mut self,
        probe: &mut Probe,
        engine: &mut Engine,
        is_important: impl Fn(u32) -> bool,
    ) -> Result<Option<Change>, ProbeError> {
        self.forget_exited(probe, engine)?;
        let usage = proc::usage();
        let Some(step) = self.budget.update(now(), usage.user + usage.system) else {
            return Ok(None);
        };
        let mut needs_audit = false;
        match step {
            BudgetStep::Shed(ShedLevel::Audits) => {
                // The next step drops the processes with most events.
                self.census = Some(FxHashMap::default());
            }
            BudgetStep::Shed(ShedLevel::Busiest) => {
                self.drop_busiest(probe, engine, is_important);
                needs_audit = true;
            }
            BudgetStep::ShedMore => {
                if !self.drop_busiest(probe, engine, is_important) {
                    return Ok(None);
                }
            }
            BudgetStep::Shed(_) => {}
            BudgetStep::Resume => {
                self.follow_all(probe, engine)?;
                needs_audit = true;
            }
        }
        let mut not_followed: Vec<_> = self.not_followed.keys().copied().collect();
        not_followed.sort_unstable();
        let report = BudgetReport {
            shedding: self.budget.shedding(),
            percent: self.budget.percent(),
            percent_used: self.budget.percent_used(),
            not_followed,
        };
        Ok(Some(Change {
            report,
            needs_audit,
        }))
    }

    /// Stops following the busiest processes. Returns whether there were any.
    fn drop_busiest(
        &mut self,
        probe: &mut Probe,
        engine: &mut Engine,
        is_important: impl Fn(u32) -> bool,
    ) -> bool {
        let census = self.census.replace(FxHashMap::default());
        let busiest = self
            .budget
            .busiest(census.unwrap_or_default(), is_important);
        let mut has_dropped = false;
        for tgid in busiest {
            let Some(process) = engine.model.process(tgid) else {
                continue;
            };
            let start_time = process.start_time;
            if let Err(error) = probe.follow(tgid, false) {
                // The kernel's map is full.
                warn(&error.to_string());
                break;
            }
            engine.model.stop_following(tgid);
            self.not_followed.insert(tgid, start_time);
            has_dropped = true;
        }
        has_dropped
    }

    fn follow_all(&mut self, probe: &mut Probe, engine: &mut Engine) -> Result<(), ProbeError> {
        self.census = None;
        for (tgid, _) in std::mem::take(&mut self.not_followed) {
            probe.follow(tgid, true)?;
            engine.model.follow_again(tgid);
        }
        Ok(())
    }

    /// Resumes following the PIDs of dropped processes that have exited, as other processes may reuse them.
    fn forget_exited(&mut self, probe: &mut Probe, engine: &Engine) -> Result<(), ProbeError> {
        let model = &engine.model;
        let exited = self.not_followed.iter();
        let exited = exited.filter(|&(&tgid, &start_time)| !model.is_running(tgid, start_time));
        let exited: Vec<u32> = exited.map(|(&tgid, _)| tgid).collect();
        for tgid in exited {
            self.not_followed.remove(&tgid);
            probe.follow(tgid, true)?;
        }
        Ok(())
    }
}
