//! Which thread uses which table, from what it does in it.

use fdwatch_common::{Header, TableBits};

use super::{Holder, Model, Observer, Process, Table, TableId, window::Window};

impl Model {
    /// The table at `address`, in which the thread of `header` did something. One that was not
    /// heard of before is its own after it shared another (`unshare`, exec), or the process is new.
    pub(super) fn table_for(
        &mut self,
        header: &Header,
        address: u64,
        observer: &mut impl Observer,
    ) -> &mut Table {
        if !self.tables.contains_key(&address) {
            self.adopt(header, address, observer);
        } else if self.window.is_some() && !self.processes.contains_key(&header.tgid) {
            // It shares the table of one that the snapshot has come to before.
            let &Header { tid, tgid, .. } = header;
            let mut process = Process::new(tgid, if tid == tgid { address } else { 0 });
            if tid != tgid {
                process.threads.push((tid, address));
            }
            self.processes.insert(tgid, process);
            self.hold(address, Holder { tgid, tid });
        }
        #[expect(clippy::expect_used, reason = "adopt has put it there if it was not")]
        self.tables.get_mut(&address).expect("the table is there")
    }

    pub(super) fn adopt(&mut self, header: &Header, address: u64, observer: &mut impl Observer) {
        self.statistics.unknown_tables += 1;
        let id = self.next_id();
        let &Header { tid, tgid, .. } = header;
        let is_copy = self.knows_table_of(tid, tgid);
        // Whether a thread's table is its leader's as well, a snapshot will tell.
        let is_leaders = tid == tgid || self.window.is_none();
        let process = self.processes.entry(tgid);
        let process =
            process.or_insert_with(|| Process::new(tgid, if is_leaders { address } else { 0 }));
        let before = process.table_of(tid);
        if let Some(window) = &mut self.window {
            window.make(tid);
            if before != address {
                window.derive(before, address);
                if is_copy {
                    window.copy(before, address);
                } else {
                    window.forget(address);
                }
            }
        }
        let holder = if tid == tgid || before == address {
            process.table = address;
            Holder { tgid, tid: tgid }
        } else {
            process.threads.retain(|(own, _)| *own != tid);
            process.threads.push((tid, address));
            Holder { tgid, tid }
        };
        let copied = self.tables.get(&before).filter(|_| is_copy);
        let is_copy = copied.is_some();
        let table = match copied {
            Some(before) => {
                let table = before.unshare(id, address, holder);
                observer.forked(&table, self.now);
                table
            }
            None => Table::new(id, address, holder),
        };
        self.tables.insert(address, table);
        self.contested.forget(address);
        if is_copy {
            self.contested.copy(before, address, self.now);
            self.contest_copy(before, address, tid);
        }
        if before == address {
            return;
        }
        if tid == tgid && header.flags & TableBits::MULTITHREADED.bits() != 0 {
            // These stay with the table that was all threads'.
            let others = Holder {
                tgid,
                tid: Process::OTHER_THREADS,
            };
            if let Some(process) = self.processes.get_mut(&tgid) {
                process.threads.push((others.tid, before));
            }
            self.hold(before, others);
        }
        self.release(before, holder, observer);
    }

    /// Where the thread has come to another table than its own, that is a new one: what was at its
    /// address has ended without that being told, as a table does whose last two threads end at the
    /// same time, or that its process's other threads had when one of them runs another program.
    pub(super) fn remove_ended(
        &mut self,
        header: &Header,
        address: u64,
        observer: &mut impl Observer,
    ) {
        let &Header { tid, tgid, .. } = header;
        let process = self.processes.get(&tgid);
        if process.is_none_or(|process| [0, address].contains(&process.table_of(tid))) {
            return;
        }
        let Some(table) = self.tables.remove(&address) else {
            return;
        };
        for &Holder { tgid, tid } in table.holders() {
            let Some(process) = self.processes.get_mut(&tgid) else {
                continue;
            };
            if tid == tgid && process.table == address {
                process.table = 0;
            }
            process.threads.retain(|&of| of != (tid, address));
        }
        observer.gone(&table, self.now);
    }

    pub(super) fn hold(&mut self, address: u64, holder: Holder) {
        let id = TableId(self.next_table + 1);
        let table = self.tables.entry(address);
        let table = table.or_insert_with(|| {
            self.next_table += 1;
            Table::new(id, address, holder)
        });
        table.add_holder(holder);
    }

    pub(super) fn release(&mut self, address: u64, holder: Holder, observer: &mut impl Observer) {
        let Some(table) = self.tables.get_mut(&address) else {
            return;
        };
        if !table.remove_holder(holder) {
            observer.gone(table, self.now);
            self.tables.remove(&address);
        }
    }

    /// Whether the table that the model has for the thread was its own: before the first snapshot
    /// has come to it, it may have had another for long.
    pub(super) fn knows_table_of(&self, tid: u32, tgid: u32) -> bool {
        let process = self.processes.get(&tgid);
        !self.window.as_ref().is_some_and(Window::is_first)
            || process.is_some_and(|process| {
                (tid == tgid && process.table != 0)
                    || process.threads.iter().any(|(own, _)| *own == tid)
            })
    }
}
