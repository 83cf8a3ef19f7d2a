//! Keeps to the budget: measures what fdwatch itself uses, and leaves undone what [`Budget`] says.

use crate::message::warn;
use anyhow::Result;
use fdwatch_common::Header;
use rustc_hash::FxHashMap;

use super::{Follower, Live, now};
use fdwatch_core::{
    budget::{Budget, Shedding, Step},
    model::Moment,
};
use fdwatch_events::BudgetReport;
use fdwatch_host::proc;
use fdwatch_probe::ProbeError;

/// What is left undone for the sake of the budget.
pub struct LoadShedder {
    pub budget: Budget,
    /// How many events each process made lately: counted only when it may matter soon.
    census: Option<FxHashMap<u32, u64>>,
    /// Processes that are not followed, and when each was started.
    not_followed: FxHashMap<u32, u64>,
}

impl LoadShedder {
    pub fn new(percent: f64) -> Self {
        Self {
            budget: Budget::new(percent),
            census: None,
            not_followed: FxHashMap::default(),
        }
    }

    /// How many processes are not followed.
    pub fn not_followed(&self) -> usize {
        self.not_followed.len()
    }

    /// Whether audits are left undone.
    pub fn sheds_audits(&self) -> bool {
        self.budget.shedding() == Shedding::Audits
    }

    /// Whether detail is.
    pub fn sheds_detail(&self) -> bool {
        self.budget.shedding() >= Shedding::Detail
    }

    /// Counts whose record it is, while that is wanted.
    pub fn count(&mut self, record: &[u8]) {
        if let Some(census) = &mut self.census
            && let Some(header) = Header::of(record)
        {
            *census.entry(header.tgid).or_default() += 1;
        }
    }
}

impl Live {
    /// Looks at what was used, and does what is to be done about it. Once a second.
    pub fn keep_to_budget(&mut self, follower: &mut impl Follower) -> Result<()> {
        self.forget_ended()?;
        let usage = proc::usage();
        let Some(step) = self.shed.budget.look(now(), usage.user + usage.system) else {
            return Ok(());
        };
        match step {
            Step::Shed(Shedding::Audits) => {
                // For the next step to know whom to leave out.
                self.shed.census = Some(FxHashMap::default());
            }
            Step::Shed(Shedding::Busiest) => {
                self.stop_following_busiest()?;
                self.audit_soon();
            }
            Step::ShedMore => {
                if !self.stop_following_busiest()? {
                    // EventKind once already.
                    return Ok(());
                }
            }
            Step::Shed(_) => {}
            Step::Resume => self.follow_all()?,
        }
        self.ask_for_detail();
        self.stats.shedding = self.shed.budget.shedding();
        self.stats.most_not_followed = self
            .stats
            .most_not_followed
            .max(self.shed.not_followed.len());
        let mut not_followed: Vec<_> = self.shed.not_followed.keys().copied().collect();
        not_followed.sort_unstable();
        let report = BudgetReport {
            shedding: self.shed.budget.shedding(),
            percent: self.shed.budget.percent(),
            percent_used: self.shed.budget.percent_used(),
            not_followed,
        };
        follower.budget(self, &report)
    }

    /// Leaves out the busiest processes. Whether there were any to leave out.
    fn stop_following_busiest(&mut self) -> Result<bool> {
        let census = self.shed.census.replace(FxHashMap::default());
        let busiest = self.shed.budget.busiest(census.unwrap_or_default());
        let mut are_any = false;
        for tgid in busiest {
            let Some(process) = self.engine.model.process(tgid) else {
                continue;
            };
            let start_time = process.start_time;
            if let Err(error) = self.probe.follow(tgid, false) {
                // There is no room for more.
                warn(&error.to_string());
                break;
            }
            self.engine.model.stop_following(tgid);
            self.shed.not_followed.insert(tgid, start_time);
            are_any = true;
        }
        Ok(are_any)
    }

    fn follow_all(&mut self) -> Result<(), ProbeError> {
        self.shed.census = None;
        for (tgid, _) in std::mem::take(&mut self.shed.not_followed) {
            self.probe.follow(tgid, true)?;
            self.engine.model.follow_again(tgid);
        }
        self.audit_soon();
        Ok(())
    }

    /// Who has ended is not left out any more: another may have its number.
    fn forget_ended(&mut self) -> Result<(), ProbeError> {
        let model = &self.engine.model;
        let ended = self.shed.not_followed.iter();
        let ended = ended.filter(|&(&tgid, &start_time)| !model.is_there(tgid, start_time));
        let ended: Vec<u32> = ended.map(|(&tgid, _)| tgid).collect();
        for tgid in ended {
            self.shed.not_followed.remove(&tgid);
            self.probe.follow(tgid, true)?;
        }
        Ok(())
    }

    fn audit_soon(&mut self) {
        if let Some(due) = &mut self.next_audit {
            *due = (*due).min(Moment(now().0));
            self.is_second_look = false;
        }
    }
}
