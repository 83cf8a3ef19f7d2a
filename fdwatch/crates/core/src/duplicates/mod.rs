//! Detects duplicates: two or more descriptors of one table on the same file; or a single one, if
//! the file was deleted while open.
//!
//! No I/O. Follows the model as its [`Observer`], tracks the files that are open more than once,
//! and reports changes at intervals.

mod change;
mod double_close;
mod group;
mod groups;
mod queue;
mod recent_opens;
mod rotation;
mod shared;

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

pub use self::{
    change::Change,
    double_close::{Closing, DoubleClose},
    group::Closed,
    groups::Folded,
    recent_opens::RecentOpen,
    rotation::{Path, Rotation},
    shared::{SharedFile, Writer},
};
use self::{
    double_close::Closings,
    group::{Group, Key},
    groups::Groups,
    queue::FairQueue,
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

/// Time after which groups that had to wait are tried again: nanoseconds.
const RETRY_AFTER: u64 = 50_000_000;

/// Waiting groups up to which they are reported in the order of their changes. With more, users and
/// tables take turns.
const UNCONTENDED: usize = 32;

/// Entries of overfull tables that one sweep searches: less than a millisecond's work for most hosts.
const MAX_SEARCHED: usize = 1 << 15;

/// Open descriptors of all duplicates, above which a finding lists fewer; and the limits of one finding.
const MAX_ALL_LISTED: usize = 1 << 14;
const MAX_LISTED: usize = 512;
const MIN_LISTED: usize = 8;

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
    /// Maximum number of open descriptors that a finding lists. A leak can have hundreds of thousands, and all
    /// findings together must fit into memory.
    pub max_listed: usize,
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
    groups: Groups,
    /// Groups that have changed since the last call of `settle`.
    dirty: Vec<Key>,
    /// Groups with changes to report.
    queue: FairQueue<TableId, Key>,
    /// Groups whose changes are to be reported later.
    later: Vec<Key>,
    /// When those of `later` were last tried.
    retried: Moment,
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
            groups: Groups::default(),
            dirty: Vec::new(),
            queue: FairQueue::default(),
            later: Vec::new(),
            retried: Moment(0),
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

    /// Searches a table for files that are open more than once or deleted: two passes over its entries.
    fn search_table(&mut self, table: &Table, now: Moment) {
        let mut files: FxHashMap<Identity, (u32, bool)> = FxHashMap::default();
        let (mut deleted, mut duplicated) = (Vec::new(), Vec::new());
        for (_, entry) in table.iter().filter(|(_, entry)| self.is_of_interest(entry)) {
            let identity = entry.identity();
            let (count, is_deleted) = files.entry(identity).or_default();
            *count += 1;
            if *count == 2 {
                duplicated.push((identity, now));
            }
            // Copies made by fork or exec were reported for the previous holder.
            if !*is_deleted
                && is_deleted_file(entry)
                && matches!(
                    table.provenance(entry),
                    Provenance::Made | Provenance::Unknown
                )
            {
                *is_deleted = true;
                deleted.push((identity, entry.opened));
            }
        }
        let is_deleted = |identity| {
            files
                .get(&identity)
                .is_some_and(|&(_, is_deleted)| is_deleted)
        };
        duplicated.retain(|&(identity, _)| !is_deleted(identity));
        let mut found = deleted;
        found.append(&mut duplicated);
        let mut folded = 0;
        let mut members: FxHashMap<Identity, Vec<u32>> = FxHashMap::default();
        found.retain(|&(identity, _)| {
            let key = Key {
                table: table.id(),
                identity,
            };
            let is_known = self.groups.contains(&key);
            if !is_known && !self.groups.has_room_for(key.table, members.len()) {
                folded += 1;
                return false;
            }
            if !is_known {
                members.insert(identity, Vec::new());
            }
            true
        });
        self.groups.set_folded(table, folded);
        if !members.is_empty() {
            for (fd, entry) in table.iter() {
                if let Some(members) = members.get_mut(&entry.identity()) {
                    members.push(fd);
                }
            }
        }
        for (identity, since) in found {
            if let Some(members) = members.remove(&identity) {
                self.follow(table, identity, members, since);
            }
            if is_deleted(identity) {
                self.mark_deleted(table, identity);
            }
        }
    }

    /// Passes what has changed since the last call to `report`, until `goes_on` returns false. Returns
    /// whether there is more. Reports of one file are rate-limited. If many wait, users, as `user_of`
    /// returns them for a process, take turns, and so do the tables of a user.
    pub fn settle(
        &mut self,
        model: &Model,
        now: Moment,
        user_of: &mut impl FnMut(u32) -> u32,
        goes_on: &mut impl FnMut() -> bool,
        report: &mut impl FnMut(&Duplicate<'_>, &Model),
    ) -> bool {
        self.settle_some(model, now, true, user_of, goes_on, report)
    }

    fn settle_some(
        &mut self,
        model: &Model,
        now: Moment,
        is_fair: bool,
        user_of: &mut impl FnMut(u32) -> u32,
        goes_on: &mut impl FnMut() -> bool,
        report: &mut impl FnMut(&Duplicate<'_>, &Model),
    ) -> bool {
        while let Some(&(due, table, address)) = self.children.front() {
            if due > now {
                break;
            }
            if !goes_on() {
                return true;
            }
            self.children.pop_front();
            if !self.waiting.remove(&table) {
                continue;
            }
            if let Some(table) = model.table(address).filter(|found| found.id() == table) {
                self.search_table(table, now);
            }
        }
        let mut changed = Vec::new();
        if now.since(self.retried) >= RETRY_AFTER {
            self.retried = now;
            changed.append(&mut self.later);
        }
        changed.append(&mut self.dirty);
        let members = self.groups.iter().map(|group| group.members.len());
        let share = MAX_ALL_LISTED * MAX_LISTED / members.sum::<usize>().max(1);
        let max_listed = share.clamp(MIN_LISTED, MAX_LISTED);
        let is_contended = is_fair && self.queue.len() + changed.len() > UNCONTENDED;
        for key in changed {
            if is_contended || self.queue.len() > 0 || !goes_on() {
                let user = self.groups.user(&key, user_of);
                self.queue.push(user, key.table, key);
            } else if self.settle_group(key, model, now, max_listed, report) {
                self.later.push(key);
            }
        }
        while self.queue.len() > 0 && goes_on() {
            if let Some(key) = self.queue.pop()
                && self.settle_group(key, model, now, max_listed, report)
            {
                self.later.push(key);
            }
        }
        self.queue.len() > 0
    }

    /// Passes everything that has changed since the last call to `report`, in the order of the changes.
    pub fn settle_all(
        &mut self,
        model: &Model,
        now: Moment,
        report: &mut impl FnMut(&Duplicate<'_>, &Model),
    ) {
        self.settle_some(model, now, false, &mut |_| 0, &mut || true, report);
    }

    /// Returns how many files are not followed, because their processes have too many.
    #[must_use]
    pub const fn folded(&self) -> Folded {
        self.groups.folded()
    }

    /// Returns how many descriptors were not checked for rotation, because there were too many.
    #[must_use]
    pub const fn skipped_rotations(&self) -> u64 {
        self.rotations.skipped()
    }

    /// Searches tables with more files than are followed: some may have been closed since. The work of
    /// one call is bounded.
    fn search_overfull(&mut self, model: &Model, now: Moment) {
        let mut searched = 0;
        for _ in 0..self.groups.overfull() {
            if searched >= MAX_SEARCHED {
                break;
            }
            let Some((id, address)) = self.groups.next_overfull() else {
                break;
            };
            if let Some(table) = model.table(address).filter(|table| table.id() == id) {
                searched += table.len();
                self.search_table(table, now);
            }
        }
    }

    /// Returns for each process how many files it has open more than once, and how many extra
    /// descriptors on them.
    #[must_use]
    pub fn by_process(&self) -> FxHashMap<u32, (usize, usize)> {
        let mut by_process = FxHashMap::default();
        let duplicated = self.groups.iter().filter(|it| it.members.len() > 1);
        for group in duplicated {
            let (files, more) = by_process.entry(group.tgid).or_insert((0, 0));
            *files += 1;
            *more += group.members.len() - 1;
        }
        by_process
    }

    /// Returns the processes of all duplicates, each once.
    #[must_use]
    pub fn processes(&self) -> FxHashSet<u32> {
        self.groups.iter().map(|group| group.tgid).collect()
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
    /// descriptor, given the process, the number and the entry. Also searches tables whose files were
    /// too many to follow.
    pub fn sweep(
        &mut self,
        model: &Model,
        now: Moment,
        path_of: &mut impl FnMut(u32, u32, &FdEntry) -> Option<Path>,
        report: &mut impl FnMut(&Rotation<'_>, &Model),
    ) {
        self.search_overfull(model, now);
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
        max_listed: usize,
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
                let fds: Vec<_> = group.members.iter().copied().collect();
                let duplicate = Duplicate {
                    id: group.id,
                    change,
                    tgid: group.tgid,
                    table,
                    identity: key.identity,
                    fds: &fds,
                    max_listed,
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
        let is_remembered = table.is_some() && group.reports > 0;
        if is_remembered && self.groups.has_room_to_remember(key.table) {
            return true;
        }
        self.groups.remove(&key);
        false
    }

    /// Drops what a child closed before it ran another program, which it never used.
    fn forget_history(&mut self, table: TableId) {
        for identity in self.groups.identities(table) {
            let key = Key { table, identity };
            match self.groups.get_mut(&key) {
                Some(group) if group.is_duplicate() => group.forget_closed(),
                _ => self.groups.remove(&key),
            }
        }
    }

    fn is_of_interest(&self, entry: &FdEntry) -> bool {
        self.all_types || entry.file_type() == FileType::Regular
    }

    /// Follows a file that `table` has open more than once, or that was deleted, if there is room.
    fn watch(&mut self, table: &mut Table, fd: u32, identity: Identity, at: Moment) {
        if !self.groups.has_room(table.id()) {
            self.groups.fold(table);
            return;
        }
        let members = table.all_on_file(fd, identity);
        self.follow(table, identity, members, at);
    }

    /// Follows the descriptors `members`, all those of `table` on the file.
    fn follow(&mut self, table: &Table, identity: Identity, members: Vec<u32>, at: Moment) {
        let key = Key {
            table: table.id(),
            identity,
        };
        self.next_id += 1;
        for &fd in members.iter().take(MAX_LOOKUPS) {
            if let Some(entry) = table.get(fd) {
                self.recent_opens.note(table, fd, entry);
            }
        }
        let tgid = table.holders().first().map_or(0, |holder| holder.tgid);
        let mut group = Group::new(self.next_id, table.address(), tgid, members, at);
        mark(&mut self.dirty, key, &mut group);
        self.groups.insert(key, group);
    }

    /// Makes a single descriptor on the file reportable.
    fn mark_deleted(&mut self, table: &Table, identity: Identity) {
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

/// Returns whether the entry is a regular file that had a name and has none any more.
fn is_deleted_file(entry: &FdEntry) -> bool {
    entry.was_unlinked() && entry.file_type() == FileType::Regular && !entry.is_temporary()
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
            self.watch(table, fd, identity, entry.opened);
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

    fn unlinked(&mut self, table: &mut Table, fd: u32, entry: &FdEntry) {
        if !is_deleted_file(entry) {
            return;
        }
        let identity = entry.identity();
        let key = Key {
            table: table.id(),
            identity,
        };
        if !self.groups.contains(&key) {
            self.watch(table, fd, identity, entry.opened);
        }
        self.mark_deleted(table, identity);
    }

    fn table_dropped(&mut self, table: &Table, at: Moment) {
        self.rotations.table_dropped(table);
        self.recent_opens.gone(table.id());
        self.closings.forget(table.id());
        let waited_for = self.waiting.remove(&table.id());
        let Some(identities) = self.groups.remove_table(table.id()) else {
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
