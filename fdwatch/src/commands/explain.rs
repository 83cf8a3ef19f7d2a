//! `fdwatch explain PID [FD|PATH]`: why a process holds what it holds, step by step.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Result;
use fdwatch_tracker::explain::{Asked, add, explanation};

#[cfg(feature = "agent")]
use super::remote::Remote;
use super::{WritingOutput as _, check_pid, reporter};
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
use fdwatch_render::text::started;
use fdwatch_tracker::{
    FindingCollector, Follower, Live, Stop, Update, Wanted,
    message::{info, warn},
    now, snapshot,
};

pub(super) fn run(explain: &Explain) -> Result<ExitCode> {
    check_pid(explain.pid)?;
    #[cfg(feature = "agent")]
    if !explain.source.proc
        && let Some(agent) = Remote::find(&explain.ask)?
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
        let live = Live::start(Wanted {
            ring_bytes: default_ring_bytes(),
            all_types: true,
            max_cpu: MaxCpu(100.0),
            detail: Detail::Suspects,
            pids: vec![explain.pid],
            family: None,
            shows_steps: true,
        })?;
        live.follow(&mut Stop::after(Some(duration)), &mut explainer)?;
    } else {
        let snapshot = snapshot::take(explain.source.proc, true)?;
        snapshot.check_table(explain.pid)?;
        let snapshot::Snapshot { mut engine, .. } = snapshot;
        let now = engine.model.now();
        let mut news = Vec::new();
        let collector = &mut explainer.collector;
        collector.look_at(&mut engine, now, true, |it| news.push(it));
        news.into_iter().for_each(|it| explainer.gather(it));
        explainer.tell(&mut engine, now)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Gathers what is found of the process, until it is told.
struct Explainer<'a> {
    explain: &'a Explain,
    collector: FindingCollector,
    /// By number, as it was told last, with all that was closed of it.
    gathered: BTreeMap<u64, Finding>,
}

impl Explainer<'_> {
    /// Keeps what has been found since the last time.
    fn gather(&mut self, news: Update) {
        if let Update::Finding(_, finding) = news {
            add(&mut self.gathered, finding);
        }
    }

    fn tell(&mut self, engine: &mut Engine, now: Moment) -> Result<()> {
        let asked = Asked {
            pid: self.explain.pid,
            target: self.explain.target.as_ref(),
            followed: self.explain.duration.is_some(),
        };
        let found = std::mem::take(&mut self.gathered).into_values();
        let explanation = explanation(&asked, found, &mut self.collector, engine)?;
        let mut reporter = reporter(self.explain.output.format());
        reporter
            .report(&explanation, now)
            .and_then(|()| reporter.flush())
            .writing_output()
    }
}

impl Follower for Explainer<'_> {
    fn started(&mut self, live: &mut Live) -> Result<()> {
        info(&started(&live.stats));
        Ok(())
    }

    fn tick(&mut self, live: &mut Live, is_slow: bool) -> Result<()> {
        let mut news = Vec::new();
        self.collector.look(live, is_slow, |it, _| news.push(it));
        news.into_iter().for_each(|it| self.gather(it));
        Ok(())
    }

    fn lost(&mut self, _: &mut Live, lost: &Lost) -> Result<()> {
        warn(&format!(
            "{} lost: the story may have gaps",
            counted(lost.total(), "record")
        ));
        Ok(())
    }

    fn budget(&mut self, _: &mut Live, _: &BudgetReport) -> Result<()> {
        Ok(())
    }

    fn ended(&mut self, live: &mut Live) -> Result<()> {
        self.tell(&mut live.engine, now())
    }
}
