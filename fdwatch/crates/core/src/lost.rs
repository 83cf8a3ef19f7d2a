//! Records that never reached the model.

use fdwatch_common::{Kind, LOST_KINDS};

/// What happened and was not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Records that found no room in the ring, by the number of their kind.
    records: [u64; LOST_KINDS],
    /// Runs of programs that the kernel has left out, because another one was running there.
    missed_runs: u64,
}

impl Lost {
    /// Makes it of the counters by the number of each kind, and of the runs of programs that the kernel left out.
    #[must_use]
    pub const fn new(records: [u64; LOST_KINDS], missed_runs: u64) -> Self {
        Self {
            records,
            missed_runs,
        }
    }

    /// Of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.records.iter().sum::<u64>() - self.detail_left_out() + self.missed_runs
    }

    /// Records of stacks and paths that were left out, so that nothing else be lost.
    #[must_use]
    pub fn detail_left_out(&self) -> u64 {
        Kind::DETAIL
            .map(|kind| self.records[kind as usize])
            .iter()
            .sum()
    }

    /// Runs of programs that the kernel has left out.
    #[must_use]
    pub const fn missed_runs(&self) -> u64 {
        self.missed_runs
    }

    /// Of each kind of which there are any, by name.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Kind::ALL
            .into_iter()
            .filter(|kind| !Kind::DETAIL.contains(kind))
            .map(|kind| (kind.name(), self.records[kind as usize]))
            .chain([("missed-run", self.missed_runs)])
            .filter(|&(_, lost)| lost > 0)
    }
}
