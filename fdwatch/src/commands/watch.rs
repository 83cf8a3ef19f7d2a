//! `fdwatch watch`: reports duplicates as they appear and disappear.

use std::process::ExitCode;

use anyhow::Result;

#[cfg(feature = "agent")]
use super::remote::Remote;
use super::{
    live_line::LiveLine,
    output::{Output, WritingOutput as _, report_run, reporter},
    pid,
};
use crate::cli::Watch;
use fdwatch_core::Lost;
use fdwatch_events::{BudgetReport, Started};
use fdwatch_host::{
    investigate::{Investigator, Source},
    proc,
};
use fdwatch_render::Reporter;
use fdwatch_tracker::{
    EventHandler, FindingCollector, SignalOrTimeout, Tracker, TrackerOptions, Update, now,
    priority::DEFAULT_NICE,
};

pub(super) fn run(watch: &Watch) -> Result<ExitCode> {
    let filter = watch.filters.filter()?;
    pid::check_all(&watch.filters.pid)?;
    #[cfg(feature = "agent")]
    if let Some(agent) = Remote::find(&watch.agent)?
        && let Some(code) = agent.watch(watch)?
    {
        return Ok(code);
    }
    let live = Tracker::start(TrackerOptions {
        ring_bytes: watch.ring_size.0,
        all_types: watch.filters.all_types(),
        max_cpu: watch.budget.max_cpu,
        detail: watch.detail,
        pids: watch.filters.pid.clone(),
        family: None,
        nice: Some(DEFAULT_NICE),
        shows_steps: true,
    })?;
    let mut watcher = Watcher {
        collector: FindingCollector::new(Investigator::new(filter, Source::Live)),
        reporter: reporter(watch.output.format()),
        live_line: LiveLine::new(watch.output.format()),
    };
    live.follow(&mut SignalOrTimeout::after(watch.duration), &mut watcher)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints findings and growth of tables.
struct Watcher {
    collector: FindingCollector,
    reporter: Reporter<Output>,
    live_line: LiveLine,
}

impl EventHandler for Watcher {
    fn started(&mut self, live: &mut Tracker) -> Result<()> {
        report_run(&mut self.reporter, &Started(&live.stats), now()).writing_output()
    }

    fn tick(&mut self, live: &mut Tracker, is_slow: bool) -> Result<()> {
        let Self {
            collector,
            reporter,
            live_line,
        } = self;
        let now = now();
        reporter.wire.clock.adjust(proc::wall_time(), now.0);
        collector.begin(live, is_slow);
        while let Some(updates) = collector.next_updates(live)? {
            for update in updates {
                live_line.clear();
                match &update {
                    Update::Finding(_, finding) => {
                        live.stats.count_finding(finding);
                        reporter.report(finding, now)
                    }
                    Update::Growth(report) => reporter.report(report, now),
                }
                .writing_output()?;
            }
        }
        reporter.flush().writing_output()?;
        if is_slow {
            live_line.show(live, now);
        }
        Ok(())
    }

    fn lost(&mut self, _: &mut Tracker, lost: &Lost) -> Result<()> {
        self.live_line.clear();
        self.reporter
            .report(lost, now())
            .and_then(|()| self.reporter.flush())
            .writing_output()
    }

    fn budget(&mut self, _: &mut Tracker, report: &BudgetReport) -> Result<()> {
        self.live_line.clear();
        self.reporter
            .report(report, now())
            .and_then(|()| self.reporter.flush())
            .writing_output()
    }

    fn ended(&mut self, live: &mut Tracker) -> Result<()> {
        self.live_line.clear();
        report_run(&mut self.reporter, &live.stats, now()).writing_output()
    }
}
