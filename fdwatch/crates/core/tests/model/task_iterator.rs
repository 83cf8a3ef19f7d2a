//! The `task_file` iterator of the simulated kernel, with the BPF program that writes the snapshot.
//!
//! It reads a descriptor in one step and writes its record in a later one. Other operations may happen in
//! between.

use fdwatch_common::{Kind, SnapshotFile, SnapshotTask};

use super::{
    operation::Gap,
    simulated_kernel::{Kernel, Task},
    tables::{File, payload},
};

/// Position of the iterator.
#[derive(Default)]
pub(crate) struct TaskIterator {
    /// Number of the task when the iterator reached it.
    tid: u32,
    /// The current task, which the iterator holds, so that it may have exited.
    task: Option<usize>,
    next_fd: u32,
    looked_at: Option<(u32, File)>,
    /// The task whose descriptors were written last.
    last_tid: u32,
}

impl TaskIterator {
    /// Returns the file that the iterator holds.
    pub(crate) fn held(&self) -> Option<&File> {
        self.looked_at.as_ref().map(|(_, file)| file)
    }
}

impl Kernel {
    /// Advances the snapshot between a change and its record.
    pub(crate) fn gap(&mut self, Gap(steps): Gap) {
        for _ in 0..steps {
            self.snapshot_step();
        }
    }

    /// Advances the iterator. Returns whether it has more to do.
    pub(crate) fn snapshot_step(&mut self) -> bool {
        let Some(mut iterator) = self.iterator.take() else {
            return false;
        };
        let goes_on = match iterator.looked_at.take() {
            Some((fd, file)) => {
                self.write(&mut iterator, fd, file);
                true
            }
            None => self.find_next(&mut iterator),
        };
        self.iterator = goes_on.then_some(iterator);
        goes_on
    }

    /// Finds the next descriptor, as `task_file_seq_get_next` in kernel/bpf/task_iter.c does.
    fn find_next(&self, iterator: &mut TaskIterator) -> bool {
        loop {
            let table = iterator.task.map_or(0, |task| self.tasks[task].table);
            let table = self.tables.get(&table);
            let mut rest = table.map(|table| table.open.range(iterator.next_fd..));
            if let Some((&fd, &file)) = rest.as_mut().and_then(Iterator::next) {
                iterator.next_fd = fd + 1;
                iterator.looked_at = Some((fd, file));
                return true;
            }
            let after = self.live().filter(|&task| {
                let Task { tid, tgid, .. } = self.tasks[task];
                let is_reported = tid == tgid || self.tasks[task].table != self.leaders_table(tgid);
                tid > iterator.tid && is_reported
            });
            let Some(next) = after.min_by_key(|&task| self.tasks[task].tid) else {
                return false;
            };
            iterator.tid = self.tasks[next].tid;
            iterator.task = Some(next);
            iterator.next_fd = 0;
        }
    }

    /// Writes the record. The program reads the task's fields only now.
    fn write(&mut self, iterator: &mut TaskIterator, fd: u32, file: File) {
        let Some(at) = iterator.task else { return };
        let Task {
            tid,
            table,
            start_time,
            ..
        } = self.tasks[at];
        if iterator.last_tid != tid {
            iterator.last_tid = tid;
            let task = SnapshotTask {
                header: self.header(at, Kind::SnapshotTask, 0, 0),
                table,
                start_time,
                ..SnapshotTask::default()
            };
            self.emit(task.as_bytes());
        }
        let cloexec = self.tables.get(&table).map(|table| &table.cloexec);
        let cloexec = cloexec.is_some_and(|cloexec| cloexec.contains(&fd));
        let flags = SnapshotFile::CLOEXEC.when(cloexec).bits();
        let found = SnapshotFile {
            header: self.header(at, Kind::SnapshotFile, fd, flags),
            table,
            payload: payload(file),
        };
        self.emit(found.as_bytes());
    }
}
