//! Applies the records of a snapshot, which arrive among those of events.

use fdwatch_common::{Header, SnapshotFile, SnapshotTask};

use super::{
    fd_entry::FdEntry, observer::Observer, process::Process, state::Model, table::Holder,
    window::Window,
};

impl Model {
    /// Begins a snapshot: its records arrive among those of the events. The events must be
    /// attached.
    pub fn begin_snapshot(&mut self) {
        self.window = Some(Window::new(self.incomplete.take()));
    }

    /// Ends the snapshot and returns whether another one is needed: tables were copied, during this
    /// one, from tables that were not complete then.
    pub fn end_snapshot(&mut self) -> bool {
        let copied = self
            .window
            .take()
            .map_or_else(Default::default, |window| window.copied);
        let incomplete = self.incomplete.insert(copied);
        incomplete.retain(|table| self.tables.contains_key(table));
        !incomplete.is_empty()
    }

    pub(super) fn snapshot_task(&mut self, task: &SnapshotTask, observer: &mut impl Observer) {
        let &SnapshotTask {
            header: Header { tid, tgid, .. },
            table: address,
            start_time,
            ..
        } = task;
        let window = self.window.get_or_insert_default();
        let known = self
            .processes
            .get(&tgid)
            .map_or(0, |known| known.start_time);
        // It may have been read before it ended, and its number may have been reused already.
        window.at_live_task = address != 0 && !window.has_exited(tid, tgid) && known <= start_time;
        if !window.at_live_task {
            return;
        }
        self.remove_earlier(tgid, start_time, observer);
        if !self.tables.contains_key(&address) && self.processes.contains_key(&tgid) {
            if self.knows_table_of(tid, tgid) {
                self.adopt(&task.header, address, observer);
            } else if let Some(window) = &mut self.window {
                window.forget(address);
            }
        }
        self.record_task(task, observer);
    }

    /// Removes a process of this number with another start time: it has ended unnoticed.
    fn remove_earlier(&mut self, tgid: u32, start_time: u64, observer: &mut impl Observer) {
        let known = self.processes.get(&tgid);
        if known.is_some_and(|known| ![0, start_time].contains(&known.start_time)) {
            self.remove_process(tgid, observer);
        }
    }

    /// Records that the task exists and uses this table.
    pub(super) fn record_task(&mut self, task: &SnapshotTask, observer: &mut impl Observer) {
        let &SnapshotTask {
            header: Header { tid, tgid, .. },
            table: address,
            start_time,
            comm,
            parent,
            ..
        } = task;
        self.remove_earlier(tgid, start_time, observer);
        let process = self.processes.entry(tgid);
        let leaders = if tid == tgid { address } else { 0 };
        let process = process.or_insert_with(|| Process::new(tgid, leaders));
        process.start_time = start_time;
        process.parent = parent;
        let before = process.table_of(tid);
        let mut sharing = Vec::new();
        if tid == tgid {
            process.comm = comm;
            process.table = address;
            // These were seen before it was known whose table they use.
            sharing.extend(process.threads.extract_if(.., |(_, own)| *own == address));
        } else {
            process.threads.retain(|(own, _)| *own != tid);
            process.threads.push((tid, address));
        }
        let holder = Holder { tgid, tid };
        self.hold_table(address, holder);
        for (tid, table) in sharing {
            self.release(table, Holder { tgid, tid }, observer);
        }
        if before != address {
            self.release(before, holder, observer);
        }
    }

    pub(super) fn snapshot_file(&mut self, file: &SnapshotFile, observer: &mut impl Observer) {
        let &SnapshotFile {
            ref header,
            table: address,
            ref payload,
        } = file;
        let (now, anonymous) = (self.now, self.anonymous);
        let window = self.window.get_or_insert_default();
        if !window.at_live_task || address == 0 || window.has_exited(header.tid, header.tgid) {
            return;
        }
        // The task may have stopped sharing its table since it was read.
        self.table_for(header, address, observer);
        let window = self.window.get_or_insert_default();
        if window.was_closed(address, header.fd) {
            return;
        }
        let closes = window.closes_on_exec(address, header.fd);
        let table = self.table_for(header, address, observer);
        if table.get(header.fd).is_none() {
            let mut entry = FdEntry::new(header, payload, now, true, anonymous);
            entry.set_closes_on_exec(closes.unwrap_or(entry.closes_on_exec()));
            table.insert(header.fd, entry);
        }
    }
}
