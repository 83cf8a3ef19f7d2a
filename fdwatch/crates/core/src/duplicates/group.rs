//! The descriptors of one table that are on one file, and what is still to be told of them.

use super::Change;
use crate::model::{FdEntry, Identity, Lineage, Moment, Provenance, Table, TableId};

/// Ended descriptors that are remembered until they are told; of more than these the number.
const MAX_CLOSED: usize = 16;

/// What a group is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) table: TableId,
    pub(super) identity: Identity,
}

/// A descriptor that is no more.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Its number.
    pub fd: u32,
    /// What it was.
    pub slot: FdEntry,
    /// How it came to be in its table.
    pub provenance: Provenance,
    /// The way of its table up to then.
    pub lineage: Lineage,
    /// When it ended.
    pub at: Moment,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: u64,
    pub(super) address: u64,
    /// The process that has held the table the longest.
    pub(super) tgid: u32,
    /// In no order.
    pub(super) members: Vec<u32>,
    /// How many there are to be for it to be told: one, of a file that was deleted.
    pub(super) least: usize,
    /// When there came to be two.
    pub(super) since: Moment,
    /// When there were less than two again.
    pub(super) ended: Option<Moment>,
    pub(super) closed: Vec<Closed>,
    pub(super) more_closed: u32,
    /// How often there came to be two, since that was last told.
    pub(super) times: u32,
    pub(super) is_dirty: bool,
    pub(super) changed: bool,
    /// As it was last told; nothing, if there is nothing to take back.
    pub(super) is_told: bool,
    /// Since when it is counted how often it is told.
    pub(super) counted_since: Moment,
    pub(super) told: u32,
}

impl Group {
    pub(super) fn new(id: u64, address: u64, tgid: u32, members: Vec<u32>, at: Moment) -> Self {
        Self {
            id,
            address,
            tgid,
            members,
            least: 2,
            since: at,
            ended: None,
            closed: Vec::new(),
            more_closed: 0,
            times: 1,
            is_dirty: false,
            changed: true,
            is_told: false,
            counted_since: at,
            told: 0,
        }
    }

    pub(super) fn is_duplicate(&self) -> bool {
        self.members.len() >= self.least
    }

    pub(super) fn join(&mut self, fd: u32, at: Moment) {
        if self.members.contains(&fd) {
            return;
        }
        self.members.push(fd);
        self.changed |= self.is_duplicate();
        if self.members.len() == self.least {
            self.since = at;
            self.ended = None;
            self.times += 1;
        }
    }

    pub(super) fn leave(&mut self, table: &Table, fd: u32, slot: &FdEntry, at: Moment) {
        let Some(i) = self.members.iter().position(|&member| member == fd) else {
            return;
        };
        let was_duplicate = self.is_duplicate();
        self.members.swap_remove(i);
        if !was_duplicate && !self.is_told && self.times == 0 {
            // One alone: no part of what is to be told.
            return;
        }
        self.changed = true;
        if was_duplicate && !self.is_duplicate() {
            self.ended = Some(at);
        }
        if self.closed.len() < MAX_CLOSED {
            self.closed.push(Closed {
                fd,
                slot: *slot,
                provenance: table.provenance(slot),
                lineage: table.lineage().clone(),
                at,
            });
        } else {
            self.more_closed += 1;
        }
    }

    /// What is to be told, if it has changed.
    pub(super) fn change(&self) -> Option<Change> {
        match (self.is_told, self.is_duplicate()) {
            (false, true) => Some(Change::Found),
            (true, true) => Some(Change::Changed),
            (true, false) => Some(Change::Gone),
            // It came and went unseen.
            (false, false) => (self.times > 0).then_some(Change::Gone),
        }
    }

    /// What was closed up to now is not to be told.
    pub(super) fn forget_closed(&mut self) {
        self.closed.clear();
        self.more_closed = 0;
    }

    /// Everything up to now was told.
    pub(super) fn settle(&mut self) {
        self.forget_closed();
        self.times = 0;
        self.changed = false;
        self.is_told = self.is_duplicate();
        self.told += 1;
    }
}
