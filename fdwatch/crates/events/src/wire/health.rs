//! Response of `/v1/health`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Body,
    name::{ShedLevel, Status, Text},
    summary::Unreported,
};

/// State of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Health {
    /// Labels of the host, as the configuration has them.
    pub labels: String,
    /// Status.
    pub status: Status,
    /// Reasons for a status other than `ok`.
    pub troubles: Vec<Trouble>,
    /// Version of fdwatch.
    pub version: Text,
    /// Release of the kernel.
    pub kernel: String,
    /// Seconds since the agent started.
    pub duration: f64,
    /// Processes.
    pub processes: usize,
    /// Open descriptors, each table counted once.
    pub descriptors: usize,
    /// Current findings, by severity.
    pub findings: SeverityCounts,
    /// Reported findings since the start.
    pub told: EventCounts,
    /// Events since the start.
    pub events: u64,
    /// Records lost since the start.
    pub lost: u64,
    /// Differences that audits found since the start.
    pub drift: u64,
    /// Audits since the start.
    pub audits: u64,
    /// CPU budget.
    pub budget: BudgetState,
    /// CPU time used since the start, in seconds.
    pub cpu_seconds: f64,
    /// Resident set size.
    pub rss_bytes: u64,
    /// Findings that were not made, because there were too many.
    #[serde(skip_serializing_if = "Unreported::is_empty")]
    pub unreported: Unreported,
    /// Counts of each sink, by its name.
    pub outlets: BTreeMap<Text, SinkCounts>,
    /// Counts of the API.
    pub api: ApiStats,
}

impl Body for Health {
    const TYPE: &'static str = "health";
}

/// Reason why an agent is degraded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Trouble {
    /// Affected part.
    pub of: String,
    /// Reason.
    pub reason: String,
}

/// Findings by severity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SeverityCounts {
    /// With severity `info`.
    pub info: u32,
    /// With severity `warning`.
    pub warning: u32,
    /// With severity `critical`.
    pub critical: u32,
}

/// Reported findings by change, and those that rules ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct EventCounts {
    /// Appeared.
    pub found: u64,
    /// Changed.
    pub changed: u64,
    /// Disappeared.
    pub gone: u64,
    /// Ignored by rules of the configuration.
    pub ignored: u64,
}

/// CPU budget, and what is skipped to stay within it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct BudgetState {
    /// Skipped work.
    pub sheds: ShedLevel,
    /// Budget in percent of one CPU.
    pub max_cpu: f64,
    /// Recent use in percent of one CPU.
    pub cpu: f64,
}

/// Events that a sink took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SinkCounts {
    /// Queued.
    pub taken: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Delivered.
    pub delivered: u64,
    /// Failed deliveries.
    pub failed: u64,
}

/// Requests to the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ApiStats {
    /// Requests.
    pub requests: u64,
    /// Refused requests.
    pub refused: u64,
    /// Current readers of `/v1/events`.
    pub readers: u64,
    /// Readers that were disconnected because they read too slowly.
    pub slow_readers: u64,
}
