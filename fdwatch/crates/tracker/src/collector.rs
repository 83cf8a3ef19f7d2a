//! Collects changes to report from a model: findings, and tables that grow.

use crate::{clock::now, live::Tracker};
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

/// Collects findings and growth.
pub struct FindingCollector {
    /// Completes findings from /proc.
    pub investigator: Investigator,
    /// Resolves their stacks.
    pub symbols: Symbols,
    growth: Growth,
}

/// Change to report.
pub enum Update {
    /// A finding that appeared, changed or disappeared, and its subject.
    Finding(Subject, Finding),
    /// A table that started, continues or stopped to grow.
    Growth(GrowthReport),
}

/// Subject of a finding. One file may have findings of several subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The descriptors of one table on one file.
    File,
    /// A rotated file that is still open.
    Rotation,
    /// A file that several processes have open for writing.
    SharedFile,
    /// A close of a descriptor that was already closed.
    DoubleClose,
}

impl FindingCollector {
    /// Creates a collector whose findings `investigator` selects and completes.
    pub fn new(investigator: Investigator) -> Self {
        Self {
            investigator,
            symbols: Symbols::default(),
            growth: Growth::default(),
        }
    }

    /// Returns the descriptor counts of large tables.
    pub const fn growth(&self) -> &Growth {
        &self.growth
    }

    /// Passes changes to `report`, and makes processes with findings targets of detail. With `is_slow`, also
    /// checks rotation, files shared between processes, and growth.
    pub fn collect(
        &mut self,
        live: &mut Tracker,
        is_slow: bool,
        mut report: impl FnMut(Update, &mut RunStats),
    ) {
        let Tracker { engine, stats, .. } = &mut *live;
        let suspects = self.collect_from(engine, now(), is_slow, |update| report(update, stats));
        for tgid in suspects {
            live.add_suspect(tgid);
        }
    }

    /// Passes changes of `engine` to `report`, and returns the processes whose detail is worth collecting.
    pub fn collect_from(
        &mut self,
        engine: &mut Engine,
        now: Moment,
        is_slow: bool,
        mut report: impl FnMut(Update),
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
                report(Update::Finding(subject, finding));
            }
        };
        duplicates.settle(model, now, &mut |duplicate, model| {
            found(Subject::File, investigator.finding(duplicate, model));
        });
        for close in model.take_invalid_closes(now) {
            if let Some(double) = duplicates.closed_twice(close, model) {
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
            duplicates.search_shared(model, now, &mut |shared, model| {
                found(Subject::SharedFile, investigator.shared(shared, model));
            });
            symbols.forget();
            for event in growth.update(model, now, proc::fd_limit) {
                if let Some(growth) = investigator.growth(event, model) {
                    if growth.change != Change::Gone {
                        suspects.push(growth.process.pid);
                    }
                    report(Update::Growth(growth));
                }
            }
        }
        suspects
    }
}
