//! The audit: a comparison of a snapshot with the model. Differences are drift, and are repaired.
//!
//! A descriptor is read a moment before or after its event is in the ring, so that a busy process
//! always differs from the model in a single pass. A difference therefore counts only if the next
//! pass shows the same one and no event was about that descriptor in between: pending events arrive
//! and cancel it.

use fdwatch_common::{Header, SnapshotFile, SnapshotTask};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{FdEntry, Holder, Model, Moment, Observer, Process, TableId};
use crate::shrink;

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
enum Difference {
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
struct Cursor {
    address: u64,
    /// The lowest number that the pass has not covered yet.
    next: u32,
    /// Differences count without a second pass, because the whole table was unknown or is not
    /// followed.
    is_confirmed: bool,
    /// Differences are expected, because the process is or was not followed.
    is_expected: bool,
}

/// The state of the audit.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) is_under_way: bool,
    began: Moment,
    /// Number of the pass.
    look: u32,
    /// Differences, by table and descriptor, and the pass that showed them.
    differences: FxHashMap<(u64, u32), (Difference, u32)>,
    /// Tasks with a table that the model did not assign to them. Key: process and thread. Value:
    /// table, start time of the process, and pass.
    unknown: FxHashMap<(u32, u32), (u64, u64, u32)>,
    /// Tables and processes that were not visited, and the pass in which.
    unvisited_tables: FxHashMap<TableId, u32>,
    unvisited_processes: FxHashMap<u32, u32>,
    visited_tables: FxHashSet<u64>,
    visited_processes: FxHashSet<u32>,
    cursor: Option<Cursor>,
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
    fn confirms(&mut self, table: u64, fd: u32, difference: Difference) -> bool {
        let look = self.look;
        let before = self.differences.insert((table, fd), (difference, look));
        let confirmed = before.is_some_and(|(same, at)| same == difference && at < look);
        if confirmed {
            self.differences.remove(&(table, fd));
        }
        confirmed
    }
}

/// Audits until a process that is followed again is exact: the first shows the whole table, the
/// others what changed meanwhile.
const AUDITS_TO_FOLLOW: u32 = 3;

impl Model {
    /// Stops expecting events about the process's descriptors; audits and events about processes
    /// keep it up to date.
    pub fn stop_following(&mut self, tgid: u32) {
        self.not_followed.insert(tgid, None);
    }

    /// Expects events about the process's descriptors again.
    pub fn follow_again(&mut self, tgid: u32) {
        if let Some(audits_to_come) = self.not_followed.get_mut(&tgid) {
            *audits_to_come = Some(AUDITS_TO_FOLLOW);
        }
    }

    /// Returns the number of processes whose descriptors may be out of date, because they are or
    /// were not followed.
    #[must_use]
    pub fn not_followed(&self) -> usize {
        self.not_followed.len()
    }

    /// Begins an audit: the snapshot's records arrive among those of the events.
    pub fn begin_audit(&mut self) {
        let audit = &mut self.audit;
        audit.is_under_way = true;
        audit.began = self.now;
        audit.look += 1;
        audit.visited_tables.clear();
        audit.visited_processes.clear();
        audit.cursor = None;
    }

    /// Abandons the audit. What it did not visit is not counted as missing.
    pub fn break_off_audit(&mut self) {
        self.audit.is_under_way = false;
        self.audit.cursor = None;
    }

    /// Ends the audit, and repairs what two passes have confirmed.
    pub fn end_audit(&mut self, observer: &mut impl Observer) -> Outcome {
        self.finish_table(observer);
        self.statistics.drift.audits += 1;
        let audit = &mut self.audit;
        audit.is_under_way = false;
        let look = audit.look;
        audit.differences.retain(|_, &mut (_, at)| at == look);
        audit.unknown.retain(|_, &mut (_, _, at)| at == look);
        // After a loss of records, a whole large table may differ once.
        shrink::of_map(&mut audit.differences);
        shrink::of_map(&mut audit.unknown);
        let differences = &audit.differences;
        self.not_followed
            .retain(|_, audits_to_come| match audits_to_come {
                Some(1) => false,
                Some(audits) => {
                    *audits -= 1;
                    true
                }
                None => true,
            });
        self.contested
            .audited(audit.began, |number| differences.contains_key(&number));
        let mut outcome = Outcome {
            is_open: !audit.differences.is_empty() || !audit.unknown.is_empty(),
            ..Outcome::default()
        };
        for &tgid in self.processes.keys() {
            if !audit.visited_processes.contains(&tgid)
                && audit.unvisited_processes.insert(tgid, look).is_some()
            {
                outcome.unvisited.push(tgid);
            }
        }
        audit.unvisited_processes.retain(|_, &mut at| at == look);
        let mut left = Vec::new();
        for table in self.tables.values() {
            if !table.is_empty()
                && !audit.visited_tables.contains(&table.address())
                && audit.unvisited_tables.insert(table.id(), look).is_some()
            {
                let holders = table.holders().iter();
                let seen = holders.filter(|holder| audit.visited_processes.contains(&holder.tgid));
                left.extend(seen.map(|&holder| (table.address(), holder)));
            }
        }
        audit.unvisited_tables.retain(|_, &mut at| at == look);
        for (address, holder) in left {
            self.leave(address, holder, observer);
        }
        outcome
    }

    /// Releases a table that a visited process no longer uses: the end of the thread that had it
    /// was not reported, or the record was lost.
    fn leave(&mut self, address: u64, holder: Holder, observer: &mut impl Observer) {
        let Some(process) = self.processes.get_mut(&holder.tgid) else {
            return;
        };
        if holder.tid == holder.tgid {
            process.table = 0;
        } else {
            process.threads.retain(|&of| of != (holder.tid, address));
        }
        // The end of the last of several threads is never reported.
        if holder.tid != Process::OTHER_THREADS
            && let Some(table) = self.tables.get(&address)
            && table.holders() == [holder]
        {
            self.statistics.drift.phantom += table.len() as u64;
        }
        self.release(address, holder, observer);
    }

    /// Removes a process that is known to have ended or to have no descriptors.
    pub fn forget(&mut self, tgid: u32, observer: &mut impl Observer) {
        if let Some(process) = self.processes.get(&tgid) {
            let tables = process.threads.iter().map(|&(_, table)| table);
            let tables = tables.chain([process.table]);
            let held = tables.filter_map(|table| self.tables.get(&table));
            let ends = held.filter(|table| table.holders().iter().all(|held| held.tgid == tgid));
            self.statistics.drift.phantom += ends.map(|table| table.len() as u64).sum::<u64>();
        }
        self.remove_process(tgid, observer);
    }

    pub(super) fn audit_task(&mut self, task: &SnapshotTask, observer: &mut impl Observer) {
        self.finish_table(observer);
        let &SnapshotTask {
            header: Header { tid, tgid, .. },
            table: address,
            start_time,
            ..
        } = task;
        if address == 0 {
            return;
        }
        self.audit.visited_tables.insert(address);
        self.audit.visited_processes.insert(tgid);
        let process = self.processes.get(&tgid);
        // Another table may have been at this address, or the thread used another one.
        let is_known = self.tables.contains_key(&address)
            && process.is_some_and(|process| {
                [0, start_time].contains(&process.start_time) && process.has_own(tid, address)
            });
        let audits_to_come = self.not_followed.get(&tgid).copied();
        let is_expected = audits_to_come.is_some();
        let mut is_confirmed = is_expected
            && audits_to_come
                .flatten()
                .is_none_or(|it| it == AUDITS_TO_FOLLOW);
        if !is_known {
            self.contested.forget(address);
            let look = self.audit.look;
            let seen = (address, start_time, look);
            let before = self.audit.unknown.insert((tgid, tid), seen);
            is_confirmed |= before.is_some_and(|(table, started, at)| {
                (table, started) == (address, start_time) && at < look
            });
            if !is_confirmed {
                return;
            }
            self.audit.unknown.remove(&(tgid, tid));
            self.meet(task, observer);
        }
        self.audit.cursor = Some(Cursor {
            address,
            next: 0,
            is_confirmed,
            is_expected,
        });
    }

    pub(super) fn audit_file(&mut self, file: &SnapshotFile, observer: &mut impl Observer) {
        let &SnapshotFile {
            ref header,
            table: address,
            ref payload,
        } = file;
        let Some(cursor) = self.audit.cursor.filter(|at| at.address == address) else {
            return;
        };
        let fd = header.fd;
        self.find_phantoms(cursor, fd, observer);
        if let Some(cursor) = &mut self.audit.cursor {
            cursor.next = fd.saturating_add(1);
        }
        let Some(table) = self.tables.get_mut(&address) else {
            return;
        };
        let slot = FdEntry::new(header, payload, self.now, true, self.anonymous);
        let difference = match table.get(fd) {
            None => Difference::Missing(slot.file),
            // The kernel soon reuses the address of a closed description.
            Some(known) if !known.is_on_the_same(&slot) => {
                Difference::WrongFile(slot.file, slot.ino)
            }
            Some(known) if known.closes_on_exec() != slot.closes_on_exec() => {
                Difference::CloseOnExec(slot.closes_on_exec())
            }
            Some(known) => {
                let is_news = slot.was_unlinked() && !known.was_unlinked();
                self.audit.touch(address, fd);
                if is_news {
                    table.set_unlinked(fd);
                    observer.unlinked(table, fd, &slot);
                }
                return;
            }
        };
        if !cursor.is_confirmed && !self.audit.confirms(address, fd, difference) {
            return;
        }
        if self.contested.settle((address, fd)) {
            self.statistics.contested_otherwise += 1;
        } else if cursor.is_expected {
            self.statistics.caught_up += 1;
        } else {
            let drift = &mut self.statistics.drift;
            match difference {
                Difference::CloseOnExec(_) => drift.close_on_exec += 1,
                Difference::WrongFile(..) => drift.wrong_file += 1,
                Difference::Missing(_) | Difference::Phantom(_) => drift.missing += 1,
            }
        }
        if let Difference::CloseOnExec(closes) = difference {
            table.set_closes_on_exec(fd, closes);
            return;
        }
        let replaced = table.insert(fd, slot);
        observer.born(table, fd, &slot, replaced.as_ref());
    }

    /// Checks the rest of the table that the pass is leaving.
    fn finish_table(&mut self, observer: &mut impl Observer) {
        if let Some(cursor) = self.audit.cursor.take() {
            self.find_phantoms(cursor, u32::MAX, observer);
        }
    }

    /// Finds descriptors from the cursor up to `end` that the model has and the pass did not show.
    fn find_phantoms(&mut self, cursor: Cursor, end: u32, observer: &mut impl Observer) {
        let address = cursor.address;
        let Some(table) = self.tables.get_mut(&address) else {
            return;
        };
        let between = table.range(cursor.next, end);
        let between: Vec<_> = between.map(|(fd, slot)| (fd, slot.file)).collect();
        for (fd, file) in between {
            if !cursor.is_confirmed && !self.audit.confirms(address, fd, Difference::Phantom(file))
            {
                continue;
            }
            if let Some(slot) = table.remove(fd) {
                if self.contested.settle((address, fd)) {
                    self.statistics.contested_otherwise += 1;
                } else if cursor.is_expected {
                    self.statistics.caught_up += 1;
                } else {
                    self.statistics.drift.phantom += 1;
                }
                observer.died(table, fd, &slot, self.now);
            }
        }
    }
}
