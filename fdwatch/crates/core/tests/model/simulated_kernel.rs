//! A simulated kernel: tasks and descriptor tables, and the records that the BPF programs write about them.
//!
//! It is the reference for the model, so it is as simple as possible. As in the kernel, addresses and
//! process ids are reused soon, and a table's bitmaps end at its capacity.

use std::collections::{BTreeMap, BTreeSet};

use fdwatch_common::{
    Exec, Exit, FdClose, FdOpen, Fork, Header, INLINE_WORDS, Kind, NO_CALL, SetCloexec, TableBits,
    WORDS_PER_CHUNK,
};

use super::{
    operation::Gap,
    tables::{File, Table, payload},
    task_iterator::TaskIterator,
};

/// The first process, which never exits.
pub(crate) const INIT: u32 = 1;

/// Exclusive upper limit of process ids: small, so that they are reused soon.
const PID_MAX: u32 = 24;

/// Maximum number of tasks.
const MAX_TASKS: usize = 10;

/// `files_struct` of the kernel's own threads, from which the first process is created.
const KERNEL_TABLE: u64 = 0xffff_8000_0000_0000;

/// `task_struct`. Tasks that have exited stay in the list, because the iterator may hold them.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// Thread id.
    pub(crate) tid: u32,
    /// Process id.
    pub(crate) tgid: u32,
    /// Address of its table, 0 after it was released.
    pub(crate) table: u64,
    /// Start time of the process.
    pub(crate) start_time: u64,
}

/// The simulated kernel.
pub(crate) struct Kernel {
    /// All tasks, including those that have exited.
    pub(crate) tasks: Vec<Task>,
    /// Tables in use, by address.
    pub(crate) tables: BTreeMap<u64, Table>,
    /// The snapshot in progress.
    pub(crate) iterator: Option<TaskIterator>,
    /// Records that were written and not read yet.
    pub(crate) ring: Vec<Vec<u8>>,
    /// Descriptors below this number are never closed.
    pub(crate) kept: u32,
    /// Next address that is never reused.
    kept_table: u64,
    last_pid: u32,
    last_ino: u64,
    clock: u64,
}

impl Kernel {
    /// Creates a kernel with one process that has no descriptors.
    pub(crate) fn new() -> Self {
        let mut kernel = Self {
            tasks: Vec::new(),
            tables: BTreeMap::new(),
            iterator: None,
            ring: Vec::new(),
            kept: 0,
            kept_table: 0,
            last_pid: 0,
            last_ino: 0,
            clock: 0,
        };
        let table = kernel.new_table(Table::new());
        kernel.new_task(INIT, INIT, table, 1);
        kernel.emit(
            Fork {
                header: header(Kind::Fork, INIT, INIT, 0, 0),
                table,
                parent_table: KERNEL_TABLE,
                start_time: 1,
                parent_tid: 2,
                parent_tgid: 2,
            }
            .as_bytes(),
        );
        kernel
    }

    /// Returns the indexes of the tasks that have not exited.
    pub(crate) fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.tasks.len()).filter(|&task| self.tasks[task].table != 0)
    }

    /// Returns the table of the process's leader.
    pub(crate) fn leaders_table(&self, tgid: u32) -> u64 {
        let leader = self.live().find(|&task| {
            let task = &self.tasks[task];
            task.tgid == tgid && task.tid == tgid
        });
        leader.map_or(0, |leader| self.tasks[leader].table)
    }

    /// Returns the other threads of a task's process.
    fn siblings(&self, task: usize) -> Vec<usize> {
        let tgid = self.tasks[task].tgid;
        let live = self.live();
        live.filter(|&other| other != task && self.tasks[other].tgid == tgid)
            .collect()
    }

    /// Returns how many tasks hold the table.
    fn count(&self, table: u64) -> usize {
        let live = self.live();
        live.filter(|&task| self.tasks[task].table == table).count()
    }

    fn table(&mut self, task: usize) -> &mut Table {
        let address = self.tasks[task].table;
        self.tables
            .get_mut(&address)
            .expect("no table of a live task")
    }

    /// Returns the `i`th open descriptor, modulo their number.
    pub(crate) fn descriptor(&self, task: usize, i: usize) -> Option<u32> {
        let open = &self.tables[&self.tasks[task].table].open;
        let i = i.checked_rem(open.len())?;
        open.keys().nth(i).copied()
    }

    /// Returns whether the model would lose threads if the task left its table: plain threads would keep that table,
    /// and no record mentions them.
    pub(crate) fn leaves_threads_behind(&self, task: usize) -> bool {
        let Task {
            tid, tgid, table, ..
        } = self.tasks[task];
        let mut siblings = self.siblings(task).into_iter();
        tid == tgid && siblings.any(|sibling| self.tasks[sibling].table == table)
    }

    fn new_table(&mut self, table: Table) -> u64 {
        let mut addresses = (1..).map(|i| 0xffff_8880_0000_0000 + i * 0x2c0);
        let address = addresses
            .find(|address| !self.tables.contains_key(address) && *address != self.kept_table);
        let address = address.expect("no free address");
        self.tables.insert(address, table);
        address
    }

    fn new_task(&mut self, tid: u32, tgid: u32, table: u64, start_time: u64) -> usize {
        self.tasks.push(Task {
            tid,
            tgid,
            table,
            start_time,
        });
        self.tasks.len() - 1
    }

    fn new_file(&mut self) -> File {
        let held = self.iterator.as_ref().and_then(TaskIterator::held);
        let open = self.tables.values().flat_map(|table| table.open.values());
        let open: BTreeSet<_> = open.chain(held).map(|file| file.address).collect();
        let mut addresses = (1..).map(|i| 0xffff_8881_0000_0000 + i * 0xe8);
        let address = addresses.find(|address| !open.contains(address));
        self.last_ino += 1;
        File {
            address: address.expect("no free address"),
            ino: self.last_ino,
        }
    }

    fn new_pid(&mut self) -> Option<u32> {
        if self.live().count() >= MAX_TASKS {
            return None;
        }
        let used: BTreeSet<_> = self.live().map(|task| self.tasks[task].tid).collect();
        let after = (self.last_pid + 1..PID_MAX).chain(2..PID_MAX);
        let pid = after.into_iter().find(|pid| !used.contains(pid))?;
        self.last_pid = pid;
        Some(pid)
    }

    /// Writes a record.
    pub(crate) fn emit(&mut self, record: &[u8]) {
        self.ring.push(record.to_vec());
    }

    /// Builds a record's header for the task.
    pub(crate) fn header(&self, task: usize, kind: Kind, fd: u32, flags: u8) -> Header {
        let Task { tid, tgid, .. } = self.tasks[task];
        header(kind, tid, tgid, fd, flags)
    }

    /// Opens a new file.
    pub(crate) fn open(&mut self, task: usize, cloexec: bool, gap: Gap) {
        let file = self.new_file();
        let fd = self.table(task).lowest_free(0);
        self.install(task, fd, file, cloexec, gap);
    }

    /// Duplicates as `F_DUPFD`, `dup2` and `dup3` do: `onto` may be open.
    pub(crate) fn install(&mut self, task: usize, fd: u32, file: File, cloexec: bool, gap: Gap) {
        let table = self.table(task);
        table.expand(fd);
        table.open.insert(fd, file);
        table.mark(fd, cloexec);
        self.gap(gap);
        self.opened(task, fd);
    }

    /// Duplicates a descriptor to the lowest free number from `from` on.
    pub(crate) fn duplicate(&mut self, task: usize, fd: u32, from: u32, cloexec: bool, gap: Gap) {
        let table = self.table(task);
        let (file, free) = (table.open[&fd], table.lowest_free(from));
        self.install(task, free, file, cloexec, gap);
    }

    /// Calls `dup2`, or `dup3` with the flag. Does nothing if both numbers are equal.
    pub(crate) fn dup2(&mut self, task: usize, fd: u32, onto: u32, cloexec: bool, gap: Gap) {
        if fd == onto {
            self.opened(task, fd);
        } else {
            let file = self.table(task).open[&fd];
            self.install(task, onto, file, cloexec, gap);
        }
    }

    fn opened(&mut self, task: usize, fd: u32) {
        let table = self.table(task);
        let (file, cloexec) = (table.open[&fd], table.cloexec.contains(&fd));
        let flags = FdOpen::CLOEXEC.when(cloexec).bits();
        let birth = FdOpen {
            header: self.header(task, Kind::FdOpen, fd, flags),
            table: self.tasks[task].table,
            payload: payload(file),
        };
        self.emit(birth.as_bytes());
    }

    /// Closes a descriptor on behalf of `by`.
    pub(crate) fn close(&mut self, by: usize, fd: u32, gap: Gap) {
        let death = FdClose {
            header: self.header(by, Kind::FdClose, fd, 0),
            table: self.tasks[by].table,
            file: self.table(by).open[&fd].address,
        };
        self.emit(death.as_bytes());
        self.gap(gap);
        self.table(by).open.remove(&fd);
    }

    /// Opens a descriptor that another thread closes before the record of the open is written.
    pub(crate) fn close_while_it_opens(&mut self, task: usize) {
        let table = self.tasks[task].table;
        let mut live = self.live();
        let other = live.find(|&other| other != task && self.tasks[other].table == table);
        drop(live);
        let Some(other) = other else { return };
        let file = self.new_file();
        let fd = self.table(task).lowest_free(0);
        self.table(task).expand(fd);
        self.table(task).open.insert(fd, file);
        self.table(task).mark(fd, false);
        let death = FdClose {
            header: self.header(other, Kind::FdClose, fd, 0),
            table,
            file: file.address,
        };
        self.emit(death.as_bytes());
        self.opened(task, fd);
        self.table(task).open.remove(&fd);
    }

    /// Sets or clears the flag by `F_SETFD`.
    pub(crate) fn set_cloexec(&mut self, task: usize, fd: u32, cloexec: bool, gap: Gap) {
        if self.table(task).cloexec.contains(&fd) == cloexec {
            return;
        }
        let flags = SetCloexec::CLOEXEC.when(cloexec).bits();
        let reported = SetCloexec {
            header: self.header(task, Kind::SetCloexec, fd, flags),
            table: self.tasks[task].table,
        };
        self.emit(reported.as_bytes());
        self.gap(gap);
        self.table(task).mark(fd, cloexec);
    }

    /// Calls `close_range`, which copies only the needed part of a table that it unshares.
    pub(crate) fn close_range(
        &mut self,
        task: usize,
        range: std::ops::RangeInclusive<u32>,
        unshare: bool,
        mark: bool,
        gap: Gap,
    ) {
        if unshare && self.count(self.tasks[task].table) > 1 {
            let table = self.table(task);
            let copy = table.copy(|fd| mark || !range.contains(&fd));
            self.tasks[task].table = self.new_table(copy);
        }
        let table = self.table(task);
        if mark {
            let last = *range.end().min(&(table.capacity - 1));
            table.cloexec.extend(*range.start()..=last);
        } else {
            table.open.retain(|fd, _| !range.contains(fd));
        }
        self.gap(gap);
        self.emit_bits(task, 0, 0);
        self.emit_bits(task, 0, TableBits::CLOEXEC.bits());
    }

    /// Writes the records of a bitmap, as `emit_bits` of the BPF programs does.
    pub(crate) fn emit_bits(&mut self, task: usize, first: u32, flags: u8) {
        let table = &self.tables[&self.tasks[task].table];
        let (open, cloexec, room) = (table.open.clone(), table.cloexec.clone(), table.capacity);
        for fd in (first..room).step_by(WORDS_PER_CHUNK * 64) {
            let bits = TableBits {
                header: self.header(task, Kind::TableBits, fd, flags),
                table: self.tasks[task].table,
                len: ((room - fd) / 64).min(WORDS_PER_CHUNK as u32),
                capacity: room,
                words: if flags & TableBits::CLOEXEC.bits() == 0 {
                    Table::words(open.keys().copied(), fd)
                } else {
                    Table::words(cloexec.iter().copied(), fd)
                },
            };
            self.emit(bits.as_bytes());
        }
    }

    /// Creates a process that shares the table or gets a copy of it, or a thread with a copy. Returns false
    /// at the limit of tasks.
    pub(crate) fn fork(&mut self, parent: usize, shares: bool, thread: bool, gap: Gap) -> bool {
        let Some(tid) = self.new_pid() else {
            return false;
        };
        self.clock += 1;
        let started = self.clock + 1;
        let Task {
            tid: parent_tid,
            tgid: parent_tgid,
            table: parent_table,
            start_time,
        } = self.tasks[parent];
        let table = if shares {
            parent_table
        } else {
            let copy = self.table(parent).copy(|_| true);
            self.new_table(copy)
        };
        let emit_bits = !shares && self.count(parent_table) > 1;
        let child = if thread {
            self.new_task(tid, parent_tgid, table, start_time)
        } else {
            self.new_task(tid, tid, table, started)
        };
        self.gap(gap);
        let flags = Fork::SHARED_TABLE.when(emit_bits) | Fork::THREAD.when(thread);
        let fork = Fork {
            header: self.header(child, Kind::Fork, 0, flags.bits()),
            table,
            parent_table,
            start_time: started,
            parent_tid,
            parent_tgid,
        };
        self.emit(fork.as_bytes());
        if emit_bits {
            self.emit_bits(child, 0, 0);
        }
        true
    }

    /// Creates a plain thread, which causes no record.
    pub(crate) fn thread(&mut self, task: usize) {
        let Task {
            tgid,
            table,
            start_time,
            ..
        } = self.tasks[task];
        if table == self.leaders_table(tgid)
            && let Some(tid) = self.new_pid()
        {
            self.new_task(tid, tgid, table, start_time);
        }
    }

    /// Calls `unshare(CLONE_FILES)`. Returns whether that created a table.
    pub(crate) fn unshare(&mut self, task: usize) -> bool {
        let shared = self.count(self.tasks[task].table) > 1;
        if shared {
            let copy = self.table(task).copy(|_| true);
            self.tasks[task].table = self.new_table(copy);
        }
        shared
    }

    /// Executes another program. Before 5.11 the kernel unshared the table before it ended the other threads.
    pub(crate) fn exec(&mut self, task: usize, unshare_first: bool, gap: Gap) {
        if unshare_first {
            self.unshare(task);
        }
        let Task { tid, tgid, .. } = self.tasks[task];
        if self.iterator.is_some() {
            // If the snapshot has not reached that thread, the two tables cannot be distinguished.
            self.kept_table = self.leaders_table(tgid);
        }
        for sibling in self.siblings(task) {
            self.exit(sibling, gap);
        }
        if tid != tgid {
            // The thread becomes the leader; the old leader exits and gives it its number.
            let is_leader = |old: &&mut Task| (old.tid, old.tgid) == (tgid, tgid);
            let leader = self.tasks.iter_mut().rev().find(is_leader);
            leader.expect("no leader").tid = tid;
            self.tasks[task].tid = tgid;
        }
        self.unshare(task);
        self.kept_table = 0;
        let table = self.table(task);
        let cloexec = std::mem::take(&mut table.cloexec);
        table.open.retain(|fd, _| !cloexec.contains(fd));
        let (open, room) = (table.open.clone(), table.capacity);
        self.gap(gap);
        // The records name the calling thread.
        let leader = std::mem::replace(&mut self.tasks[task].tid, tid);
        if room > INLINE_WORDS as u32 * 64 {
            self.emit_bits(task, INLINE_WORDS as u32 * 64, 0);
        }
        let exec = Exec {
            header: self.header(task, Kind::Exec, 0, 0),
            table: self.tasks[task].table,
            comm: *b"program\0\0\0\0\0\0\0\0\0",
            open: Table::words(open.keys().copied(), 0),
        };
        self.emit(exec.as_bytes());
        self.tasks[task].tid = leader;
    }

    /// Ends a task.
    pub(crate) fn exit(&mut self, task: usize, gap: Gap) {
        let Task { tgid, table, .. } = self.tasks[task];
        let last = self.siblings(task).is_empty();
        if last || table != self.leaders_table(tgid) {
            let flags = Exit::LAST_THREAD.when(last).bits();
            let header = self.header(task, Kind::Exit, 0, flags);
            self.emit(Exit { header }.as_bytes());
        }
        self.gap(gap);
        self.tasks[task].table = 0;
        if self.count(table) == 0 {
            self.tables.remove(&table);
        }
    }

    /// Ends all threads of a process.
    pub(crate) fn exit_process(&mut self, task: usize, gap: Gap) {
        for task in self.siblings(task).into_iter().chain([task]) {
            self.exit(task, gap);
        }
    }
}

fn header(kind: Kind, tid: u32, tgid: u32, fd: u32, flags: u8) -> Header {
    Header {
        kind: kind as u8,
        flags,
        call: NO_CALL,
        fd,
        tid,
        tgid,
    }
}
