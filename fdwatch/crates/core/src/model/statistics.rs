//! Counters of a model.

use fdwatch_common::{Kind, LOST_KINDS};

use super::audit::Drift;

/// Counters of processed records and of inconsistencies with the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Records processed, indexed by kind.
    pub records: [u64; LOST_KINDS],
    /// Closes of descriptors that the model did not have, although the kernel had.
    pub unknown_closed: u64,
    /// Tables first seen through an event in them rather than through a fork or a snapshot.
    pub unknown_tables: u64,
    /// Differences that audits found and repaired.
    pub drift: Drift,
    /// Descriptors that two threads changed at the same moment, so that their state had to be read
    /// from the kernel.
    pub racing: u64,
    /// Racing descriptors whose outcome differed from the order of the records.
    pub racing_corrected: u64,
    /// Closes of numbers that were not open, not counting loops that close all numbers.
    pub closed_unopened: u64,
    /// Differences that audits repaired in processes that were not followed.
    pub caught_up: u64,
}

impl Statistics {
    /// Counts the records of events, without those of snapshots and detail.
    #[must_use]
    pub fn events(&self) -> u64 {
        let others = [Kind::SnapshotTask, Kind::SnapshotFile];
        let others = others.iter().chain(&Kind::DETAIL);
        let others = others.map(|&kind| self.records[kind as usize]);
        self.records.iter().sum::<u64>() - others.sum::<u64>()
    }
}
