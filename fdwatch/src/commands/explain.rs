//! `fdwatch explain PID [FD|PATH]`: explains how a process came to hold its descriptors.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Result;
use fdwatch_tracker::explain::{ExplainRequest, explanation, merge};

#[cfg(feature = "agent")]
use super::remote::Remote;
use super::{
    output::{WritingOutput as _, reporter},
    pid,
};
use crate::cli::Explain;
use fdwatch_core::{
    Lost,
    diagnose::{Finding, Severity},
    engine::Engine,
    filter::Filter,
    model::Moment,
    plural::counted,
    ring::default_ring_bytes,
};
use fdwatch_events::BudgetReport;
use fdwatch_host::investigate::{Investigator, Source};
use fdwatch_options::{Detail, MaxCpu};
use fdwatch_tracker::message::info;
use fdwatch_tracker::{
    EventHandler, FindingCollector, SignalOrTimeout, Tracker, TrackerOptions, Update, now,
    priority::DEFAULT_NICE, snapshot,
};

pub(super) fn run(explain: &Explain) -> Result<ExitCode> {
    pid::check(explain.pid)?;
    #[cfg(feature = "agent")]
    if !explain.source.proc
        && let Some(agent) = Remote::find(&explain.agent)?
    {
        return agent.explain(explain);
    }
    let filter = Filter {
        pids: vec![explain.pid],
        severity: Severity::Info,
        ..Filter::default()
    };
    let mut explainer = Explainer {
        explain,
        collector: FindingCollector::new(Investigator::new(filter, Source::Live)),
        gathered: BTreeMap::new(),
    };
    if let Some(duration) = explain.duration {
        let live = Tracker::start(TrackerOptions {
            ring_bytes: default_ring_bytes(),
            all_types: true,
            max_cpu: MaxCpu(100.0),
            detail: Detail::Suspects,
            pids: vec![explain.pid],
            family: None,
            nice: Some(DEFAULT_NICE),
            shows_steps: true,
        })?;
        live.follow(&mut SignalOrTimeout::after(Some(duration)), &mut explainer)?;
    } else {
        let snapshot = snapshot::take(explain.source.proc, true)?;
        snapshot.check_table(explain.pid)?;
        let snapshot::Snapshot { mut engine, .. } = snapshot;
        let now = engine.model.now();
        let mut updates = Vec::new();
        let collector = &mut explainer.collector;
        collector.collect_from(&mut engine, now, true, |update| updates.push(update));
        updates
            .into_iter()
            .for_each(|update| explainer.gather(update));
        explainer.print(&engine, now)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Gathers findings of the process, and prints the explanation at the end.
struct Explainer<'a> {
    explain: &'a Explain,
    collector: FindingCollector,
    /// Latest state of each finding, by id, with all of its closed descriptors.
    gathered: BTreeMap<u64, Finding>,
}

impl Explainer<'_> {
    fn gather(&mut self, update: Update) {
        if let Update::Finding(_, finding) = update {
            merge(&mut self.gathered, finding);
        }
    }

    fn print(&mut self, engine: &Engine, now: Moment) -> Result<()> {
        let request = ExplainRequest {
            pid: self.explain.pid,
            target: self.explain.target.as_ref(),
            followed: self.explain.duration.is_some(),
        };
        let found = std::mem::take(&mut self.gathered).into_values();
        let explanation = explanation(&request, found, &mut self.collector, engine)?;
        let mut reporter = reporter(self.explain.output.format());
        reporter.report(&explanation, now).writing_output()
    }
}

impl EventHandler for Explainer<'_> {
    fn started(&mut self, live: &mut Tracker) -> Result<()> {
        info(&fdwatch_render::text::started(&live.stats));
        Ok(())
    }

    fn tick(&mut self, live: &mut Tracker, is_slow: bool) -> Result<()> {
        self.collector.begin(live, is_slow);
        while let Some(updates) = self.collector.next_updates(live)? {
            updates.into_iter().for_each(|update| self.gather(update));
        }
        Ok(())
    }

    fn lost(&mut self, _: &mut Tracker, lost: &Lost) -> Result<()> {
        fdwatch_tracker::message::warn(&format!(
            "{} lost: the explanation may have gaps",
            counted(lost.total(), "record")
        ));
        Ok(())
    }

    fn budget(&mut self, _: &mut Tracker, _: &BudgetReport) -> Result<()> {
        Ok(())
    }

    fn ended(&mut self, live: &mut Tracker) -> Result<()> {
        self.print(&live.engine, now())
    }
}
