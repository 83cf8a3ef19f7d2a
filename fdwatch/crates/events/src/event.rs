//! Events that the agent reports, in the form that all of its sinks use.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
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

/// Event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Number in this run of the agent, from 1.
    pub number: u64,
    /// When it was reported: nanoseconds since boot.
    pub at: Moment,
    /// The same in nanoseconds since 1970.
    pub wall_time: u64,
    /// What happened.
    pub kind: EventKind,
    /// Its line of `/v1/events`, without the line end.
    pub json: String,
    /// Key, for events that have an end.
    pub key: Option<Key>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// A finding appeared, changed or disappeared.
    Finding(Box<Finding>),
    /// A table grows, or stopped growing.
    Growth(Box<GrowthReport>),
    /// A process exceeds a threshold of the configuration, or is within it again.
    Threshold(Box<ThresholdReport>),
    /// Records were lost: all since the start.
    Loss(Lost),
    /// Other work than before is skipped.
    Budget(BudgetReport),
}

/// Identity of a finding, growth or exceeded threshold on this host, also in later runs of the
/// agent: 128 bits of a hash of process, file and kind. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u128);

impl Key {
    /// Returns the key of `subject`, such as `growth`, for a process; `parts` are the numbers that
    /// distinguish several of that subject in one process.
    #[must_use]
    pub fn of(boot_id: &str, subject: &str, process: &ProcessInfo, parts: &[u64]) -> Self {
        let mut hash = Sha256::new();
        hash.update(boot_id.as_bytes());
        hash.update([0]);
        hash.update(subject.as_bytes());
        hash.update([0]);
        hash.update(process.pid.to_le_bytes());
        // /proc shows it in hundredths of a second.
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

impl FromStr for Key {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Process that exceeds a threshold, or is within it again.
#[derive(Clone, Debug, PartialEq)]
pub struct ThresholdReport {
    /// `Gone` when it is within the threshold again.
    pub change: Change,
    /// Process.
    pub process: ProcessInfo,
    /// Measured quantity.
    pub of: Measure,
    /// Value, in the unit of the quantity.
    pub value: f64,
    /// Threshold, in the same unit.
    pub threshold: f64,
    /// Severity.
    pub severity: Severity,
}

/// Quantity that has a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Descriptors of one process on one file.
    DuplicatesPerFile,
    /// Descriptors of one process.
    Descriptors,
    /// Used share of `RLIMIT_NOFILE`, in percent.
    LimitShare,
    /// Growth in descriptors per hour.
    GrowthPerHour,
    /// Size of the deleted files that the process holds open, in bytes.
    PinnedBytes,
}

impl Measure {
    /// All quantities.
    pub const ALL: [Self; 5] = [
        Self::DuplicatesPerFile,
        Self::Descriptors,
        Self::LimitShare,
        Self::GrowthPerHour,
        Self::PinnedBytes,
    ];

    /// Returns its name in the output and in the configuration.
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
    /// Returns the `type` of its line.
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

    /// Returns whether it appeared, changed or disappeared; `None` for events without an end.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        match self {
            Self::Finding(finding) => Some(finding.change),
            Self::Growth(report) => Some(report.change),
            Self::Threshold(report) => Some(report.change),
            Self::Loss(_) | Self::Budget(_) => None,
        }
    }

    /// Returns its severity; a growth that ended has none.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        match self {
            Self::Finding(finding) => Some(finding.severity),
            Self::Growth(report) => report.trend.as_ref().map(|trend| trend.severity),
            Self::Threshold(report) => Some(report.severity),
            Self::Loss(_) | Self::Budget(_) => None,
        }
    }

    /// Returns the process it is about.
    #[must_use]
    pub fn process(&self) -> Option<&ProcessInfo> {
        match self {
            Self::Finding(finding) => Some(&finding.process),
            Self::Growth(report) => Some(&report.process),
            Self::Threshold(report) => Some(&report.process),
            Self::Loss(_) | Self::Budget(_) => None,
        }
    }

    /// Returns whether the filter selects it. Events about fdwatch itself always match.
    #[must_use]
    pub fn is_wanted(&self, filter: &Filter) -> bool {
        if let Self::Finding(finding) = self {
            return filter.wants(finding);
        }
        self.process()
            .is_none_or(|process| filter.wants_about(process, self.severity()))
    }
}
