//! Processes and findings, held against the thresholds of the configuration.

use fdwatch_tracker::Live;

use crate::agent_loop::AgentLoop;
use crate::{
    config::Config,
    rules::{Ask, Numbers, Rules},
};
use fdwatch_core::{
    diagnose::{Finding, ProcessInfo},
    growth::Growth,
    model::{FileType, Model, Moment, Table},
};
use fdwatch_events::event::{EventKind, ThresholdReport};
use fdwatch_host::{investigate, proc};

/// How often all processes are looked at: nanoseconds.
const EVERY: u64 = 5_000_000_000;

/// What is asked of processes that may be beyond.
struct Asking<'a> {
    model: &'a Model,
    growth: &'a Growth,
}

impl Ask for Asking<'_> {
    fn limit(&mut self, pid: u32) -> Option<u64> {
        proc::fd_limit(pid)
    }

    fn growth_per_hour(&mut self, pid: u32) -> Option<u64> {
        self.growth.per_hour(pid)
    }

    fn pinned_bytes(&mut self, pid: u32) -> u64 {
        let table = self.model.table_of(pid);
        table.map_or(0, |table| investigate::pinned(pid, table).bytes)
    }

    fn process(&mut self, pid: u32) -> ProcessInfo {
        investigate::process(pid, self.model)
    }
}

impl AgentLoop {
    /// Other rules hold.
    pub(super) fn set_rules(&mut self, config: &Config, at: Moment) {
        self.rules = Rules::new(config);
        let over = self.thresholds.reload(config);
        self.tell_thresholds(over, at);
    }

    pub(super) fn measure_finding(&mut self, finding: &Finding, at: Moment) {
        let reports = self.thresholds.finding(finding);
        self.tell_thresholds(reports, at);
    }

    /// Looks at all processes, if it is time.
    pub(super) fn measure_all(&mut self, live: &Live, at: Moment) {
        if at.since(self.measured) < EVERY {
            return;
        }
        self.measured = at;
        let model = &live.engine.model;
        let processes = model.processes().map(|process| {
            let table = model.table_of(process.tgid);
            Numbers {
                pid: process.tgid,
                start_time: process.start_time,
                descriptors: table.map_or(0, Table::len),
                holds_deleted: self.watches_pinned && table.is_some_and(holds_deleted),
            }
        });
        let mut asking = Asking {
            model,
            growth: self.collector.growth(),
        };
        let reports = self.thresholds.look(processes, &mut asking);
        self.tell_thresholds(reports, at);
    }

    fn tell_thresholds(&mut self, reports: Vec<ThresholdReport>, at: Moment) {
        for report in reports {
            let parts = [report.threshold.to_bits()];
            let subject = format!("threshold {}", report.of.name());
            let key = self.key(&subject, &report.process, &parts);
            self.tell(EventKind::Threshold(Box::new(report)), Some(key), at);
        }
    }
}

fn holds_deleted(table: &Table) -> bool {
    table
        .iter()
        .any(|(_, slot)| slot.was_unlinked() && slot.file_type() == FileType::Regular)
}
