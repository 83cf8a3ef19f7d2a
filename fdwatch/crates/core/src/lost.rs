//! Records that never reached the model.

use fdwatch_common::{Kind, LOST_KINDS};

/// Counts of records that were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Records that did not fit into the ring, indexed by kind.
    records: [u64; LOST_KINDS],
    /// BPF program runs that the kernel skipped, because another one was running on the same CPU.
    missed_runs: u64,
}

impl Lost {
    /// Creates the counts from records lost per kind, and from skipped program runs.
    #[must_use]
    pub const fn new(records: [u64; LOST_KINDS], missed_runs: u64) -> Self {
        Self {
            records,
            missed_runs,
        }
    }

    /// Returns all losses that affect the model: records, except those of detail, and skipped runs.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.records.iter().sum::<u64>() - self.detail_left_out() + self.missed_runs
    }

    /// Returns the stack and path records that were dropped to leave room for others.
    #[must_use]
    pub fn detail_left_out(&self) -> u64 {
        Kind::DETAIL
            .map(|kind| self.records[kind as usize])
            .iter()
            .sum()
    }

    /// Returns the BPF program runs that the kernel skipped.
    #[must_use]
    pub const fn missed_runs(&self) -> u64 {
        self.missed_runs
    }

    /// Iterates over the kinds with losses, by name; detail is left out.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Kind::ALL
            .into_iter()
            .filter(|kind| !Kind::DETAIL.contains(kind))
            .map(|kind| (kind.name(), self.records[kind as usize]))
            .chain([("missed-run", self.missed_runs)])
            .filter(|&(_, lost)| lost > 0)
    }
}
