//! Finds duplicates: two or more descriptors of one table on one file; or one, if the file was
//! deleted since.
//!
//! Pure, as the model is. Follows the model as its [`Observer`], remembers which files are held
//! more than once, and says at intervals what has changed of that. Whether it matters, and why it
//! is so, is not known here.

mod double_close;
mod group;
mod recent_opens;
mod rotation;
mod shared;

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use self::{
    double_close::Closings,
    group::{Group, Key},
    recent_opens::RecentOpens,
    rotation::Rotations,
    shared::SharedFiles,
};
pub use self::{
    double_close::{Closing, DoubleClose},
    group::Closed,
    recent_opens::RecentOpen,
    rotation::{Path, Rotation},
    shared::{SharedFile, Writer},
};
use crate::model::{
    FdEntry, FileType, Identity, InvalidClose, Model, Moment, Observer, Provenance, Table, TableId,
};

/// How long a child that has not run another program is given to do so, before it is judged by what
/// it holds: nanoseconds.
const FORK_TO_EXEC: u64 = 1_000_000_000;

/// A file that is told of this often in [`QUIET_AFTER`] is not told of again before that is over.
const MAX_TOLD: u32 = 10;

/// Nanoseconds.
const QUIET_AFTER: u64 = 10_000_000_000;

/// Duplicates that are gone and yet remembered, for them not to be told again and again: up to when
/// there are this many of all.
const MAX_REMEMBERED: usize = 4096;

/// Descriptors of a new duplicate whose surroundings are looked at.
const MAX_AROUND: usize = 8;

/// What happened to a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    Found,
    /// Descriptors were added or closed, and two are left.
    Changed,
    /// Less than two descriptors are left, or none of a deleted file. It may have come only since it was last looked for.
    Gone,
}

/// A duplicate, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Duplicate<'a> {
    /// Number of it, to know it again by: the same for as long as it is told of.
    pub id: u64,
    /// What happened to it.
    pub change: Change,
    /// The process that has held the table the longest.
    pub tgid: u32,
    /// The table; none if the process has ended.
    pub table: Option<&'a Table>,
    /// The file.
    pub identity: Identity,
    /// The descriptors, in order; one or none if it is gone.
    pub fds: &'a [u32],
    /// Those that were closed since it was last told, in the order they were.
    pub closed: &'a [Closed],
    /// How many more were closed, of which nothing is known.
    pub more_closed: u32,
    /// When there came to be two.
    pub since: Moment,
    /// When there came to be less than two.
    pub ended: Option<Moment>,
    /// How often there came to be two since it was last told.
    pub times: u32,
    /// What the threads that made the descriptors had made shortly before.
    pub around: &'a [RecentOpen],
}

/// All duplicates there are.
#[derive(Debug)]
pub struct Duplicates {
    groups: FxHashMap<Key, Group>,
    by_table: FxHashMap<TableId, Vec<Identity>>,
    /// Of which something is to be told.
    dirty: Vec<Key>,
    /// Children that have not run another program, and when they will be judged without.
    children: VecDeque<(Moment, TableId, u64)>,
    /// Those of them that are waited for.
    waiting: FxHashSet<TableId>,
    rotations: Rotations,
    shared: SharedFiles,
    around: RecentOpens,
    closings: Closings,
    next_id: u64,
    all_types: bool,
}

impl Duplicates {
    /// Finds duplicates on regular files, or on `all_types` of files.
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
            around: RecentOpens::default(),
            closings: Closings::default(),
            next_id: 0,
            all_types,
        }
    }

    /// Looks through all of `model`, as after a snapshot, of which an observer is not told.
    pub fn search(&mut self, model: &Model) {
        let now = model.now();
        for table in model.tables() {
            self.search_table(table, now);
            for (fd, slot) in table.iter() {
                self.rotations.born(table, fd, slot);
            }
        }
    }

    fn search_table(&mut self, table: &Table, now: Moment) {
        for (fd, slot) in table.iter() {
            // What came over fork or exec was told of who had it before.
            if slot.was_unlinked()
                && matches!(
                    table.provenance(slot),
                    Provenance::Made | Provenance::Unknown
                )
            {
                self.unlinked(table, fd, slot);
            }
        }
        let mut seen = FxHashMap::default();
        let mut twice = Vec::new();
        for (_, slot) in table.iter().filter(|(_, slot)| self.is_of_interest(slot)) {
            let identity = slot.identity();
            let count = seen.entry(identity).or_insert(0u32);
            *count += 1;
            if *count == 2 {
                twice.push(identity);
            }
        }
        for identity in twice {
            self.watch(table, identity, now);
        }
    }

    /// Tells `judge` what has changed since the last time. No more often than once in a while of
    /// any one file.
    pub fn settle(
        &mut self,
        model: &Model,
        now: Moment,
        judge: &mut impl FnMut(&Duplicate<'_>, &Model),
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
            if self.settle_group(key, model, now, judge) {
                self.dirty.push(key);
            }
        }
    }

    /// Files that each process holds more than once, and descriptors on them beyond the first on each.
    #[must_use]
    pub fn by_process(&self) -> FxHashMap<u32, (usize, usize)> {
        let mut by_process = FxHashMap::default();
        let twice = self.groups.values().filter(|it| it.members.len() > 1);
        for group in twice {
            let (files, more) = by_process.entry(group.tgid).or_insert((0, 0));
            *files += 1;
            *more += group.members.len() - 1;
        }
        by_process
    }

    /// What is closed in the table is remembered from here on: detail is wanted of its process.
    pub fn remember_closings(&mut self, table: TableId) {
        self.closings.remember(table);
    }

    /// Whose thread the last close of the number was.
    pub fn set_closer(&mut self, table: TableId, fd: u32, tid: u32) {
        self.closings.set_closer(table, fd, tid);
    }

    /// What a close of a number that was not open has closed again, if that is known.
    pub fn closed_twice(&mut self, again: InvalidClose, model: &Model) -> Option<DoubleClose> {
        let (first, before) = self.closings.of(&again, model)?;
        self.next_id += 1;
        Some(DoubleClose {
            id: self.next_id,
            again,
            first,
            before,
        })
    }

    /// Tells `judge` of files that were rotated under those who hold them, after asking `path_of`
    /// for paths: of a process's descriptor.
    pub fn sweep(
        &mut self,
        model: &Model,
        now: Moment,
        path_of: &mut impl FnMut(u32, u32, &FdEntry) -> Option<Path>,
        judge: &mut impl FnMut(&Rotation<'_>, &Model),
    ) {
        let next_id = &mut self.next_id;
        let shared = &mut self.shared;
        let mut written = |identity| shared.written(identity);
        self.rotations
            .sweep(model, now, next_id, path_of, &mut written, judge);
    }

    /// Tells `judge` of files that several processes write, if it is time to look for them.
    pub fn look_for_shared(
        &mut self,
        model: &Model,
        now: Moment,
        judge: &mut impl FnMut(&SharedFile<'_>, &Model),
    ) {
        self.shared.look(model, now, &mut self.next_id, judge);
    }

    /// Whether there is more to be told of it later.
    fn settle_group(
        &mut self,
        key: Key,
        model: &Model,
        now: Moment,
        judge: &mut impl FnMut(&Duplicate<'_>, &Model),
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
            group.told = 0;
        }
        if group.changed {
            if group.told >= MAX_TOLD && table.is_some() {
                return true;
            }
            group.members.sort_unstable();
            if let Some(change) = group.change() {
                let around = self.around.of(key.table, key.identity);
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
                    around: &around,
                };
                judge(&duplicate, model);
            }
            group.settle();
            if let Some(table) = table {
                self.around.keep_open(table);
            }
        }
        if group.is_duplicate() {
            group.is_dirty = false;
            return false;
        }
        // One that may be about to come again is remembered, for it not to be told each time.
        if table.is_some() && group.told > 0 && self.groups.len() < MAX_REMEMBERED {
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

    /// What a child closed before it ran another program was never its own.
    fn forget_history(&mut self, table: TableId) {
        for identity in self.by_table.get(&table).cloned().unwrap_or_default() {
            let key = Key { table, identity };
            match self.groups.get_mut(&key) {
                Some(group) if group.is_duplicate() => group.forget_closed(),
                _ => self.forget(key),
            }
        }
    }

    fn is_of_interest(&self, slot: &FdEntry) -> bool {
        self.all_types || slot.file_type() == FileType::Regular
    }

    /// Begins to follow a file that `table` holds more than once, or was deleted.
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
        for &fd in group.members.iter().take(MAX_AROUND) {
            if let Some(slot) = table.get(fd) {
                self.around.note(table, fd, slot);
            }
        }
        self.groups.insert(key, group);
        self.by_table.entry(key.table).or_default().push(identity);
    }

    fn leave(&mut self, table: &Table, fd: u32, slot: &FdEntry, at: Moment) {
        self.closings.closed(table.id(), fd, slot, at);
        let key = Key {
            table: table.id(),
            identity: slot.identity(),
        };
        if let Some(group) = self.groups.get_mut(&key) {
            group.leave(table, fd, slot, at);
            mark(&mut self.dirty, key, group);
        }
        for identity in self.around.closed(key.table, fd, slot, at) {
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
    fn born(&mut self, table: &mut Table, fd: u32, slot: &FdEntry, replaced: Option<&FdEntry>) {
        if let Some(replaced) = replaced {
            self.leave(table, fd, replaced, slot.born);
        }
        if !self.is_of_interest(slot) {
            return;
        }
        self.rotations.born(table, fd, slot);
        let identity = slot.identity();
        let key = Key {
            table: table.id(),
            identity,
        };
        if let Some(group) = self.groups.get_mut(&key) {
            group.join(fd, slot.born);
            mark(&mut self.dirty, key, group);
            self.around.note(table, fd, slot);
        } else if table.has_other(fd, identity) {
            self.watch(table, identity, slot.born);
        }
    }

    fn died(&mut self, table: &mut Table, fd: u32, slot: &FdEntry, at: Moment) {
        self.leave(table, fd, slot, at);
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

    fn unlinked(&mut self, table: &Table, _fd: u32, slot: &FdEntry) {
        if slot.file_type() != FileType::Regular || slot.is_temporary() {
            return;
        }
        let identity = slot.identity();
        self.watch(table, identity, slot.born);
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

    fn gone(&mut self, table: &Table, at: Moment) {
        self.rotations.gone(table);
        self.around.gone(table.id());
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
                // It ended before it could be judged.
                self.groups.remove(&key);
                continue;
            }
            if let Some(group) = self.groups.get_mut(&key) {
                for fd in group.members.clone() {
                    if let Some(slot) = table.get(fd) {
                        group.leave(table, fd, slot, at);
                    }
                }
                mark(&mut self.dirty, key, group);
            }
        }
    }
}

#[cfg(test)]
mod tests;
