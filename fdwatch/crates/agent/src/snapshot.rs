//! What the agent knows, once a second, for those who only look. Who looks is not known here.

use std::sync::Arc;

use fdwatch_events::ProcessRow;

use fdwatch_core::model::Moment;
use fdwatch_events::RunStats;
use fdwatch_events::event::{Event, Key};

/// The state of things at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was made: nanoseconds since boot.
    pub at: Moment,
    /// The same: nanoseconds since 1970.
    pub wall_time: u64,
    /// fdwatch's account of itself: events, losses, drift, what it used.
    pub stats: RunStats,
    /// What is waiting in the ring, of 1.
    pub ring_fill: f64,
    /// Time that audits took in all: nanoseconds.
    pub audit_time: u64,
    /// And the last one.
    pub last_audit_time: u64,
    /// Descriptor tables there are.
    pub tables: usize,
    /// Memory fdwatch has now: bytes.
    pub rss: u64,
    /// Processes that are not followed for the sake of the budget.
    pub not_followed: usize,
    /// What the budget is, in percent of one processor, and what was used of late.
    pub budget_percent: f64,
    /// See there.
    pub used_percent: f64,
    /// Findings that rules of the configuration had left out so far.
    pub ignored: u64,
    /// The processes with the most descriptors, and those with duplicates, most first.
    pub processes: Vec<ProcessRow>,
    /// How many more processes there are.
    pub more_processes: usize,
    /// And how many descriptors these have.
    pub more_descriptors: usize,
}

/// A finding, growth or threshold that is there now, as it was told last.
#[derive(Clone, Debug)]
pub struct Active {
    /// What it is about.
    pub key: Key,
    /// When it came: nanoseconds since 1970.
    pub since: u64,
    /// As it was told last.
    pub last: Arc<Event>,
}
