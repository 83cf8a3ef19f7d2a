//! Reports of fdwatch about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Body,
    name::{ShedLevel, Text},
};

/// State at the start of a watch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Started {
    /// Processes.
    pub processes: usize,
    /// Open descriptors, each table counted once.
    pub descriptors: usize,
    /// Size of the ring buffer in bytes; null in a replay.
    pub ring_bytes: Option<u32>,
}

impl Body for Started {
    const TYPE: &'static str = "started";
}

/// Lost records, by kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Losses {
    /// All of them, without detail.
    pub total: u64,
    /// By kind of record; kinds without a loss are left out.
    pub by_kind: BTreeMap<Text, u64>,
}

/// Records were lost since the start; an audit follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Loss {
    /// Lost records.
    pub lost: Losses,
}

impl Body for Loss {
    const TYPE: &'static str = "loss";
}

/// Change of the work that is skipped to stay within the CPU budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Budget {
    /// Skipped work.
    pub sheds: ShedLevel,
    /// Budget in percent of one CPU.
    pub max_cpu: f64,
    /// Recent use in percent of one CPU.
    pub cpu: f64,
    /// Process IDs that are covered by snapshots only.
    pub not_followed: Vec<u32>,
}

impl Body for Budget {
    const TYPE: &'static str = "budget";
}

/// Totals at the end of a watch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Summary {
    /// Seconds that it ran.
    pub duration: f64,
    /// Events.
    pub events: u64,
    /// Records by kind.
    pub by_kind: BTreeMap<Text, u64>,
    /// Lost records.
    pub lost: Losses,
    /// Reported findings.
    pub findings: FindingCounts,
    /// Processes.
    pub processes: usize,
    /// Open descriptors, each table counted once.
    pub descriptors: usize,
    /// Closes of descriptors that the model did not have.
    pub unknown_closed: u64,
    /// Tables that were first seen in an event.
    pub unknown_tables: u64,
    /// Closes of numbers that were not open, outside of loops.
    pub closed_unopened: u64,
    /// Differences that audits found.
    pub drift: Drift,
    /// Racing descriptors.
    pub contested: RacingFds,
    /// Records that could not be decoded.
    pub malformed: u64,
    /// Processes that could not be read.
    pub unreadable_processes: u64,
    /// CPU time that fdwatch used.
    pub cpu: CpuTime,
    /// Memory that fdwatch used.
    pub memory: MemoryUse,
    /// Work that was skipped.
    pub budget: BudgetSummary,
    /// Stacks and paths that did not fit into the ring.
    pub detail_left_out: u64,
    /// Findings that were not made, because there were too many.
    #[serde(skip_serializing_if = "Unreported::is_empty")]
    pub unreported: Unreported,
}

/// Counts of what was not reported or not checked, because one process or all of them had too many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Unreported {
    /// Files that are open more than once or deleted, now.
    pub files: usize,
    /// Processes with such files, now.
    pub processes: usize,
    /// Double closes, so far.
    pub double_closes: u64,
    /// Descriptors that were not checked for rotation, so far.
    pub rotation_checks: u64,
}

impl Unreported {
    /// Returns whether all counts are zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Body for Summary {
    const TYPE: &'static str = "summary";
}

/// Skipped work at the end of a watch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct BudgetSummary {
    /// Work that is skipped at the end.
    pub sheds: ShedLevel,
    /// Most processes that were covered by snapshots only, at one time.
    pub most_not_followed: usize,
    /// Descriptors of such processes that audits updated.
    pub caught_up: u64,
}

/// Differences between the model and the kernel that audits found and repaired.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Drift {
    /// Audits.
    pub audits: u64,
    /// Descriptors that the model did not have.
    pub missing: u64,
    /// Descriptors that only the model had.
    pub phantom: u64,
    /// Descriptors that the model had with another file.
    pub wrong_file: u64,
    /// Descriptors with another close-on-exec flag.
    pub close_on_exec: u64,
}

/// Descriptors that two threads changed at the same moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct RacingFds {
    /// Descriptors whose state was read from the kernel.
    pub numbers: u64,
    /// Those with a state that differs from the order of the records.
    pub otherwise: u64,
}

/// Reported findings, by change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct FindingCounts {
    /// Appeared.
    pub found: u64,
    /// Changed.
    pub changed: u64,
    /// Disappeared.
    pub gone: u64,
}

/// CPU time in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct CpuTime {
    /// In user space.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MemoryUse {
    /// Peak resident set size.
    pub peak_rss: u64,
}
