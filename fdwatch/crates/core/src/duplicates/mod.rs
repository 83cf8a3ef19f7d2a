//! Detects duplicates: two or more descriptors of one table on the same file; or a single one, if
//! the file was deleted while open.
//!
//! No I/O. Follows the model as its [`Observer`], tracks the files that are open more than once,
//! and reports changes at intervals.

mod change;
mod double_close;
mod group;
mod recent_opens;
mod rotation;
mod shared;

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

pub use self::{
    change::Change,
    double_close::{Closing, DoubleClose},
    group::Closed,
    recent_opens::RecentOpen,
    rotation::{Path, Rotation},
    shared::{SharedFile, Writer},
};
use self::{
    double_close::Closings,
    group::{Group, Key},
    recent_opens::RecentOpens,
    rotation::Rotations,
    shared::SharedFiles,
};
use crate::model::{
    FdEntry, FileType, Identity, InvalidClose, Model, Moment, Observer, Provenance, Table, TableId,
};

/// Time for a child to run another program before its own duplicates are reported: nanoseconds.
const FORK_TO_EXEC: u64 = 1_000_000_000;

/// Maximum number of reports of one file per [`QUIET_AFTER`]; further ones are delayed until that
/// time is over.
const MAX_REPORTS: u32 = 10;

/// Period in which reports of a file are limited: nanoseconds.
const QUIET_AFTER: u64 = 10_000_000_000;

/// Number of duplicates up to which ended ones are remembered, so that a recurring one is not
/// reported as new each time.
const MAX_REMEMBERED: usize = 4096;

/// Maximum number of descriptors of a new duplicate for which recent opens are looked up.
const MAX_LOOKUPS: usize = 8;

/// The state of a duplicate.
#[derive(Clone, Copy, Debug)]
pub struct Duplicate<'a> {
    /// Its ID, constant for as long as it is remembered.
    pub id: u64,
    /// What happened to it.
    pub change: Change,
    /// The longest-standing holder of the table.
    pub tgid: u32,
    /// The table; none if the process has ended.
    pub table: Option<&'a Table>,
    /// The file.
    pub identity: Identity,
    /// The open descriptors, in order; at most one if it is gone.
    pub fds: &'a [u32],
    /// Descriptors closed since the last report, in order of closing.
    pub closed: &'a [Closed],
    /// Number of further closed descriptors.
    pub more_closed: u32,
    /// When a second descriptor was opened.
    pub since: Moment,
    /// When fewer than two were left.
    pub ended: Option<Moment>,
    /// How often it appeared since the last report.
    pub times: u32,
    /// Descriptors that the same threads opened shortly before those of the duplicate.
    pub recent_opens: &'a [RecentOpen],
}

/// All duplicates.
#[derive(Debug)]
pub struct Duplicates {
    groups: FxHashMap<Key, Group>,
    by_table: FxHashMap<TableId, Vec<Identity>>,
    /// Groups with changes to report.
    dirty: Vec<Key>,
    /// Children that have not run another program yet: when their duplicates are reported anyway,
    /// their table and its address.
    children: VecDeque<(Moment, TableId, u64)>,
    /// Tables of these children.
    waiting: FxHashSet<TableId>,
    rotations: Rotations,
    shared: SharedFiles,
    recent_opens: RecentOpens,
    closings: Closings,
    next_id: u64,
    all_types: bool,
}

impl Duplicates {
    /// Detects duplicates of regular files, or of `all_types` of files.
    #[must_use]
    pub fn new(all_types: bool) -> Self {
        Self {
            groups: FxHashMap::default(),
            by_table: FxHashMap::default(),
            dirty: Vec::new(),
            children: VecDeque::new(),
            waiting: FxHashSet::default(),
            rotations: Rotations::default(),
            shared: SharedFiles::default(),
            recent_opens: RecentOpens::default(),
            closings: Closings::default(),
            next_id: 0,
            all_types,
        }
    }

    /// Searches the whole model. Needed after a snapshot, which does not notify observers.
    pub fn search(&mut self, model: &Model) {
        let now = model.now();
        for table in model.tables() {
            self.search_table(table, now);
            for (fd, entry) in table.iter() {
                self.rotations.opened(table, fd, entry);
            }
        }
    }

    fn search_table(&mut self, table: &Table, now: Moment) {
        for (fd, entry) in table.iter() {
            // Copies made by fork or exec were reported for the previous holder.
            if entry.was_unlinked()
                && matches!(
                    table.provenance(entry),
                    Provenance::Made | Provenance::Unknown
                )
            {
                self.unlinked(table, fd, entry);
            }
        }
        let mut seen = FxHashMap::default();
        let mut duplicated = Vec::new();
        for (_, entry) in table.iter().filter(|(_, entry)| self.is_of_interest(entry)) {
            let identity = entry.identity();
            let count = seen.entry(identity).or_insert(0u32);
            *count += 1;
            if *count == 2 {
                duplicated.push(identity);
            }
        }
        for identity in duplicated {
            self.watch(table, identity, now);
        }
    }

    /// Passes what has changed since the last call to `report`. Reports of one file are
    /// rate-limited.
    pub fn settle(
        &mut self,
        model: &Model,
        now: Moment,
        report: &mut impl FnMut(&Duplicate<'_>, &Model),
    ) {
        while let Some(&(due, table, address)) = self.children.front() {
            if due > now {
                break;
            }
            self.children.pop_front();
            if !self.waiting.remove(&table) {
                continue;
            }
            if let Some(table) = model.table(address).filter(|found| found.id() == table) {
                self.search_table(table, now);
            }
        }
        for key in std::mem::take(&mut self.dirty) {
            if self.settle_group(key, model, now, report) {
                self.dirty.push(key);
            }
        }
    }

    /// Returns for each process how many files it has open more than once, and how many extra
    /// descriptors on them.
    #[must_use]
    pub fn by_process(&self) -> FxHashMap<u32, (usize, usize)> {
        let mut by_process = FxHashMap::default();
        let duplicated = self.groups.values().filter(|it| it.members.len() > 1);
        for group in duplicated {
            let (files, more) = by_process.entry(group.tgid).or_insert((0, 0));
            *files += 1;
            *more += group.members.len() - 1;
        }
        by_process
    }

    /// Remembers closes in the table from now on: detail is collected for its process.
    pub fn remember_closings(&mut self, table: TableId) {
        self.closings.remember(table);
    }

    /// Sets the thread of the last close of the number.
    pub fn set_closer(&mut self, table: TableId, fd: u32, tid: u32) {
        self.closings.set_closer(table, fd, tid);
    }

    /// Returns the double close that the invalid close `again` completes, if the first close is
    /// known.
    pub fn closed_twice(&mut self, again: InvalidClose, model: &Model) -> Option<DoubleClose> {
        let (first, before) = self.closings.last_two(&again, model)?;
        self.next_id += 1;
        Some(DoubleClose {
            id: self.next_id,
            again,
            first,
            before,
        })
    }

    /// Passes files that were rotated while open to `report`. `path_of` returns the path of a
    /// descriptor, given the process, the number and the entry.
    pub fn sweep(
        &mut self,
        model: &Model,
        now: Moment,
        path_of: &mut impl FnMut(u32, u32, &FdEntry) -> Option<Path>,
        report: &mut impl FnMut(&Rotation<'_>, &Model),
    ) {
        let next_id = &mut self.next_id;
        let shared = &mut self.shared;
        let mut written = |identity| shared.written(identity);
        self.rotations
            .sweep(model, now, next_id, path_of, &mut written, report);
    }

    /// Passes files that several processes write to `report`, if it is time to search for them.
    pub fn search_shared(
        &mut self,
        model: &Model,
        now: Moment,
        report: &mut impl FnMut(&SharedFile<'_>, &Model),
    ) {
        self.shared.search(model, now, &mut self.next_id, report);
    }

    /// Reports a group, and returns whether it has more to report later.
    fn settle_group(
        &mut self,
        key: Key,
        model: &Model,
        now: Moment,
        report: &mut impl FnMut(&Duplicate<'_>, &Model),
    ) -> bool {
        let Some(group) = self.groups.get_mut(&key) else {
            return false;
        };
        if self.waiting.contains(&key.table) {
            return true;
        }
        let table = model.table(group.address);
        let table = table.filter(|table| table.id() == key.table);
        if now.since(group.counted_since) >= QUIET_AFTER {
            group.counted_since = now;
            group.reports = 0;
        }
        if group.changed {
            if group.reports >= MAX_REPORTS && table.is_some() {
                return true;
            }
            group.members.sort_unstable();
            if let Some(change) = group.change() {
                let recent_opens = self.recent_opens.of(key.table, key.identity);
                let duplicate = Duplicate {
                    id: group.id,
                    change,
                    tgid: group.tgid,
                    table,
                    identity: key.identity,
                    fds: &group.members,
                    closed: &group.closed,
                    more_closed: group.more_closed,
                    since: group.since,
                    ended: group.ended,
                    times: group.times,
                    recent_opens: &recent_opens,
                };
                report(&duplicate, model);
            }
            group.settle();
            if let Some(table) = table {
                self.recent_opens.keep_open(table);
            }
        }
        if group.is_duplicate() {
            group.is_dirty = false;
            return false;
        }
        // It may recur. Remembered, so that it is not reported as new each time.
        if table.is_some() && group.reports > 0 && self.groups.len() < MAX_REMEMBERED {
            return true;
        }
        self.forget(key);
        false
    }

    fn forget(&mut self, key: Key) {
        self.groups.remove(&key);
        if let Some(identities) = self.by_table.get_mut(&key.table) {
            identities.retain(|&identity| identity != key.identity);
            if identities.is_empty() {
                self.by_table.remove(&key.table);
            }
        }
    }

    /// Drops what a child closed before it ran another program, which it never used.
    fn forget_history(&mut self, table: TableId) {
        for identity in self.by_table.get(&table).cloned().unwrap_or_default() {
            let key = Key { table, identity };
            match self.groups.get_mut(&key) {
                Some(group) if group.is_duplicate() => group.forget_closed(),
                _ => self.forget(key),
            }
        }
    }

    fn is_of_interest(&self, entry: &FdEntry) -> bool {
        self.all_types || entry.file_type() == FileType::Regular
    }

    /// Starts to follow a file that `table` has open more than once, or that was deleted.
    fn watch(&mut self, table: &Table, identity: Identity, at: Moment) {
        let key = Key {
            table: table.id(),
            identity,
        };
        if self.groups.contains_key(&key) {
            return;
        }
        self.next_id += 1;
        let members = table.on_file(identity).collect();
        let tgid = table.holders().first().map_or(0, |holder| holder.tgid);
        let mut group = Group::new(self.next_id, table.address(), tgid, members, at);
        mark(&mut self.dirty, key, &mut group);
        for &fd in group.members.iter().take(MAX_LOOKUPS) {
            if let Some(entry) = table.get(fd) {
                self.recent_opens.note(table, fd, entry);
            }
        }
        self.groups.insert(key, group);
        self.by_table.entry(key.table).or_default().push(identity);
    }

    fn leave(&mut self, table: &Table, fd: u32, entry: &FdEntry, at: Moment) {
        self.closings.closed(table.id(), fd, entry, at);
        let key = Key {
            table: table.id(),
            identity: entry.identity(),
        };
        if let Some(group) = self.groups.get_mut(&key) {
            group.leave(table, fd, entry, at);
            mark(&mut self.dirty, key, group);
        }
        for identity in self.recent_opens.closed(key.table, fd, entry, at) {
            let key = Key { identity, ..key };
            if let Some(group) = self.groups.get_mut(&key) {
                group.changed |= group.is_duplicate();
                mark(&mut self.dirty, key, group);
            }
        }
    }
}

fn mark(dirty: &mut Vec<Key>, key: Key, group: &mut Group) {
    if !group.is_dirty {
        group.is_dirty = true;
        dirty.push(key);
    }
}

impl Observer for Duplicates {
    fn opened(&mut self, table: &mut Table, fd: u32, entry: &FdEntry, replaced: Option<&FdEntry>) {
        if let Some(replaced) = replaced {
            self.leave(table, fd, replaced, entry.opened);
        }
        if !self.is_of_interest(entry) {
            return;
        }
        self.rotations.opened(table, fd, entry);
        let identity = entry.identity();
        let key = Key {
            table: table.id(),
            identity,
        };
        if let Some(group) = self.groups.get_mut(&key) {
            group.join(fd, entry.opened);
            mark(&mut self.dirty, key, group);
            self.recent_opens.note(table, fd, entry);
        } else if table.has_other(fd, identity) {
            self.watch(table, identity, entry.opened);
        }
    }

    fn closed(&mut self, table: &mut Table, fd: u32, entry: &FdEntry, at: Moment) {
        self.leave(table, fd, entry, at);
    }

    fn forked(&mut self, table: &Table, at: Moment) {
        let due = at.after(FORK_TO_EXEC);
        self.waiting.insert(table.id());
        let child = (due, table.id(), table.address());
        self.children.push_back(child);
    }

    fn execed(&mut self, table: &Table, at: Moment) {
        if self.waiting.remove(&table.id()) {
            self.forget_history(table.id());
        }
        self.search_table(table, at);
    }

    fn unlinked(&mut self, table: &Table, _fd: u32, entry: &FdEntry) {
        if entry.file_type() != FileType::Regular || entry.is_temporary() {
            return;
        }
        let identity = entry.identity();
        self.watch(table, identity, entry.opened);
        let key = Key {
            table: table.id(),
            identity,
        };
        if let Some(group) = self.groups.get_mut(&key)
            && group.least > 1
        {
            group.least = 1;
            group.changed = true;
            mark(&mut self.dirty, key, group);
        }
    }

    fn table_dropped(&mut self, table: &Table, at: Moment) {
        self.rotations.table_dropped(table);
        self.recent_opens.gone(table.id());
        self.closings.forget(table.id());
        let waited_for = self.waiting.remove(&table.id());
        let Some(identities) = self.by_table.remove(&table.id()) else {
            return;
        };
        for identity in identities {
            let key = Key {
                table: table.id(),
                identity,
            };
            if waited_for {
                // It ended before its duplicates were reported.
                self.groups.remove(&key);
                continue;
            }
            if let Some(group) = self.groups.get_mut(&key) {
                for fd in group.members.clone() {
                    if let Some(entry) = table.get(fd) {
                        group.leave(table, fd, entry, at);
                    }
                }
                mark(&mut self.dirty, key, group);
            }
        }
    }
}

#[cfg(test)]
mod tests;
