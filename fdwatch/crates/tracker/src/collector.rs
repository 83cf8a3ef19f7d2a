//! Collects changes to report from a model: findings, and tables that grow.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::Result;
use fdwatch_core::{
    diagnose::{Finding, Severity},
    duplicates::{Change, DoubleClose},
    engine::Engine,
    growth::{self, Growth},
    model::Moment,
};
use fdwatch_events::GrowthReport;
use fdwatch_host::{
    investigate::{self, Investigator},
    proc,
    symbols::Symbols,
};

use crate::{
    clock::{now, thread_time},
    live::Tracker,
};

/// Time after which events are read before more findings are collected. The smallest ring takes a tenth of a
/// second's events of two busy processors.
const SLICE: Duration = Duration::from_millis(5);

/// Maximum number of double closes that wait to be reported, and of those of one process.
const MAX_CLOSES: usize = 256;
const MAX_CLOSES_OF_PROCESS: usize = 16;

/// Collects findings and growth.
pub struct FindingCollector {
    /// Completes findings from /proc.
    pub investigator: Investigator,
    /// Resolves their stacks.
    pub symbols: Symbols,
    growth: Growth,
    /// Double closes and trends that were not reported yet.
    closes: VecDeque<DoubleClose>,
    trends: VecDeque<growth::Event>,
    /// Number of double closes that were skipped, because there were too many.
    skipped_closes: u64,
    round: Option<Round>,
    /// Whether rounds are limited to a share of the CPU budget. The first is not: it reports what was there before.
    is_limited: bool,
}

/// A round of collecting, in slices.
struct Round {
    is_slow: bool,
    is_limited: bool,
    /// CPU time of this thread up to which it was counted, in nanoseconds.
    since: u64,
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
            closes: VecDeque::new(),
            trends: VecDeque::new(),
            skipped_closes: 0,
            round: None,
            is_limited: false,
        }
    }

    /// Returns the descriptor counts of large tables.
    pub const fn growth(&self) -> &Growth {
        &self.growth
    }

    /// Begins to collect what has changed since the last time. With `is_slow`, also checks rotation, files
    /// shared between processes, and growth.
    pub fn begin(&mut self, live: &mut Tracker, is_slow: bool) {
        live.allowance.refill(now());
        self.round = Some(Round {
            is_slow,
            is_limited: std::mem::replace(&mut self.is_limited, true),
            since: thread_time(),
        });
    }

    /// Returns further changes, and makes processes with findings targets of detail. `None` at the end of the
    /// round: when nothing is left, or when findings have used their share of the CPU budget. The rest follows in
    /// the next round. Events are read in between, so that findings do not delay them.
    ///
    /// # Errors
    ///
    /// If a recording cannot be written.
    pub fn next_updates(&mut self, live: &mut Tracker) -> Result<Option<Vec<Update>>> {
        let Some(round) = &mut self.round else {
            return Ok(None);
        };
        let is_slow = std::mem::take(&mut round.is_slow);
        let (is_limited, since) = (round.is_limited, round.since);
        let end = Instant::now() + SLICE;
        let mut updates = Vec::new();
        let (suspects, is_more) = self.collect_until(
            &mut live.engine,
            now(),
            is_slow,
            &mut || Instant::now() < end,
            |update| updates.push(update),
        );
        for tgid in suspects {
            live.add_suspect(tgid);
        }
        live.stats.unreported.double_closes = self.skipped_closes;
        live.drain()?;
        let time = thread_time();
        let may_go_on = live.allowance.spend(time - since) || !is_limited;
        self.round = (is_more && may_go_on).then_some(Round {
            is_slow: false,
            is_limited,
            since: time,
        });
        Ok(Some(updates))
    }

    /// Passes all changes of `engine` to `report`.
    pub fn collect_from(
        &mut self,
        engine: &mut Engine,
        now: Moment,
        is_slow: bool,
        report: impl FnMut(Update),
    ) {
        self.collect_until(engine, now, is_slow, &mut || true, report);
    }

    /// Passes changes of `engine` to `report` until `goes_on` returns false. Returns the processes whose detail is
    /// worth collecting, and whether there is more.
    fn collect_until(
        &mut self,
        engine: &mut Engine,
        now: Moment,
        is_slow: bool,
        goes_on: &mut impl FnMut() -> bool,
        mut report: impl FnMut(Update),
    ) -> (Vec<u32>, bool) {
        let Self {
            investigator,
            symbols,
            growth,
            closes,
            trends,
            ..
        } = self;
        let Engine {
            model,
            duplicates,
            details,
            ..
        } = engine;
        if is_slow {
            investigator.forget_processes();
            symbols.forget();
        }
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
        // Without a user, a process that has ended must not take the turn of root.
        let mut user_of = |tgid| proc::user(tgid).unwrap_or(u32::MAX);
        let mut is_more = duplicates.settle(
            model,
            now,
            &mut user_of,
            goes_on,
            &mut |duplicate, model| {
                found(Subject::File, investigator.finding(duplicate, model));
            },
        );
        let new_closes = model.take_invalid_closes(now).into_iter();
        for double in new_closes.filter_map(|close| duplicates.closed_twice(close, model)) {
            let of_process = closes
                .iter()
                .filter(|other| other.again.tgid == double.again.tgid);
            if closes.len() < MAX_CLOSES && of_process.count() < MAX_CLOSES_OF_PROCESS {
                closes.push_back(double);
            } else {
                self.skipped_closes += 1;
            }
        }
        while goes_on()
            && let Some(double) = closes.pop_front()
        {
            let finding = investigator.double_close(&double, model, details);
            found(Subject::DoubleClose, finding);
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
            trends.extend(growth.update(model, now, proc::fd_limit));
        }
        while goes_on()
            && let Some(trend) = trends.pop_front()
        {
            if let Some(growth) = investigator.growth(trend, model) {
                if growth.change != Change::Gone {
                    suspects.push(growth.process.pid);
                }
                report(Update::Growth(growth));
            }
        }
        is_more |= !closes.is_empty() || !trends.is_empty();
        (suspects, is_more)
    }
}
