//! Body of a webhook, and input of an alert command.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::name::{Severity, Text, Time};
use crate::Key;

/// Alert.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Alert {
    /// `firing` or `resolved`.
    pub status: Text,
    /// Key of its events.
    pub key: Key,
    /// Type of its events.
    pub kind: String,
    /// What happened, for a person.
    pub summary: String,
    /// What to change.
    pub advice: String,
    /// Severity.
    pub severity: Severity,
    /// Cause of a finding, measured quantity of a threshold.
    pub cause: String,
    /// Host.
    pub host: String,
    /// Process ID.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
    /// Innermost systemd unit.
    pub unit: Option<String>,
    /// Path of the file.
    pub path: Option<String>,
    /// When it appeared.
    pub since: Time,
    /// When it disappeared.
    pub ended: Option<Time>,
    /// Size in bytes of an event that is too large to be included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_left_out_bytes: Option<usize>,
    /// Last event, as it was reported; null if it is too large or unknown.
    pub event: Option<Box<RawValue>>,
}
