//! Lines of `fdwatch history`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Body,
    name::{Cause, Device, Hexadecimal, Severity, Text, Time},
};
use crate::Key;

/// Finding, growth or exceeded threshold of the past, from `fdwatch history`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct History {
    /// Type of its events.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["finding", "growth", "threshold"])))]
    pub kind: Text,
    /// Key of its events.
    pub key: Key,
    /// When it appeared.
    pub first: Time,
    /// Whether that was observed; otherwise it may have appeared earlier.
    pub first_seen: bool,
    /// When its last event was reported.
    pub last: Time,
    /// When it disappeared; null while it exists.
    pub ended: Option<Time>,
    /// Whether that was observed; otherwise it was noticed then.
    pub end_seen: bool,
    /// Seconds from `first` to an observed end.
    pub lifetime: Option<f64>,
    /// Highest severity.
    pub severity: Option<Severity>,
    /// Cause of a finding.
    pub cause: Option<Cause>,
    /// Measured quantity of a threshold.
    pub measure: Option<Text>,
    /// Process.
    pub process: HistoryProcess,
    /// File of a finding.
    pub file: Option<HistoryFile>,
    /// Descriptors at its last event.
    pub fds: Option<u64>,
    /// Most descriptors.
    pub most_fds: Option<u64>,
    /// How often it appeared.
    pub times: u64,
    /// Size of its last event in bytes.
    pub finding_bytes: u64,
    /// Last event, as it was reported; null if it was too large to keep.
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Active>"))]
    pub finding: Option<Box<RawValue>>,
}

impl Body for History {
    const TYPE: &'static str = "history";
}

/// Process, as the history keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HistoryProcess {
    /// Process ID.
    pub pid: u32,
    /// Name, chosen by the process itself.
    pub comm: String,
    /// All bytes of a name that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm_bytes: Option<Hexadecimal>,
    /// Path of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// All bytes of a program path that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_bytes: Option<Hexadecimal>,
    /// Innermost systemd unit; null if none.
    pub unit: Option<String>,
}

/// File, as the history keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HistoryFile {
    /// Path; null if unreadable.
    pub path: Option<String>,
    /// All bytes of a path that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<Hexadecimal>,
    /// Device.
    pub dev: Device,
    /// Inode.
    pub ino: u64,
}

/// Descriptors of a process in one hour, from `fdwatch history --processes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HistoryHour {
    /// Start of the hour.
    pub hour: Time,
    /// Process; null for all processes that have no line of their own.
    pub process: Option<HistoryProcess>,
    /// Number of processes.
    pub processes: u64,
    /// Fewest open descriptors.
    pub fewest: u64,
    /// Most open descriptors.
    pub most: u64,
    /// Open descriptors at the end.
    pub last: u64,
}

impl Body for HistoryHour {
    const TYPE: &'static str = "history-processes";
}
