//! The descriptors of one table on the same file, and their changes since the last report.

use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;

use super::change::Change;
use crate::model::{FdEntry, Identity, Lineage, Moment, Provenance, Table, TableId};

/// Maximum number of closed descriptors remembered until the next report; further ones are only
/// counted.
const MAX_CLOSED: usize = 16;

/// The key of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) table: TableId,
    pub(super) identity: Identity,
}

/// A closed descriptor.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Its number.
    pub fd: u32,
    /// Its entry.
    pub entry: FdEntry,
    /// How it came into its table.
    pub provenance: Provenance,
    /// The lineage of its table at that time.
    pub lineage: Lineage,
    /// When it was closed.
    pub at: Moment,
}

/// The descriptors of one table on the same file.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: u64,
    pub(super) address: u64,
    /// The longest-standing holder of the table.
    pub(super) tgid: u32,
    /// In no particular order.
    pub(super) members: IndexSet<u32, FxBuildHasher>,
    /// Number of members that makes it a duplicate: 2, or 1 if the file was deleted.
    pub(super) least: usize,
    /// When it became a duplicate.
    pub(super) since: Moment,
    /// When it ceased to be one.
    pub(super) ended: Option<Moment>,
    pub(super) closed: Vec<Closed>,
    pub(super) more_closed: u32,
    /// How often it became a duplicate since the last report.
    pub(super) times: u32,
    pub(super) is_dirty: bool,
    pub(super) changed: bool,
    /// Whether it was reported, and has not been reported as gone since.
    pub(super) is_reported: bool,
    /// Start of the period in which its reports are counted.
    pub(super) counted_since: Moment,
    pub(super) reports: u32,
}

impl Group {
    pub(super) fn new(id: u64, address: u64, tgid: u32, members: Vec<u32>, at: Moment) -> Self {
        Self {
            id,
            address,
            tgid,
            members: members.into_iter().collect(),
            least: 2,
            since: at,
            ended: None,
            closed: Vec::new(),
            more_closed: 0,
            times: 1,
            is_dirty: false,
            changed: true,
            is_reported: false,
            counted_since: at,
            reports: 0,
        }
    }

    pub(super) fn is_duplicate(&self) -> bool {
        self.members.len() >= self.least
    }

    pub(super) fn join(&mut self, fd: u32, at: Moment) {
        if !self.members.insert(fd) {
            return;
        }
        self.changed |= self.is_duplicate();
        if self.members.len() == self.least {
            self.since = at;
            self.ended = None;
            self.times += 1;
        }
    }

    pub(super) fn leave(&mut self, table: &Table, fd: u32, entry: &FdEntry, at: Moment) {
        let was_duplicate = self.is_duplicate();
        if !self.members.swap_remove(&fd) {
            return;
        }
        if !was_duplicate && !self.is_reported && self.times == 0 {
            // A single descriptor is not part of any report.
            return;
        }
        self.changed = true;
        if was_duplicate && !self.is_duplicate() {
            self.ended = Some(at);
        }
        if self.closed.len() < MAX_CLOSED {
            self.closed.push(Closed {
                fd,
                entry: *entry,
                provenance: table.provenance(entry),
                lineage: table.lineage().clone(),
                at,
            });
        } else {
            self.more_closed += 1;
        }
    }

    /// Returns what to report, if anything has changed.
    pub(super) fn change(&self) -> Option<Change> {
        match (self.is_reported, self.is_duplicate()) {
            (false, true) => Some(Change::Found),
            (true, true) => Some(Change::Changed),
            (true, false) => Some(Change::Gone),
            // It appeared and disappeared between two reports.
            (false, false) => (self.times > 0).then_some(Change::Gone),
        }
    }

    /// Drops the closed descriptors without a report.
    pub(super) fn forget_closed(&mut self) {
        self.closed.clear();
        self.more_closed = 0;
    }

    /// Marks everything so far as reported.
    pub(super) fn settle(&mut self) {
        self.forget_closed();
        self.times = 0;
        self.changed = false;
        self.is_reported = self.is_duplicate();
        self.reports += 1;
    }
}
