//! `fdwatch watch`: duplicates as they come and go.

use std::process::ExitCode;

use anyhow::Result;

use super::{
    Output, WritingOutput as _, check_pids,
    live::{Follower, Live, now},
    reporter,
};
use crate::{
    cli::Watch,
    diagnose::Finding,
    investigate::{self, Details, Investigator},
    probe::Lost,
    proc,
    report::Reporter,
};

pub(super) fn run(watch: &Watch) -> Result<ExitCode> {
    let filter = watch.filters.filter()?;
    check_pids(&watch.filters)?;
    let live = Live::start(watch.ring_size.0, watch.filters.all)?;
    let mut watcher = Watcher {
        investigator: Investigator::new(filter, Details::Live),
        reporter: reporter(watch.output.format()),
    };
    live.follow(watch.duration, &mut watcher)?;
    Ok(ExitCode::SUCCESS)
}

struct Watcher {
    investigator: Investigator,
    reporter: Reporter<Output>,
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
        } = self;
        let Live {
            engine, account, ..
        } = live;
        let now = now();
        reporter.clock.adjust(proc::wall_time(), now.0);
        let mut result = Ok(());
        let mut tell = |finding: Option<Finding>| {
            if let Some(finding) = finding {
                account.count_finding(&finding);
                if result.is_ok() {
                    result = reporter.finding(&finding, now);
                }
            }
        };
        engine.settle(now, &mut |duplicate, model| {
            tell(investigator.finding(duplicate, model));
        });
        if is_slow {
            engine.sweep(now, &mut investigate::path_of, &mut |rotation, model| {
                tell(investigator.rotation(rotation, model));
            });
        }
        result.and_then(|()| reporter.flush()).writing_output()
    }

    fn lost(&mut self, _: &mut Live, lost: &Lost) -> Result<()> {
        self.reporter
            .loss(lost, now())
            .and_then(|()| self.reporter.flush())
            .writing_output()
    }

    fn ended(&mut self, live: &mut Live) -> Result<()> {
        self.reporter.summary(&live.account, now()).writing_output()
    }
}
