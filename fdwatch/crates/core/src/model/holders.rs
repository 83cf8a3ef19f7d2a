//! Which thread uses which table, derived from the tables that its events name.

use fdwatch_common::{Header, TableBits};

use super::{
    observer::Observer,
    process::Process,
    state::Model,
    table::{Holder, Table, TableId},
    window::Window,
};

impl Model {
    /// Returns the table at `address`, which the thread of `header` used. An unknown table is the
    /// thread's own copy of a shared one (`unshare`, exec), or belongs to a new process.
    pub(super) fn table_for(
        &mut self,
        header: &Header,
        address: u64,
        observer: &mut impl Observer,
    ) -> &mut Table {
        if !self.tables.contains_key(&address) {
            self.adopt(header, address, observer);
        } else if self.window.is_some() && !self.processes.contains_key(&header.tgid) {
            // It shares the table of a process that the snapshot has already covered.
            let &Header { tid, tgid, .. } = header;
            let mut process = Process::new(tgid, if tid == tgid { address } else { 0 });
            if tid != tgid {
                process.threads.push((tid, address));
            }
            self.processes.insert(tgid, process);
            self.hold_table(address, Holder { tgid, tid });
        }
        #[expect(clippy::expect_used, reason = "adopt inserts it if it is missing")]
        self.tables.get_mut(&address).expect("table exists")
    }

    pub(super) fn adopt(&mut self, header: &Header, address: u64, observer: &mut impl Observer) {
        self.statistics.unknown_tables += 1;
        let id = self.next_id();
        let &Header { tid, tgid, .. } = header;
        let is_copy = self.knows_table_of(tid, tgid);
        // The snapshot determines whether the leader uses the thread's table as well.
        let is_leaders = tid == tgid || self.window.is_none();
        let process = self.processes.entry(tgid);
        let process =
            process.or_insert_with(|| Process::new(tgid, if is_leaders { address } else { 0 }));
        let before = process.table_of(tid);
        if let Some(window) = &mut self.window {
            window.created(tid);
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
        self.racing.forget(address);
        if is_copy {
            self.racing.copy(before, address, self.now);
            self.mark_copy(before, address, tid);
        }
        if before == address {
            return;
        }
        if tid == tgid && header.flags & TableBits::MULTITHREADED.bits() != 0 {
            // The other threads keep the table that all had shared.
            let others = Holder {
                tgid,
                tid: Process::OTHER_THREADS,
            };
            if let Some(process) = self.processes.get_mut(&tgid) {
                process.threads.push((others.tid, before));
            }
            self.hold_table(before, others);
        }
        self.release(before, holder, observer);
    }

    /// Removes the table at `address` if the thread had another one before: then it has ended
    /// without an event. That happens when the last two threads of a table end at the same time,
    /// and to the table of the other threads when one of them runs another program.
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
        observer.table_dropped(&table, self.now);
    }

    pub(super) fn hold_table(&mut self, address: u64, holder: Holder) {
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
            observer.table_dropped(table, self.now);
            self.tables.remove(&address);
        }
    }

    /// Returns whether the thread's table is known. A thread that the first snapshot has not
    /// covered yet may have had another one since before.
    pub(super) fn knows_table_of(&self, tid: u32, tgid: u32) -> bool {
        let process = self.processes.get(&tgid);
        !self.window.as_ref().is_some_and(Window::is_first)
            || process.is_some_and(|process| {
                (tid == tgid && process.table != 0)
                    || process.threads.iter().any(|(own, _)| *own == tid)
            })
    }
}
