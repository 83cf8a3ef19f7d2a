//! The state of the agent once a second, for readers that must not delay the live loop.

use std::sync::Arc;

use fdwatch_events::ProcessRow;

use fdwatch_core::model::Moment;
use fdwatch_events::RunStats;
use fdwatch_events::event::{Event, Key};

/// The state at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Its time: nanoseconds since boot.
    pub at: Moment,
    /// Its time: nanoseconds since 1970.
    pub wall_time: u64,
    /// Statistics of the run: events, losses, drift, resource usage.
    pub stats: RunStats,
    /// Used part of the ring, from 0 to 1.
    pub ring_fill: f64,
    /// Total duration of audits: nanoseconds.
    pub audit_time: u64,
    /// Duration of the last audit: nanoseconds.
    pub last_audit_time: u64,
    /// Number of descriptor tables.
    pub tables: usize,
    /// Resident memory of fdwatch: bytes.
    pub rss: u64,
    /// Processes that are not followed, to stay within the budget.
    pub not_followed: usize,
    /// The CPU budget: percent of one processor.
    pub budget_percent: f64,
    /// The CPU usage of the last seconds: percent of one processor.
    pub used_percent: f64,
    /// Findings ignored by rules since the start.
    pub ignored: u64,
    /// The processes with the most descriptors or with duplicates, highest number first.
    pub processes: Vec<ProcessRow>,
    /// Number of other processes.
    pub more_processes: usize,
    /// Number of their descriptors.
    pub more_descriptors: usize,
}

/// An active finding, growth or threshold.
#[derive(Clone, Debug)]
pub struct Active {
    /// Its key.
    pub key: Key,
    /// When it started: nanoseconds since boot, because the clock may be set meanwhile.
    pub since: Moment,
    /// Its last event.
    pub last: Arc<Event>,
}
