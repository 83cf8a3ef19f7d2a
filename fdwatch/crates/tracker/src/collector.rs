//! What there is to tell of what has changed: looks for it in all the ways there are. How it is told
//! is not known here.

use super::{Live, now};
use fdwatch_core::{
    diagnose::{Finding, Severity},
    duplicates::Change,
    engine::Engine,
    growth::Growth,
    model::Moment,
};
use fdwatch_events::{GrowthReport, RunStats};
use fdwatch_host::{
    investigate::{self, Investigator},
    proc,
    symbols::Symbols,
};

/// Looks for what there is to tell.
pub struct FindingCollector {
    pub investigator: Investigator,
    pub symbols: Symbols,
    growth: Growth,
}

/// Something to tell.
pub enum Update {
    /// A finding, and what it is about.
    Finding(Subject, Finding),
    /// A table that grows, or does no more.
    Growth(GrowthReport),
}

/// What a finding is about. A file may be held twice, and be rotated besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The descriptors of one table on one file.
    File,
    /// A file that was rotated while it is held.
    Rotation,
    /// A file that several processes write.
    SharedFile,
    /// A close of what was closed already.
    DoubleClose,
}

impl FindingCollector {
    pub fn new(investigator: Investigator) -> Self {
        Self {
            investigator,
            symbols: Symbols::default(),
            growth: Growth::default(),
        }
    }

    /// The counts of tables that have many descriptors.
    pub const fn growth(&self) -> &Growth {
        &self.growth
    }

    /// Tells what has changed, and what is rarely news if it is time to look for that.
    pub fn look(
        &mut self,
        live: &mut Live,
        is_slow: bool,
        mut tell: impl FnMut(Update, &mut RunStats),
    ) {
        let Live { engine, stats, .. } = &mut *live;
        let suspects = self.look_at(engine, now(), is_slow, |news| tell(news, stats));
        for tgid in suspects {
            live.suspect(tgid);
        }
    }

    /// The same, of tables that are not live: who is to be suspected.
    pub fn look_at(
        &mut self,
        engine: &mut Engine,
        now: Moment,
        is_slow: bool,
        mut tell: impl FnMut(Update),
    ) -> Vec<u32> {
        let Self {
            investigator,
            symbols,
            growth,
        } = self;
        let Engine {
            model,
            duplicates,
            details,
            ..
        } = engine;
        let mut suspects = Vec::new();
        let mut found = |subject, finding: Option<Finding>| {
            if let Some(mut finding) = finding {
                investigate::add_detail(&mut finding, details, symbols);
                if finding.change != Change::Gone && finding.severity >= Severity::Warning {
                    suspects.push(finding.process.pid);
                }
                tell(Update::Finding(subject, finding));
            }
        };
        duplicates.settle(model, now, &mut |duplicate, model| {
            found(Subject::File, investigator.finding(duplicate, model));
        });
        for stray in model.take_invalid_closes(now) {
            if let Some(double) = duplicates.closed_twice(stray, model) {
                let finding = investigator.double_close(&double, model, details);
                found(Subject::DoubleClose, finding);
            }
        }
        if is_slow {
            duplicates.sweep(
                model,
                now,
                &mut investigate::path_of,
                &mut |rotation, model| {
                    found(Subject::Rotation, investigator.rotation(rotation, model));
                },
            );
            duplicates.look_for_shared(model, now, &mut |shared, model| {
                found(Subject::SharedFile, investigator.shared(shared, model));
            });
            symbols.forget();
            for event in growth.look(model, now, proc::fd_limit) {
                if let Some(report) = investigator.growth(event, model) {
                    if report.change != Change::Gone {
                        suspects.push(report.process.pid);
                    }
                    tell(Update::Growth(report));
                }
            }
        }
        suspects
    }
}
