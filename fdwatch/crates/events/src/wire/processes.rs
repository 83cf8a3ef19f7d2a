//! Response of `/v1/processes`.

use serde::{Deserialize, Serialize};

use super::{Body, name::Time};

/// Processes with the most descriptors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Processes {
    /// When they were counted.
    pub time: Time,
    /// Processes that are not listed.
    pub more: usize,
    /// Processes, most descriptors first.
    pub processes: Vec<ProcessRow>,
}

impl Body for Processes {
    const TYPE: &'static str = "processes";
}

/// Process with counts of its descriptors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ProcessRow {
    /// Process ID.
    pub pid: u32,
    /// When it was started; null if unknown.
    pub start_time: Option<Time>,
    /// Process ID of its parent; 0 if unknown.
    pub ppid: u32,
    /// Name, chosen by the process itself.
    pub comm: String,
    /// Real user ID; null if unreadable.
    pub uid: Option<u32>,
    /// Innermost systemd unit; null if none.
    pub unit: Option<String>,
    /// Open descriptors.
    pub descriptors: usize,
    /// `RLIMIT_NOFILE`, soft; null if unreadable.
    pub limit: Option<u64>,
    /// `descriptors` divided by `limit`; null without a limit.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub limit_share: Option<f64>,
    /// Files that it holds more than once.
    pub duplicate_files: usize,
    /// Descriptors of these, without the first of each.
    pub duplicate_descriptors: usize,
    /// Open descriptors every five seconds, oldest first.
    pub curve: Vec<u32>,
}
