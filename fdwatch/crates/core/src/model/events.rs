//! Applies the records of events.

use fdwatch_common::{
    Event, Exec, Exit, FdClose, FdOpen, Fork, Header, INLINE_WORDS, LOST_KINDS, MAX_BITMAP_CHUNKS,
    SetCloexec, WORDS_PER_CHUNK,
};

use super::{
    fd_entry::FdEntry,
    invalid_closes::InvalidClose,
    lineage::LineageEvent,
    moment::Moment,
    observer::Observer,
    process::Process,
    racing_fds::is_recent,
    state::Model,
    table::{Holder, Table},
};

/// Exec events carry the open descriptors below this number: inline, and in chunks.
pub(super) const EXEC_BITMAP_FDS: u32 =
    INLINE_WORDS as u32 * 64 + MAX_BITMAP_CHUNKS * WORDS_PER_CHUNK as u32 * 64;

impl Model {
    /// Applies a record that was read at `at`. Moments must not go backwards; equal ones are moved
    /// forward by a nanosecond.
    pub fn apply(&mut self, event: &Event<'_>, at: Moment, observer: &mut impl Observer) {
        self.now = at.max(self.now.after(1));
        self.statistics.records[event.header().kind as usize % LOST_KINDS] += 1;
        match event {
            Event::FdOpen(open) => self.fd_open(open, observer),
            Event::FdClose(close) => self.fd_close(close, observer),
            Event::SetCloexec(set) => self.set_cloexec(set, observer),
            Event::Fork(fork) => self.fork(fork, observer),
            Event::Exec(exec) => self.exec(exec, observer),
            Event::Exit(exit) => self.exit(exit, observer),
            Event::TableBits(bits) => self.table_bits(bits, observer),
            Event::SnapshotTask(task) if self.audit.is_running => {
                self.audit_task(task, observer);
            }
            Event::SnapshotFile(file) if self.audit.is_running => {
                self.audit_file(file, observer);
            }
            // These describe where a thread is and change no table.
            Event::Stack(_)
            | Event::RequestedPath(_)
            | Event::Registers(_)
            | Event::StackPiece(_) => {}
            Event::SnapshotTask(task) => self.snapshot_task(task, observer),
            Event::SnapshotFile(file) => self.snapshot_file(file, observer),
        }
    }

    fn fd_open(&mut self, open: &FdOpen, observer: &mut impl Observer) {
        let FdOpen {
            header,
            table: address,
            payload,
        } = open;
        self.audit.touch(*address, header.fd);
        let (now, anonymous) = (self.now, self.anonymous);
        let number = (*address, header.fd);
        let close = self.racing.take_close(number, now);
        let by_other = close.filter(|close| close.tid != header.tid);
        if by_other.is_some_and(|close| close.file == payload.file) {
            // Another thread closed it before the thread that opened it reported that. Or it closed
            // an earlier descriptor on the same description.
            self.racing.mark(number, now);
            return;
        }
        self.racing.opened(number, header.tid, now);
        let table = self.table_for(header, *address, observer);
        let entry = FdEntry::new(header, payload, now, false, anonymous);
        let mut races = by_other.is_some();
        if close.is_some() || replaces(header.call) {
            let closer = table.closer(header.fd);
            races |= closer.is_some_and(|(tid, at)| tid != header.tid && is_recent(at, now));
        }
        if let Some(known) = table.get(header.fd)
            && known.has_same_description(&entry)
        {
            // dup2 onto itself, or a call that returns an existing descriptor.
            table.set_closes_on_exec(header.fd, entry.closes_on_exec());
        } else {
            let replaced = table.insert(header.fd, entry);
            observer.opened(table, header.fd, &entry, replaced.as_ref());
        }
        if races {
            self.racing.mark(number, now);
        }
    }

    fn fd_close(&mut self, close: &FdClose, observer: &mut impl Observer) {
        let &FdClose {
            ref header,
            table: address,
            file,
        } = close;
        self.audit.touch(address, header.fd);
        let now = self.now;
        let table = self.table_for(header, address, observer);
        let removed = table.remove(header.fd);
        if close.has(FdClose::SHARED_TABLE) && removed.is_some() {
            table.set_closer(header.fd, header.tid, now);
        }
        if let Some(entry) = &removed {
            observer.closed(table, header.fd, entry, now);
        }
        if let Some(window) = &mut self.window {
            window.close(address, header.fd);
        }
        if removed.is_some_and(|entry| entry.file == file) {
            return;
        }
        if removed.is_none() && file != 0 {
            self.statistics.unknown_closed += 1;
        }
        if file == 0 && removed.is_none() {
            let invalid = InvalidClose {
                tgid: header.tgid,
                tid: header.tid,
                table: address,
                fd: header.fd,
                at: now,
            };
            self.invalid_closes
                .add(invalid, close.has(FdClose::CONSECUTIVE));
            if !close.has(FdClose::SHARED_TABLE) {
                // No other thread can race with this one.
                return;
            }
        }
        if self.window.is_none() {
            self.racing
                .close((address, header.fd), file, header.tid, now);
        }
    }

    fn set_cloexec(&mut self, set: &SetCloexec, observer: &mut impl Observer) {
        let closes = set.has(SetCloexec::CLOEXEC);
        self.audit.touch(set.table, set.header.fd);
        if set.has(SetCloexec::SHARED_TABLE) {
            let number = (set.table, set.header.fd);
            self.racing.set_flag(number, set.header.tid, self.now);
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
            window.created(tid);
            if address != parent_table {
                window.forget(address);
            }
            window.derive(parent_table, address);
        }
        if fork.has(Fork::THREAD) || self.processes.contains_key(&fork.parent_tgid) {
            // The parent may have stopped sharing its table earlier, without any event since.
            let parent = Header {
                tid: fork.parent_tid,
                tgid: fork.parent_tgid,
                ..fork.header
            };
            self.table_for(&parent, parent_table, observer);
        }
        let holder = Holder { tgid, tid };
        if !fork.has(Fork::THREAD) {
            // A process of this number that is still in the model has ended without an exit event.
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
            self.hold_table(address, holder);
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
            // The parent has no descriptors, as is the case for kernel threads.
            None => Table::new(id, address, holder),
        };
        observer.forked(&table, now);
        if let Some(unseen) = self.tables.insert(address, table) {
            observer.table_dropped(&unseen, now);
        }
        self.racing.forget(address);
        self.racing.copy(parent_table, address, now);
        if fork.has(Fork::SHARED_TABLE) {
            self.mark_copy(parent_table, address, fork.parent_tid);
        }
    }

    /// Marks what may differ in the table `to`, which the thread `tid` copied from `from`: other
    /// threads may have changed the original between the copy and its record.
    pub(super) fn mark_copy(&mut self, from: u64, to: u64, tid: u32) {
        let now = self.now;
        self.racing.copy_flags(from, to, tid, now);
        let Some(table) = self.tables.get(&to) else {
            return;
        };
        let all = self.racing.has_swept(from, tid, now);
        for (fd, entry) in table.iter() {
            if all || (![0, tid].contains(&entry.tid) && is_recent(entry.opened, now)) {
                self.racing.mark((to, fd), now);
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
                // The thread takes over the leader's number, which the snapshot may have passed
                // already.
                window.derive(address, address);
            }
        }
        let holder = Holder { tgid, tid: tgid };
        self.hold_table(address, holder);
        if let Some(process) = self.processes.get_mut(&tgid) {
            if let Some(table) = self.tables.get_mut(&address) {
                table.lineage.add(LineageEvent::Exec, now, process);
            }
            process.comm = comm;
            // All other threads have ended, along with their own tables.
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
        self.mark_unseen(address, 0, open);
        self.keep_only(address, 0, open, observer);
        if let Some(table) = self.tables.get_mut(&address) {
            let flagged = table.iter().filter(|(_, entry)| entry.closes_on_exec());
            for fd in flagged.map(|(fd, _)| fd).collect::<Vec<_>>() {
                // Still open, so its flag was clear; or its number is above the range of the event.
                if fd < EXEC_BITMAP_FDS {
                    table.set_closes_on_exec(fd, false);
                } else if let Some(entry) = table.remove(fd) {
                    observer.closed(table, fd, &entry, now);
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
            // The last of the threads without their own tables.
            Some(process.threads.swap_remove(i))
        } else {
            None
        };
        if let Some((tid, table)) = held {
            self.release(table, Holder { tgid, tid }, observer);
        }
    }
}

/// Returns whether the system call can replace an open descriptor.
fn replaces(call: u16) -> bool {
    #[cfg(target_arch = "x86_64")]
    if i64::from(call) == libc::SYS_dup2 {
        return true;
    }
    i64::from(call) == libc::SYS_dup3
}
