//! Recent opens: what the same thread opened shortly before a descriptor of a duplicate, and
//! whether that is closed while the duplicate stays open.
//!
//! Costs nothing per event: the table is searched when a duplicate appears.

use rustc_hash::FxHashMap;

use crate::model::{FdEntry, Identity, Moment, Table, TableId};

/// Maximum age of a recent open: nanoseconds before the open of the duplicate's descriptor.
const SHORTLY: u64 = 10_000_000_000;

/// Maximum number of recent opens per descriptor; the latest ones are stored.
const MAX_NEARBY: usize = 2;

/// Distance up to which neighbouring numbers are searched, on both sides.
const REACH: u32 = 2048;

/// Search distance in tables with more descriptors than [`REACH`]. There, consecutive opens of a
/// thread get close numbers, and a larger distance would cost each open thousands of steps.
const REACH_OF_MANY: u32 = 128;

/// Maximum number of recent opens followed per table.
const MAX_FOLLOWED: usize = 64;

/// A descriptor of a duplicate, and one that the same thread opened shortly before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentOpen {
    /// The descriptor of the duplicate.
    pub of: u32,
    /// When it was opened.
    pub of_opened: Moment,
    /// The number of the other one.
    pub fd: u32,
    /// Its entry.
    pub entry: FdEntry,
    /// When it was closed, if it was.
    pub closed: Option<Moment>,
}

/// All recent opens that are followed.
#[derive(Debug, Default)]
pub(super) struct RecentOpens {
    by_table: FxHashMap<TableId, Vec<(Identity, RecentOpen)>>,
}

impl RecentOpens {
    /// Looks up recent opens for a descriptor that has become part of a duplicate.
    pub(super) fn note(&mut self, table: &Table, fd: u32, entry: &FdEntry) {
        if entry.is_from_snapshot() {
            return;
        }
        let identity = entry.identity();
        let known = self
            .by_table
            .get(&table.id())
            .map_or(&[][..], Vec::as_slice);
        if known.len() + MAX_NEARBY > MAX_FOLLOWED
            || known
                .iter()
                .any(|(_, near)| (near.of, near.of_opened) == (fd, entry.opened))
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
                let (opened, of) = (other.opened, entry.opened);
                other.tid == entry.tid
                    && !other.is_from_snapshot()
                    && opened < of
                    && of.since(opened) < SHORTLY
                    && other.identity() != identity
            })
            .map(|(other, near)| RecentOpen {
                of: fd,
                of_opened: entry.opened,
                fd: other,
                entry: *near,
                closed: None,
            })
            .collect();
        if nearby.is_empty() {
            return;
        }
        nearby.sort_unstable_by_key(|near| std::cmp::Reverse(near.entry.opened));
        nearby.truncate(MAX_NEARBY);
        let known = self.by_table.entry(table.id()).or_default();
        known.extend(nearby.into_iter().map(|near| (identity, near)));
    }

    /// Records a close, and returns the files of the duplicates it is a recent open of.
    pub(super) fn closed(
        &mut self,
        table: TableId,
        fd: u32,
        entry: &FdEntry,
        at: Moment,
    ) -> Vec<Identity> {
        if self.by_table.is_empty() {
            return Vec::new();
        }
        let Some(known) = self.by_table.get_mut(&table) else {
            return Vec::new();
        };
        let opened = entry.opened;
        let mut touched = Vec::new();
        for (identity, near) in &mut *known {
            if near.fd == fd && { near.entry.opened } == opened && near.closed.is_none() {
                near.closed = Some(at);
                touched.push(*identity);
            }
        }
        touched
    }

    /// Returns the recent opens of the duplicate's descriptors.
    pub(super) fn of(&self, table: TableId, identity: Identity) -> Vec<RecentOpen> {
        let known = self.by_table.get(&table).into_iter().flatten();
        let own = known.filter(|(of, _)| *of == identity);
        own.map(|&(_, near)| near).collect()
    }

    /// Forgets recent opens of descriptors that are closed, after the close was reported.
    pub(super) fn keep_open(&mut self, table: &Table) {
        let Some(known) = self.by_table.get_mut(&table.id()) else {
            return;
        };
        known.retain(|(_, near)| {
            let of = table.get(near.of);
            of.is_some_and(|of| { of.opened } == near.of_opened)
        });
        if known.is_empty() {
            self.by_table.remove(&table.id());
        }
    }

    pub(super) fn gone(&mut self, table: TableId) {
        if !self.by_table.is_empty() {
            self.by_table.remove(&table);
        }
    }
}
