//! Compares processes and findings with the thresholds of the configuration.

use fdwatch_tracker::Tracker;

use crate::agent_loop::AgentLoop;
use crate::{
    config::Config,
    rules::{Lookup, ProcessCounts, Rules},
};
use fdwatch_core::{
    diagnose::{Finding, ProcessInfo},
    growth::Growth,
    model::{FileType, Model, Moment, Table},
};
use fdwatch_events::event::{EventKind, ThresholdReport};
use fdwatch_host::{investigate, proc};

/// Interval of the comparison: nanoseconds.
const COMPARE_INTERVAL: u64 = 5_000_000_000;

/// The lookups for processes that may exceed a threshold.
struct HostLookup<'a> {
    model: &'a Model,
    growth: &'a Growth,
}

impl Lookup for HostLookup<'_> {
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
    /// Replaces the rules and thresholds.
    pub(super) fn set_rules(&mut self, config: &Config, at: Moment) {
        self.rules = Rules::new(config);
        let ended = self.thresholds.reload(config);
        self.report_thresholds(ended, at);
    }

    pub(super) fn measure_finding(&mut self, finding: &Finding, at: Moment) {
        let reports = self.thresholds.finding(finding);
        self.report_thresholds(reports, at);
    }

    /// Compares all processes, if that is due.
    pub(super) fn measure_all(&mut self, live: &Tracker, at: Moment) {
        if at.since(self.measured) < COMPARE_INTERVAL {
            return;
        }
        self.measured = at;
        let model = &live.engine.model;
        let processes = model.processes().map(|process| {
            let table = model.table_of(process.tgid);
            ProcessCounts {
                pid: process.tgid,
                start_time: process.start_time,
                descriptors: table.map_or(0, Table::len),
                holds_deleted: self.watches_pinned && table.is_some_and(holds_deleted),
            }
        });
        let mut lookup = HostLookup {
            model,
            growth: self.collector.growth(),
        };
        let reports = self.thresholds.update(processes, &mut lookup);
        self.report_thresholds(reports, at);
    }

    fn report_thresholds(&mut self, reports: Vec<ThresholdReport>, at: Moment) {
        for report in reports {
            let parts = [report.threshold.to_bits()];
            let subject = format!("threshold {}", report.of.name());
            let key = self.key(&subject, &report.process, &parts);
            self.report(EventKind::Threshold(Box::new(report)), Some(key), at);
        }
    }
}

fn holds_deleted(table: &Table) -> bool {
    table
        .iter()
        .any(|(_, entry)| entry.was_unlinked() && entry.file_type() == FileType::Regular)
}
