//! The audit: a comparison of a snapshot with the model. Differences are drift, and are repaired.
//!
//! A descriptor is read a moment before or after its event is in the ring, so that a busy process
//! always differs from the model in a single pass. A difference therefore counts only if the next
//! pass shows the same one and no event was about that descriptor in between: pending events arrive
//! and cancel it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{moment::Moment, table::TableId};

/// Differences that audits have found and repaired since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Completed audits.
    pub audits: u64,
    /// Open descriptors that the model did not have.
    pub missing: u64,
    /// Descriptors that the model had and the kernel did not.
    pub phantom: u64,
    /// Descriptors that referred to another file or description.
    pub wrong_file: u64,
    /// Descriptors whose close-on-exec flag differed.
    pub close_on_exec: u64,
}

impl Drift {
    /// Returns the number of wrong descriptors of all kinds.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.missing + self.phantom + self.wrong_file + self.close_on_exec
    }
}

/// The result of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether there are differences that another pass must confirm.
    pub is_open: bool,
    /// Processes that two passes did not visit: they have ended, have no descriptors, or are
    /// hidden.
    pub unvisited: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// The kernel has this description.
    Missing(u64),
    /// The model has this description.
    Phantom(u64),
    /// The kernel has this description instead, on this inode.
    WrongFile(u64, u64),
    /// The flag's value in the kernel.
    CloseOnExec(bool),
}

/// The table that the pass is at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) address: u64,
    /// The lowest number that the pass has not covered yet.
    pub(super) next: u32,
    /// Differences count without a second pass, because the whole table was unknown or is not
    /// followed.
    pub(super) is_confirmed: bool,
    /// Differences are expected, because the process is or was not followed.
    pub(super) is_expected: bool,
}

/// The state of the audit.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) is_running: bool,
    pub(super) began: Moment,
    /// Number of the pass.
    pub(super) pass: u32,
    /// Differences, by table and descriptor, and the pass that showed them.
    pub(super) differences: FxHashMap<(u64, u32), (Difference, u32)>,
    /// Tasks with a table that the model did not assign to them. Key: process and thread. Value:
    /// table, start time of the process, and pass.
    pub(super) unknown: FxHashMap<(u32, u32), (u64, u64, u32)>,
    /// Tables and processes that were not visited, and the pass in which.
    pub(super) unvisited_tables: FxHashMap<TableId, u32>,
    pub(super) unvisited_processes: FxHashMap<u32, u32>,
    pub(super) visited_tables: FxHashSet<u64>,
    pub(super) visited_processes: FxHashSet<u32>,
    pub(super) cursor: Option<Cursor>,
}

impl Audit {
    /// Drops a difference: an event was about the descriptor.
    pub(super) fn touch(&mut self, table: u64, fd: u32) {
        if !self.differences.is_empty() {
            self.differences.remove(&(table, fd));
        }
    }

    /// Drops all differences of the table: an event was about all of it.
    pub(super) fn touch_table(&mut self, table: u64) {
        if !self.differences.is_empty() {
            self.differences.retain(|&(other, _), _| other != table);
        }
        if !self.unknown.is_empty() {
            self.unknown.retain(|_, &mut (other, _, _)| other != table);
        }
    }

    /// Records a difference and returns whether the previous pass showed the same one.
    pub(super) fn confirms(&mut self, table: u64, fd: u32, difference: Difference) -> bool {
        let pass = self.pass;
        let before = self.differences.insert((table, fd), (difference, pass));
        let confirmed = before.is_some_and(|(same, at)| same == difference && at < pass);
        if confirmed {
            self.differences.remove(&(table, fd));
        }
        confirmed
    }
}
