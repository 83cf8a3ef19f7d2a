//! The model: every process's descriptor table, from a snapshot and the events since.
//!
//! Pure: it has no clock, does no I/O, and knows nothing of BPF but the format of the records. Nor
//! does it know what a duplicate is: who wants to know what changes is an [`Observer`].

mod audit;
mod bits;
mod chunks;
mod fd_entry;
mod holding;
mod index;
mod invalid_closes;
mod lineage;
mod process;
mod racing_fds;
mod snapshot;
mod table;
mod window;

use std::collections::VecDeque;

use fdwatch_common::{
    Event, Exec, Exit, FdClose, FdOpen, Fork, Header, INLINE_WORDS, Kind, LOST_KINDS,
    MAX_BITMAP_CHUNKS, SetCloexec, WORDS_PER_CHUNK,
};
use rustc_hash::{FxHashMap, FxHashSet};

use self::{
    audit::Audit,
    invalid_closes::InvalidCloses,
    racing_fds::{RacingFds, is_recent},
    window::Window,
};
pub use self::{
    audit::{Drift, Outcome},
    fd_entry::{Access, AnonymousDevices, FdEntry, FileType, Identity, Moment},
    invalid_closes::InvalidClose,
    lineage::{Lineage, LineageEvent, LineageStep},
    process::{Process, Program},
    table::{Holder, Provenance, Table, TableId},
};

/// Is told what changes, right after it did.
pub trait Observer {
    /// `fd` was made; where it was open before, `replaced` is what it was.
    fn born(&mut self, table: &mut Table, fd: u32, slot: &FdEntry, replaced: Option<&FdEntry>);
    /// `fd`, which was `slot`, was ended at `at`.
    fn died(&mut self, table: &mut Table, fd: u32, slot: &FdEntry, at: Moment);
    /// `table` was made as a copy of another, by fork or for want to share it no longer.
    fn forked(&mut self, table: &Table, at: Moment);
    /// The process of `table` runs another program; what closes on exec was told to have died.
    fn execed(&mut self, table: &Table, at: Moment);
    /// No one holds `table` any more.
    fn gone(&mut self, table: &Table, at: Moment);
    /// The file of `fd` was found to have no name any more.
    fn unlinked(&mut self, _table: &Table, _fd: u32, _slot: &FdEntry) {}
}

/// Is told, and does not care.
impl Observer for () {
    fn born(&mut self, _: &mut Table, _: u32, _: &FdEntry, _: Option<&FdEntry>) {}
    fn died(&mut self, _: &mut Table, _: u32, _: &FdEntry, _: Moment) {}
    fn forked(&mut self, _: &Table, _: Moment) {}
    fn execed(&mut self, _: &Table, _: Moment) {}
    fn gone(&mut self, _: &Table, _: Moment) {}
}

/// What the model has seen, and what of it did not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Records, by the number of their kind.
    pub records: [u64; LOST_KINDS],
    /// Closes of descriptors that the model did not have.
    pub unknown_closed: u64,
    /// Tables that were first heard of by what happened in them.
    pub unknown_tables: u64,
    /// What audits have repaired.
    pub drift: Drift,
    /// Numbers that threads were at odds about, so that the kernel was asked.
    pub contested: u64,
    /// Those of them that were otherwise than the order of the records said.
    pub contested_otherwise: u64,
    /// Closes of numbers that were not open, but for those of loops.
    pub closed_unopened: u64,
    /// What audits have brought up to date of processes that were not followed.
    pub caught_up: u64,
}

impl Statistics {
    /// Records about what happened, and not of snapshots, nor of detail.
    #[must_use]
    pub fn events(&self) -> u64 {
        let others = [Kind::SnapshotTask, Kind::SnapshotFile];
        let others = others.iter().chain(&Kind::DETAIL);
        let others = others.map(|&kind| self.records[kind as usize]);
        self.records.iter().sum::<u64>() - others.sum::<u64>()
    }
}

/// Numbers below this are told of exec: inline, and in chunks.
const TOLD_OF_EXEC: u32 =
    INLINE_WORDS as u32 * 64 + MAX_BITMAP_CHUNKS * WORDS_PER_CHUNK as u32 * 64;

/// Processes that have ended are remembered, the last of them, for what is told of them later.
const MAX_ENDED: usize = 1024;

/// Every process's descriptor table.
#[derive(Debug, Default)]
pub struct Model {
    tables: FxHashMap<u64, Table>,
    processes: FxHashMap<u32, Process>,
    /// The last to end is the last.
    ended: VecDeque<Process>,
    contested: RacingFds,
    window: Option<Window>,
    audit: Audit,
    invalid_closes: InvalidCloses,
    /// Processes that are not followed; or are again, and so many audits have yet to come.
    not_followed: FxHashMap<u32, Option<u32>>,
    /// Tables that the last snapshot may have missed parts of; all, before the first.
    incomplete: Option<FxHashSet<u64>>,
    now: Moment,
    next_table: u64,
    anonymous: AnonymousDevices,
    statistics: Statistics,
}

impl Model {
    /// An empty model. Files of the devices in `anonymous` are one only if their description is.
    #[must_use]
    pub fn new(anonymous: AnonymousDevices) -> Self {
        Self {
            anonymous,
            ..Self::default()
        }
    }

    /// All tables, in no order.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// The table at the kernel's `address`.
    #[must_use]
    pub fn table(&self, address: u64) -> Option<&Table> {
        self.tables.get(&address)
    }

    /// The table that the process's threads share.
    #[must_use]
    pub fn table_of(&self, tgid: u32) -> Option<&Table> {
        self.table(self.processes.get(&tgid)?.table)
    }

    /// The process `tgid`.
    #[must_use]
    pub fn process(&self, tgid: u32) -> Option<&Process> {
        self.processes.get(&tgid)
    }

    /// Whether the process `tgid` is the one that was started then.
    #[must_use]
    pub fn is_there(&self, tgid: u32, start_time: u64) -> bool {
        let process = self.process(tgid);
        process.is_some_and(|process| process.start_time == start_time)
    }

    /// The process `tgid`, or the last one of that number if it ended not long ago.
    #[must_use]
    pub fn process_or_ended(&self, tgid: u32) -> Option<&Process> {
        let ended = || self.ended.iter().rev().find(|process| process.tgid == tgid);
        self.process(tgid).or_else(ended)
    }

    /// All processes, in no order.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// What was seen so far.
    #[must_use]
    pub const fn statistics(&self) -> Statistics {
        Statistics {
            contested: self.contested.count,
            ..self.statistics
        }
    }

    /// Gives back what is only kept to be fast, of tables at which nothing happened since this was
    /// last called.
    pub fn rest(&mut self) {
        for table in self.tables.values_mut() {
            table.rest();
        }
    }

    /// The moment of the last record.
    #[must_use]
    pub const fn now(&self) -> Moment {
        self.now
    }

    /// Does what a record says. `at` is when it was read: no earlier than the last one's.
    pub fn apply(&mut self, event: &Event<'_>, at: Moment, observer: &mut impl Observer) {
        self.now = at.max(self.now.after(1));
        self.statistics.records[event.header().kind as usize % LOST_KINDS] += 1;
        match event {
            Event::FdOpen(birth) => self.birth(birth, observer),
            Event::FdClose(death) => self.death(death, observer),
            Event::SetCloexec(set) => self.set_cloexec(set, observer),
            Event::Fork(fork) => self.fork(fork, observer),
            Event::Exec(exec) => self.exec(exec, observer),
            Event::Exit(exit) => self.exit(exit, observer),
            Event::TableBits(bits) => self.table_bits(bits, observer),
            Event::SnapshotTask(task) if self.audit.is_under_way => {
                self.audit_task(task, observer);
            }
            Event::SnapshotFile(file) if self.audit.is_under_way => {
                self.audit_file(file, observer);
            }
            // Of where a thread is, and not of what it does.
            Event::Stack(_) | Event::AskedPath(_) | Event::Registers(_) | Event::StackPiece(_) => {}
            Event::SnapshotTask(task) => self.snapshot_task(task, observer),
            Event::SnapshotFile(file) => self.snapshot_file(file, observer),
        }
    }

    fn birth(&mut self, birth: &FdOpen, observer: &mut impl Observer) {
        let FdOpen {
            header,
            table: address,
            payload,
        } = birth;
        self.audit.touch(*address, header.fd);
        let (now, anonymous) = (self.now, self.anonymous);
        let number = (*address, header.fd);
        let close = self.contested.take_close(number, now);
        let by_other = close.filter(|close| close.tid != header.tid);
        if by_other.is_some_and(|close| close.file == payload.file) {
            // Another thread has closed it before the one that made it came to say so. Or it closed
            // an earlier one on the same description.
            self.contested.add(number, now);
            return;
        }
        self.contested.make(number, header.tid, now);
        let table = self.table_for(header, *address, observer);
        let slot = FdEntry::new(header, payload, now, false, anonymous);
        let mut is_contested = by_other.is_some();
        if close.is_some() || replaces(header.call) {
            let closer = table.closer(header.fd);
            is_contested |= closer.is_some_and(|(tid, at)| tid != header.tid && is_recent(at, now));
        }
        if let Some(known) = table.get(header.fd)
            && known.is_on_the_same(&slot)
        {
            // dup2 onto itself, or a call that returns what there was.
            table.set_closes_on_exec(header.fd, slot.closes_on_exec());
        } else {
            let replaced = table.insert(header.fd, slot);
            observer.born(table, header.fd, &slot, replaced.as_ref());
        }
        if is_contested {
            self.contested.add(number, now);
        }
    }

    fn death(&mut self, death: &FdClose, observer: &mut impl Observer) {
        let &FdClose {
            ref header,
            table: address,
            file,
        } = death;
        self.audit.touch(address, header.fd);
        let now = self.now;
        let table = self.table_for(header, address, observer);
        let removed = table.remove(header.fd);
        if death.has(FdClose::SHARED_TABLE) && removed.is_some() {
            table.set_closer(header.fd, header.tid, now);
        }
        if let Some(slot) = &removed {
            observer.died(table, header.fd, slot, now);
        }
        if let Some(window) = &mut self.window {
            window.close(address, header.fd);
        }
        if removed.is_some_and(|slot| slot.file == file) {
            return;
        }
        if removed.is_none() && file != 0 {
            self.statistics.unknown_closed += 1;
        }
        if file == 0 && removed.is_none() {
            let stray = InvalidClose {
                tgid: header.tgid,
                tid: header.tid,
                table: address,
                fd: header.fd,
                at: now,
            };
            self.invalid_closes
                .add(stray, death.has(FdClose::CONSECUTIVE));
            if !death.has(FdClose::SHARED_TABLE) {
                // There is no one to be at odds with.
                return;
            }
        }
        if self.window.is_none() {
            self.contested
                .close((address, header.fd), file, header.tid, now);
        }
    }

    fn set_cloexec(&mut self, set: &SetCloexec, observer: &mut impl Observer) {
        let closes = set.has(SetCloexec::CLOEXEC);
        self.audit.touch(set.table, set.header.fd);
        if set.has(SetCloexec::SHARED_TABLE) {
            let number = (set.table, set.header.fd);
            self.contested.set_flag(number, set.header.tid, self.now);
        }
        self.table_for(&set.header, set.table, observer)
            .set_closes_on_exec(set.header.fd, closes);
        if let Some(window) = &mut self.window {
            window.set_closes_on_exec(set.table, set.header.fd, closes);
        }
    }

    fn fork(&mut self, fork: &Fork, observer: &mut impl Observer) {
        let &Fork {
            header: Header { tid, tgid, .. },
            table: address,
            parent_table,
            ..
        } = fork;
        let now = self.now;
        self.audit.touch_table(address);
        if let Some(window) = &mut self.window {
            window.make(tid);
            if address != parent_table {
                window.forget(address);
            }
            window.derive(parent_table, address);
        }
        if fork.has(Fork::THREAD) || self.processes.contains_key(&fork.parent_tgid) {
            // It may have ceased to share its table before, and done nothing in its own since.
            let parent = Header {
                tid: fork.parent_tid,
                tgid: fork.parent_tgid,
                ..fork.header
            };
            self.table_for(&parent, parent_table, observer);
        }
        let holder = Holder { tgid, tid };
        if !fork.has(Fork::THREAD) {
            // One of this number that is still there has ended without being seen to.
            self.remove_process(tgid, observer);
            let comm = self.processes.get(&fork.parent_tgid);
            let comm = comm.map_or_else(Default::default, |parent| parent.comm);
            self.processes.insert(
                tgid,
                Process {
                    start_time: fork.start_time,
                    parent: fork.parent_tgid,
                    comm,
                    ..Process::new(tgid, address)
                },
            );
        } else if let Some(process) = self.processes.get_mut(&tgid) {
            process.threads.push((tid, address));
        }
        if address == parent_table {
            self.hold(address, holder);
            return;
        }
        let id = self.next_id();
        let table = match self.tables.get(&parent_table) {
            Some(parent) => {
                let mut table = parent.fork(id, address, holder, now);
                if let Some(parent) = self.processes.get(&fork.parent_tgid) {
                    table.lineage.add(LineageEvent::Fork, now, parent);
                }
                table
            }
            // The parent has no descriptors, as kernel threads have none.
            None => Table::new(id, address, holder),
        };
        observer.forked(&table, now);
        if let Some(unseen) = self.tables.insert(address, table) {
            observer.gone(&unseen, now);
        }
        self.contested.forget(address);
        self.contested.copy(parent_table, address, now);
        if fork.has(Fork::SHARED_TABLE) {
            self.contest_copy(parent_table, address, fork.parent_tid);
        }
    }

    /// The table `to` is a copy of `from` by the thread `tid`, and others may have changed that
    /// between the copying and its being told.
    fn contest_copy(&mut self, from: u64, to: u64, tid: u32) {
        let now = self.now;
        self.contested.copy_flags(from, to, tid, now);
        let Some(table) = self.tables.get(&to) else {
            return;
        };
        let all = self.contested.has_swept(from, tid, now);
        for (fd, slot) in table.iter() {
            if all || (![0, tid].contains(&slot.tid) && is_recent(slot.born, now)) {
                self.contested.add((to, fd), now);
            }
        }
    }

    fn exec(&mut self, exec: &Exec, observer: &mut impl Observer) {
        let &Exec {
            ref header,
            table: address,
            comm,
            ref open,
        } = exec;
        let (now, tgid) = (self.now, header.tgid);
        self.audit.touch_table(address);
        self.remove_ended(header, address, observer);
        self.table_for(header, address, observer);
        if let Some(window) = &mut self.window {
            window.exec(address, open.len() as u32 * 64);
            if header.tid != tgid {
                // It takes the leader's number, which the snapshot may have passed.
                window.derive(address, address);
            }
        }
        let holder = Holder { tgid, tid: tgid };
        self.hold(address, holder);
        if let Some(process) = self.processes.get_mut(&tgid) {
            if let Some(table) = self.tables.get_mut(&address) {
                table.lineage.add(LineageEvent::Exec, now, process);
            }
            process.comm = comm;
            // All other threads have ended, and what tables they had.
            let before = process.table;
            process.table = address;
            let threads = std::mem::take(&mut process.threads);
            for (tid, table) in threads {
                self.release(table, Holder { tgid, tid }, observer);
            }
            if before != address {
                self.release(before, holder, observer);
            }
        }
        self.contest_unseen(address, 0, open);
        self.keep_only(address, 0, open, observer);
        if let Some(table) = self.tables.get_mut(&address) {
            let flagged = table.iter().filter(|(_, slot)| slot.closes_on_exec());
            for fd in flagged.map(|(fd, _)| fd).collect::<Vec<_>>() {
                // It is open still, and so had no flag; or it is beyond what is told of exec.
                if fd < TOLD_OF_EXEC {
                    table.set_closes_on_exec(fd, false);
                } else if let Some(slot) = table.remove(fd) {
                    observer.died(table, fd, &slot, now);
                }
            }
            table.execed = now;
            observer.execed(table, now);
        }
    }

    fn exit(&mut self, exit: &Exit, observer: &mut impl Observer) {
        let Header { tid, tgid, .. } = exit.header;
        let every = exit.has(Exit::LAST_THREAD);
        if let Some(window) = &mut self.window {
            window.exit(if every { tgid } else { tid });
        }
        if every {
            self.remove_process(tgid, observer);
            return;
        }
        let Some(process) = self.processes.get_mut(&tgid) else {
            return;
        };
        let is_only_holder = exit.has(Exit::LAST_HOLDER);
        let thread_at = |of| process.threads.iter().position(|&(own, _)| own == of);
        let held = if tid == tgid {
            is_only_holder.then(|| (tid, std::mem::take(&mut process.table)))
        } else if let Some(i) = thread_at(tid) {
            Some(process.threads.swap_remove(i))
        } else if is_only_holder && let Some(i) = thread_at(Process::OTHER_THREADS) {
            // The last of these.
            Some(process.threads.swap_remove(i))
        } else {
            None
        };
        if let Some((tid, table)) = held {
            self.release(table, Holder { tgid, tid }, observer);
        }
    }

    fn remove_process(&mut self, tgid: u32, observer: &mut impl Observer) {
        let Some(process) = self.processes.remove(&tgid) else {
            return;
        };
        self.not_followed.remove(&tgid);
        self.release(process.table, Holder { tgid, tid: tgid }, observer);
        for &(tid, table) in &process.threads {
            self.release(table, Holder { tgid, tid }, observer);
        }
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(process);
    }

    /// Whether the model has descriptors of the process.
    #[must_use]
    pub fn has_descriptors(&self, tgid: u32) -> bool {
        self.processes.get(&tgid).is_some_and(|process| {
            let threads = process.threads.iter().map(|&(_, table)| table);
            let mut tables = threads.chain([process.table]);
            tables.any(|table| self.table(table).is_some_and(|table| !table.is_empty()))
        })
    }

    /// Closes of numbers that were not open, since they were last asked for: but for those of loops,
    /// which takes a while to be known.
    pub fn take_invalid_closes(&mut self, now: Moment) -> Vec<InvalidClose> {
        let invalid_closes = self.invalid_closes.take(now);
        for stray in &invalid_closes {
            self.statistics.closed_unopened += 1;
            if let Some(process) = self.processes.get_mut(&stray.tgid) {
                process.closed_unopened = process.closed_unopened.saturating_add(1);
            }
        }
        invalid_closes
    }

    /// Whether threads were at odds about numbers, so that the kernel is to be asked: by an audit,
    /// soon.
    #[must_use]
    pub fn is_contested(&self) -> bool {
        self.contested.is_any()
    }

    /// Whether what the model has for a number of the table at `address` may be otherwise.
    #[must_use]
    pub fn is_in_doubt(&self, address: u64, fd: u32) -> bool {
        self.contested.is_in_doubt((address, fd))
    }

    /// The table that a thread of a process uses.
    #[must_use]
    pub fn table_of_thread(&self, tgid: u32, tid: u32) -> Option<&Table> {
        self.table(self.processes.get(&tgid)?.table_of(tid))
    }

    const fn next_id(&mut self) -> TableId {
        self.next_table += 1;
        TableId(self.next_table)
    }
}

/// Whether the syscall may put a descriptor in the place of another.
fn replaces(call: u16) -> bool {
    #[cfg(target_arch = "x86_64")]
    if i64::from(call) == libc::SYS_dup2 {
        return true;
    }
    i64::from(call) == libc::SYS_dup3
}

#[cfg(test)]
mod tests;
