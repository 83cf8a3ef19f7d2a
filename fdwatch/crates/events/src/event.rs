//! What the agent tells, once, in the form that all of its sinks take. Who takes it, and how it is
//! sent, is not known here.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::report::BudgetReport;
use fdwatch_core::{
    Lost,
    diagnose::{Finding, ProcessInfo, Severity},
    duplicates::Change,
    filter::Filter,
    growth::GrowthReport,
    model::Moment,
};

/// Something that was told.
#[derive(Clone, Debug)]
pub struct Event {
    /// Counts from 1 in each run of the agent.
    pub number: u64,
    /// When: nanoseconds since boot.
    pub at: Moment,
    /// The same: nanoseconds since 1970.
    pub wall_time: u64,
    /// That.
    pub told: EventKind,
    /// It as a line of JSON, as `watch --json` has it, without the line's end.
    pub json: String,
    /// What it is about, if that comes and goes.
    pub key: Option<Key>,
}

/// What was told.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A finding that came, changed or went.
    Finding(Box<Finding>),
    /// A table that grows.
    Growth(Box<GrowthReport>),
    /// A process that is beyond a threshold of the configuration.
    Threshold(Box<ThresholdReport>),
    /// Records were lost: how many in all.
    Loss(Lost),
    /// Something else is left undone than before.
    Budget(BudgetReport),
}

/// Names what comes and goes, on this host and beyond the end of the agent: the same process, the
/// same file, the same kind. 128 bits of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u128);

impl Key {
    /// The key of what is about `subject`, of a process that is known by `process`, and of what else
    /// tells it from others.
    #[must_use]
    pub fn of(boot_id: &str, subject: &str, process: &ProcessInfo, parts: &[u64]) -> Self {
        let mut hash = Sha256::new();
        hash.update(boot_id.as_bytes());
        hash.update([0]);
        hash.update(subject.as_bytes());
        hash.update([0]);
        hash.update(process.pid.to_le_bytes());
        // /proc shows it to the hundredth of a second alone.
        hash.update((process.start_time / 10_000_000).to_le_bytes());
        for part in parts {
            hash.update(part.to_le_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(u128::from_be_bytes(key))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A process that is beyond a threshold, or is so no more.
#[derive(Clone, Debug, PartialEq)]
pub struct ThresholdReport {
    /// Whether it is new, or over.
    pub change: Change,
    /// The process.
    pub process: ProcessInfo,
    /// What it is that is beyond.
    pub of: Measure,
    /// How much it is, in the measure's unit.
    pub value: f64,
    /// How much it may be.
    pub threshold: f64,
    /// How much it matters.
    pub severity: Severity,
}

/// What thresholds are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Descriptors of one process on one file.
    DuplicatesPerFile,
    /// Descriptors of one process.
    Descriptors,
    /// Share of `RLIMIT_NOFILE` that is used, in percent.
    LimitShare,
    /// By how many descriptors it grows in an hour.
    GrowthPerHour,
    /// Space that deleted files take which it holds, in bytes.
    PinnedBytes,
}

impl Measure {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::DuplicatesPerFile,
        Self::Descriptors,
        Self::LimitShare,
        Self::GrowthPerHour,
        Self::PinnedBytes,
    ];

    /// The name users see, which is also the configuration's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DuplicatesPerFile => "duplicates-per-file",
            Self::Descriptors => "descriptors",
            Self::LimitShare => "limit-share",
            Self::GrowthPerHour => "growth-per-hour",
            Self::PinnedBytes => "pinned-bytes",
        }
    }
}

impl EventKind {
    /// The name of its kind: `type` in JSON.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Finding(_) => "finding",
            Self::Growth(_) => "growth",
            Self::Threshold(_) => "threshold",
            Self::Loss(_) => "loss",
            Self::Budget(_) => "budget",
        }
    }

    /// What happened to what comes and goes.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        match self {
            Self::Finding(finding) => Some(finding.change),
            Self::Growth(report) => Some(report.change),
            Self::Threshold(report) => Some(report.change),
            Self::Loss(_) | Self::Budget(_) => None,
        }
    }

    /// How much it matters; of growth that is over, nothing is known.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        match self {
            Self::Finding(finding) => Some(finding.severity),
            Self::Growth(report) => report.trend.as_ref().map(|trend| trend.severity),
            Self::Threshold(report) => Some(report.severity),
            Self::Loss(_) | Self::Budget(_) => None,
        }
    }

    /// The process it is about.
    #[must_use]
    pub fn process(&self) -> Option<&ProcessInfo> {
        match self {
            Self::Finding(finding) => Some(&finding.process),
            Self::Growth(report) => Some(&report.process),
            Self::Threshold(report) => Some(&report.process),
            Self::Loss(_) | Self::Budget(_) => None,
        }
    }

    /// Whether the filter selects it. What is about fdwatch itself always is.
    #[must_use]
    pub fn is_wanted(&self, filter: &Filter) -> bool {
        if let Self::Finding(finding) = self {
            return filter.wants(finding);
        }
        self.process()
            .is_none_or(|process| filter.wants_about(process, self.severity()))
    }
}
