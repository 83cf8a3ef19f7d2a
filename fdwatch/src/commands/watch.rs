//! `fdwatch watch`: duplicates as they come and go.

use std::process::ExitCode;

use anyhow::Result;

use super::{
    Output, WritingOutput as _, check_pids,
    live::{Follower, Live, Stop, Wanted, now},
    reporter,
};
use crate::{
    cli::Watch,
    diagnose::{Finding, Severity},
    duplicates::Change,
    engine::Engine,
    growth::Growth,
    investigate::{self, Investigator, Source},
    probe::Lost,
    proc,
    report::{BudgetReport, Reporter},
    symbols::Symbols,
};

pub(super) fn run(watch: &Watch) -> Result<ExitCode> {
    let filter = watch.filters.filter()?;
    check_pids(&watch.filters)?;
    let live = Live::start(Wanted {
        ring_bytes: watch.ring_size.0,
        all_types: watch.filters.all_types(),
        max_cpu: watch.budget.max_cpu,
        detail: watch.detail,
        pids: watch.filters.pid.clone(),
        family: None,
    })?;
    let mut watcher = Watcher {
        investigator: Investigator::new(filter, Source::Live),
        reporter: reporter(watch.output.format()),
        symbols: Symbols::default(),
        growth: Growth::default(),
    };
    live.follow(&mut Stop::after(watch.duration), &mut watcher)?;
    Ok(ExitCode::SUCCESS)
}

struct Watcher {
    investigator: Investigator,
    reporter: Reporter<Output>,
    symbols: Symbols,
    growth: Growth,
}

impl Follower for Watcher {
    fn started(&mut self, live: &mut Live) -> Result<()> {
        self.reporter.started(&live.account, now()).writing_output()
    }

    /// Tells what has changed, of rotated files as well if it is time to look for them.
    fn tick(&mut self, live: &mut Live, is_slow: bool) -> Result<()> {
        let Self {
            investigator,
            reporter,
            symbols,
            growth,
        } = self;
        let Live {
            engine, account, ..
        } = &mut *live;
        let Engine {
            model,
            duplicates,
            details,
            ..
        } = engine;
        let now = now();
        reporter.clock.adjust(proc::wall_time(), now.0);
        let mut result = Ok(());
        let mut suspects = Vec::new();
        let mut tell = |finding: Option<Finding>| {
            if let Some(mut finding) = finding {
                investigate::add_detail(&mut finding, details, symbols);
                if finding.change != Change::Gone && finding.severity >= Severity::Warning {
                    suspects.push(finding.process.pid);
                }
                account.count_finding(&finding);
                if result.is_ok() {
                    result = reporter.finding(&finding, now);
                }
            }
        };
        duplicates.settle(model, now, &mut |duplicate, model| {
            tell(investigator.finding(duplicate, model));
        });
        for stray in model.take_strays(now) {
            if let Some(double) = duplicates.closed_twice(stray, model) {
                tell(investigator.double_close(&double, model, details));
            }
        }
        if is_slow {
            duplicates.sweep(
                model,
                now,
                &mut investigate::path_of,
                &mut |rotation, model| {
                    tell(investigator.rotation(rotation, model));
                },
            );
        }
        if is_slow {
            duplicates.look_for_shared(model, now, &mut |shared, model| {
                tell(investigator.shared(shared, model));
            });
            symbols.forget();
            let events = growth.look(model, now, |tgid| {
                investigate::process(tgid, model).most_fds
            });
            for event in events {
                if let Some(report) = investigator.growth(event, model) {
                    if report.change != Change::Gone {
                        suspects.push(report.process.pid);
                    }
                    reporter.growth(&report, now).writing_output()?;
                }
            }
        }
        result.and_then(|()| reporter.flush()).writing_output()?;
        for tgid in suspects {
            live.suspect(tgid);
        }
        Ok(())
    }

    fn lost(&mut self, _: &mut Live, lost: &Lost) -> Result<()> {
        self.reporter
            .loss(lost, now())
            .and_then(|()| self.reporter.flush())
            .writing_output()
    }

    fn budget(&mut self, _: &mut Live, report: &BudgetReport) -> Result<()> {
        self.reporter
            .budget(report, now())
            .and_then(|()| self.reporter.flush())
            .writing_output()
    }

    fn ended(&mut self, live: &mut Live) -> Result<()> {
        self.reporter.summary(&live.account, now()).writing_output()
    }
}
