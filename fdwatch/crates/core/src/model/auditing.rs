//! Applies the records of an audit.

use fdwatch_common::{Header, SnapshotFile, SnapshotTask};

use super::{
    audit::{Cursor, Difference, Outcome},
    fd_entry::FdEntry,
    observer::Observer,
    process::Process,
    state::Model,
    table::Holder,
};
use crate::shrink;

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
        audit.is_running = true;
        audit.began = self.now;
        audit.pass += 1;
        audit.visited_tables.clear();
        audit.visited_processes.clear();
        audit.cursor = None;
    }

    /// Abandons the audit. Descriptors that it did not visit do not count as missing.
    pub fn abandon_audit(&mut self) {
        self.audit.is_running = false;
        self.audit.cursor = None;
    }

    /// Ends the audit, and repairs what two passes have confirmed.
    pub fn end_audit(&mut self, observer: &mut impl Observer) -> Outcome {
        self.finish_table(observer);
        self.statistics.drift.audits += 1;
        let audit = &mut self.audit;
        audit.is_running = false;
        let pass = audit.pass;
        audit.differences.retain(|_, &mut (_, at)| at == pass);
        audit.unknown.retain(|_, &mut (_, _, at)| at == pass);
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
        self.racing
            .audited(audit.began, |number| differences.contains_key(&number));
        let mut outcome = Outcome {
            is_open: !audit.differences.is_empty() || !audit.unknown.is_empty(),
            ..Outcome::default()
        };
        for &tgid in self.processes.keys() {
            if !audit.visited_processes.contains(&tgid)
                && audit.unvisited_processes.insert(tgid, pass).is_some()
            {
                outcome.unvisited.push(tgid);
            }
        }
        audit.unvisited_processes.retain(|_, &mut at| at == pass);
        let mut left = Vec::new();
        for table in self.tables.values() {
            if !table.is_empty()
                && !audit.visited_tables.contains(&table.address())
                && audit.unvisited_tables.insert(table.id(), pass).is_some()
            {
                let holders = table.holders().iter();
                let seen = holders.filter(|holder| audit.visited_processes.contains(&holder.tgid));
                left.extend(seen.map(|&holder| (table.address(), holder)));
            }
        }
        audit.unvisited_tables.retain(|_, &mut at| at == pass);
        for (address, holder) in left {
            self.release_unvisited(address, holder, observer);
        }
        outcome
    }

    /// Releases a table that a visited process no longer uses: the end of the thread that had it
    /// was not reported, or the record was lost.
    fn release_unvisited(&mut self, address: u64, holder: Holder, observer: &mut impl Observer) {
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
            self.racing.forget(address);
            let pass = self.audit.pass;
            let seen = (address, start_time, pass);
            let before = self.audit.unknown.insert((tgid, tid), seen);
            is_confirmed |= before.is_some_and(|(table, started, at)| {
                (table, started) == (address, start_time) && at < pass
            });
            if !is_confirmed {
                return;
            }
            self.audit.unknown.remove(&(tgid, tid));
            self.record_task(task, observer);
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
        let entry = FdEntry::new(header, payload, self.now, true, self.anonymous);
        let difference = match table.get(fd) {
            None => Difference::Missing(entry.file),
            // The kernel soon reuses the address of a closed description.
            Some(known) if !known.has_same_description(&entry) => {
                Difference::WrongFile(entry.file, entry.ino)
            }
            Some(known) if known.closes_on_exec() != entry.closes_on_exec() => {
                Difference::CloseOnExec(entry.closes_on_exec())
            }
            Some(known) => {
                let is_newly_unlinked = entry.was_unlinked() && !known.was_unlinked();
                self.audit.touch(address, fd);
                if is_newly_unlinked {
                    table.set_unlinked(fd);
                    observer.unlinked(table, fd, &entry);
                }
                return;
            }
        };
        if !cursor.is_confirmed && !self.audit.confirms(address, fd, difference) {
            return;
        }
        if self.racing.settle((address, fd)) {
            self.statistics.racing_corrected += 1;
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
        let replaced = table.insert(fd, entry);
        observer.opened(table, fd, &entry, replaced.as_ref());
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
        let between: Vec<_> = between.map(|(fd, entry)| (fd, entry.file)).collect();
        for (fd, file) in between {
            if !cursor.is_confirmed && !self.audit.confirms(address, fd, Difference::Phantom(file))
            {
                continue;
            }
            if let Some(entry) = table.remove(fd) {
                if self.racing.settle((address, fd)) {
                    self.statistics.racing_corrected += 1;
                } else if cursor.is_expected {
                    self.statistics.caught_up += 1;
                } else {
                    self.statistics.drift.phantom += 1;
                }
                observer.closed(table, fd, &entry, self.now);
            }
        }
    }
}
