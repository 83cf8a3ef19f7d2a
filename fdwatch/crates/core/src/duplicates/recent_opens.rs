//! What is around a descriptor's birth: what the same thread had made shortly before, and whether
//! that is closed while this one is not.
//!
//! Nothing is noted with each event for this: it is read from the table when a duplicate comes up.

use rustc_hash::FxHashMap;

use crate::model::{FdEntry, Identity, Moment, Table, TableId};

/// What was made longer before is not around: nanoseconds.
const SHORTLY: u64 = 10_000_000_000;

/// Of what one thread made shortly before, the last.
const MAX_NEARBY: usize = 2;

/// Numbers are looked through on both sides, so far.
const REACH: u32 = 2048;

/// And so far in a table of more descriptors than that: where so many are open, numbers that one thread
/// gets shortly after each other are close, and each birth would take thousands of steps.
const REACH_OF_MANY: u32 = 128;

/// What is followed in one table, at most.
const MAX_FOLLOWED: usize = 64;

/// A descriptor of a duplicate, and one that the same thread had made shortly before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentOpen {
    /// The one of the duplicate.
    pub of: u32,
    /// When that was made.
    pub of_born: Moment,
    /// The other's number.
    pub fd: u32,
    /// What it was.
    pub slot: FdEntry,
    /// When it was closed, if it is.
    pub closed: Option<Moment>,
}

/// All that is followed.
#[derive(Debug, Default)]
pub(super) struct RecentOpens {
    by_table: FxHashMap<TableId, Vec<(Identity, RecentOpen)>>,
}

impl RecentOpens {
    /// The descriptor has become one of a duplicate.
    pub(super) fn note(&mut self, table: &Table, fd: u32, slot: &FdEntry) {
        if slot.is_from_snapshot() {
            return;
        }
        let identity = slot.identity();
        let noted = self
            .by_table
            .get(&table.id())
            .map_or(&[][..], Vec::as_slice);
        if noted.len() + MAX_NEARBY > MAX_FOLLOWED
            || noted
                .iter()
                .any(|(_, near)| (near.of, near.of_born) == (fd, slot.born))
        {
            return;
        }
        let reach = if table.len() > REACH as usize {
            REACH_OF_MANY
        } else {
            REACH
        };
        let mut nearby: Vec<_> = table
            .range(fd.saturating_sub(reach), fd.saturating_add(reach))
            .filter(|(_, other)| {
                let (born, of) = (other.born, slot.born);
                other.tid == slot.tid
                    && !other.is_from_snapshot()
                    && born < of
                    && of.since(born) < SHORTLY
                    && other.identity() != identity
            })
            .map(|(other, near)| RecentOpen {
                of: fd,
                of_born: slot.born,
                fd: other,
                slot: *near,
                closed: None,
            })
            .collect();
        if nearby.is_empty() {
            return;
        }
        nearby.sort_unstable_by_key(|near| std::cmp::Reverse(near.slot.born));
        nearby.truncate(MAX_NEARBY);
        let noted = self.by_table.entry(table.id()).or_default();
        noted.extend(nearby.into_iter().map(|near| (identity, near)));
    }

    /// A descriptor was closed: the files of duplicates that it was around of.
    pub(super) fn closed(
        &mut self,
        table: TableId,
        fd: u32,
        slot: &FdEntry,
        at: Moment,
    ) -> Vec<Identity> {
        if self.by_table.is_empty() {
            return Vec::new();
        }
        let Some(noted) = self.by_table.get_mut(&table) else {
            return Vec::new();
        };
        let born = slot.born;
        let mut touched = Vec::new();
        for (identity, near) in &mut *noted {
            if near.fd == fd && { near.slot.born } == born && near.closed.is_none() {
                near.closed = Some(at);
                touched.push(*identity);
            }
        }
        touched
    }

    /// What is around the duplicate's descriptors.
    pub(super) fn of(&self, table: TableId, identity: Identity) -> Vec<RecentOpen> {
        let noted = self.by_table.get(&table).into_iter().flatten();
        let own = noted.filter(|(of, _)| *of == identity);
        own.map(|&(_, near)| near).collect()
    }

    /// Of descriptors that are closed and told nothing more is to be told.
    pub(super) fn keep_open(&mut self, table: &Table) {
        let Some(noted) = self.by_table.get_mut(&table.id()) else {
            return;
        };
        noted.retain(|(_, near)| {
            let of = table.get(near.of);
            of.is_some_and(|of| { of.born } == near.of_born)
        });
        if noted.is_empty() {
            self.by_table.remove(&table.id());
        }
    }

    pub(super) fn gone(&mut self, table: TableId) {
        if !self.by_table.is_empty() {
            self.by_table.remove(&table);
        }
    }
}
