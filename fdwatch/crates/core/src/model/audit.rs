//! The audit: a snapshot held against the model. What differs is drift, and is repaired.
//!
//! A descriptor is looked at a moment before or after its event is in the ring, so that one look
//! always differs from the model where something is going on. Hence a difference only counts if the
//! next look shows the same one, and no event was about that descriptor in between: events that are
//! on their way arrive, and end it.

use fdwatch_common::{Header, SnapshotFile, SnapshotTask};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{FdEntry, Holder, Model, Moment, Observer, Process, TableId};
use crate::shrink;

/// What was found to be wrong, and repaired, since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Audits that were held.
    pub audits: u64,
    /// Descriptors that the model did not have.
    pub missing: u64,
    /// Descriptors that only the model had.
    pub phantom: u64,
    /// Descriptors that referred to something else.
    pub wrong_file: u64,
    /// Descriptors that differed in whether they close on exec.
    pub close_on_exec: u64,
}

impl Drift {
    /// Descriptors that were wrong in any way.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.missing + self.phantom + self.wrong_file + self.close_on_exec
    }
}

/// What came of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// There are differences that another look must confirm.
    pub is_open: bool,
    /// Processes that two looks did not come to: they have ended, have no descriptors, or are
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
    /// In the kernel it is so.
    CloseOnExec(bool),
}

/// The table that a look is at.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    address: u64,
    /// The first number that nothing was said of yet.
    next: u32,
    /// What differs is known to be wrong, because all of the table was, or is not followed.
    is_confirmed: bool,
    /// What differs was to be expected.
    is_expected: bool,
}

/// The state of the audit.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) is_under_way: bool,
    began: Moment,
    /// Number of the look.
    look: u32,
    /// What differed in which look.
    differences: FxHashMap<(u64, u32), (Difference, u32)>,
    /// Tasks that have a table which the model did not know to be theirs: process and thread; which
    /// table, when the process was started, and in which look.
    unknown: FxHashMap<(u32, u32), (u64, u64, u32)>,
    /// Tables and processes that were not come to, and in which look.
    unvisited_tables: FxHashMap<TableId, u32>,
    unvisited_processes: FxHashMap<u32, u32>,
    visited_tables: FxHashSet<u64>,
    visited_processes: FxHashSet<u32>,
    cursor: Option<Cursor>,
}

impl Audit {
    /// An event was about the descriptor.
    pub(super) fn touch(&mut self, table: u64, fd: u32) {
        if !self.differences.is_empty() {
            self.differences.remove(&(table, fd));
        }
    }

    /// An event was about all of the table.
    pub(super) fn touch_table(&mut self, table: u64) {
        if !self.differences.is_empty() {
            self.differences.retain(|&(other, _), _| other != table);
        }
        if !self.unknown.is_empty() {
            self.unknown.retain(|_, &mut (other, _, _)| other != table);
        }
    }

    /// Whether the look before this one showed the same.
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

/// Audits until what is followed again is as exact as the others: the first shows all of it, and
/// the others what changed while that was taken.
const AUDITS_TO_FOLLOW: u32 = 3;

impl Model {
    /// Nothing is told of the process's descriptors from here on, but by audits, and by what it does
    /// to processes.
    pub fn stop_following(&mut self, tgid: u32) {
        self.not_followed.insert(tgid, None);
    }

    /// The process's descriptors are told of again.
    pub fn follow_again(&mut self, tgid: u32) {
        if let Some(audits_to_come) = self.not_followed.get_mut(&tgid) {
            *audits_to_come = Some(AUDITS_TO_FOLLOW);
        }
    }

    /// Processes whose descriptors may be otherwise than the model has them, as they are not or were
    /// not followed.
    #[must_use]
    pub fn not_followed(&self) -> usize {
        self.not_followed.len()
    }

    /// An audit begins: the snapshot's records come among those of the events.
    pub fn begin_audit(&mut self) {
        let audit = &mut self.audit;
        audit.is_under_way = true;
        audit.began = self.now;
        audit.look += 1;
        audit.visited_tables.clear();
        audit.visited_processes.clear();
        audit.cursor = None;
    }

    /// The audit was broken off: nothing is held against it that it did not come to.
    pub fn break_off_audit(&mut self) {
        self.audit.is_under_way = false;
        self.audit.cursor = None;
    }

    /// The audit has ended.
    pub fn end_audit(&mut self, observer: &mut impl Observer) -> Outcome {
        self.finish_table(observer);
        self.statistics.drift.audits += 1;
        let audit = &mut self.audit;
        audit.is_under_way = false;
        let look = audit.look;
        audit.differences.retain(|_, &mut (_, at)| at == look);
        audit.unknown.retain(|_, &mut (_, _, at)| at == look);
        // After records were lost, all of a large table may differ once.
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

    /// The process has been come to, but not with this table: it is the table of a thread whose end
    /// was not told, or was lost.
    fn leave(&mut self, address: u64, holder: Holder, observer: &mut impl Observer) {
        let Some(process) = self.processes.get_mut(&holder.tgid) else {
            return;
        };
        if holder.tid == holder.tgid {
            process.table = 0;
        } else {
            process.threads.retain(|&of| of != (holder.tid, address));
        }
        // That the last of several threads has ended is never told.
        if holder.tid != Process::OTHER_THREADS
            && let Some(table) = self.tables.get(&address)
            && table.holders() == [holder]
        {
            self.statistics.drift.phantom += table.len() as u64;
        }
        self.release(address, holder, observer);
    }

    /// The process is known to have ended, or to have no descriptors.
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
        // Another table may have been at this address, and the thread had another.
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
            // The address of a description that was closed serves again soon.
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

    /// What the table that the look is leaving has beyond what was shown.
    fn finish_table(&mut self, observer: &mut impl Observer) {
        if let Some(cursor) = self.audit.cursor.take() {
            self.find_phantoms(cursor, u32::MAX, observer);
        }
    }

    /// What the table has from the cursor on below `end`, of which nothing was shown.
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
