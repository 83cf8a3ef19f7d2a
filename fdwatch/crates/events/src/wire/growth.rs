//! Growing tables and exceeded thresholds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Body, Process,
    name::{Change, Severity, Text, Time},
};
use crate::Key;

/// Descriptor table that grows. All of the trend is null when it stopped growing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Growth {
    /// Whether it started, changed or stopped growing.
    pub change: Change,
    /// Process of the table.
    pub process: Process,
    /// Open descriptors.
    pub open: usize,
    /// `RLIMIT_NOFILE`, soft; null if unreadable.
    pub limit: Option<u64>,
    /// Severity.
    pub severity: Option<Severity>,
    /// Open descriptors at `since`.
    pub was: Option<usize>,
    /// Start of the trend.
    pub since: Option<Time>,
    /// Growth in descriptors per hour.
    pub per_hour: Option<u64>,
    /// Seconds until the limit is reached at this rate; null if far away.
    pub seconds_left: Option<f64>,
    /// Added descriptors by type of file.
    pub more_by_type: Option<BTreeMap<Text, usize>>,
    /// Added descriptors by origin.
    pub more_by_origin: Option<BTreeMap<Text, usize>>,
    /// Deleted files that the process holds.
    pub pinned: Pinned,
    /// Key of the growth; only from an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
}

impl Body for Growth {
    const TYPE: &'static str = "growth";
}

/// Deleted files that a process holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Pinned {
    /// Number of files.
    pub files: usize,
    /// Bytes they occupy.
    pub bytes: u64,
}

/// Process that exceeds a threshold of the agent's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Threshold {
    /// `gone` when it is within the threshold again.
    pub change: Change,
    /// Process.
    pub process: Process,
    /// Measured quantity.
    #[cfg_attr(feature = "schema", schemars(with = "crate::Measure"))]
    pub of: Text,
    /// Value, in the unit of the quantity.
    pub value: f64,
    /// Threshold, in the same unit.
    pub threshold: f64,
    /// Severity.
    pub severity: Severity,
    /// Key of the exceeded threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// When it was first exceeded; only in an agent's `/v1/findings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

impl Body for Threshold {
    const TYPE: &'static str = "threshold";
}
