//! A model with short methods that apply records.

use fdwatch_common::{
    Event, Exec, Exit, FdClose, FdOpen, Fork, Header, NO_CALL, Payload, SetCloexec, SnapshotFile,
    SnapshotTask, TableBits,
};

use super::{super::*, A};

/// A model, and the addresses of dropped tables.
#[derive(Default)]
pub(super) struct Scenario {
    pub(super) model: Model,
    pub(super) dropped: Vec<u64>,
}

impl Observer for Vec<u64> {
    fn opened(&mut self, _: &mut Table, _: u32, _: &FdEntry, _: Option<&FdEntry>) {}
    fn closed(&mut self, _: &mut Table, _: u32, _: &FdEntry, _: Moment) {}
    fn forked(&mut self, _: &Table, _: Moment) {}
    fn execed(&mut self, _: &Table, _: Moment) {}
    fn table_dropped(&mut self, table: &Table, _: Moment) {
        self.push(table.address());
    }
}

pub(super) fn header(tid: u32, tgid: u32, fd: u32, flags: u8) -> Header {
    Header {
        kind: 0,
        flags,
        call: NO_CALL,
        fd,
        tid,
        tgid,
    }
}

pub(super) fn payload(file: u64) -> Payload {
    Payload {
        file,
        ino: file,
        mode: 0o100_644,
        nlink: 1,
        ..Payload::default()
    }
}

impl Scenario {
    /// Process 1 with table `A` and these descriptors and files.
    pub(super) fn with(files: &[(u32, u64)]) -> Self {
        let mut scenario = Self::default();
        scenario.fork(1, 0, 0, A);
        for &(fd, file) in files {
            scenario.open(1, A, fd, file, 0);
        }
        scenario
    }

    pub(super) fn apply(&mut self, event: &Event<'_>) -> &mut Self {
        self.model.apply(event, Moment(0), &mut self.dropped);
        self
    }

    pub(super) fn open(
        &mut self,
        pid: u32,
        table: u64,
        fd: u32,
        file: u64,
        flags: u8,
    ) -> &mut Self {
        self.open_by(pid, pid, table, fd, file, flags)
    }

    pub(super) fn open_by(
        &mut self,
        tid: u32,
        tgid: u32,
        table: u64,
        fd: u32,
        file: u64,
        flags: u8,
    ) -> &mut Self {
        self.apply(&Event::FdOpen(&FdOpen {
            header: header(tid, tgid, fd, flags),
            table,
            payload: payload(file),
        }))
    }

    pub(super) fn close(
        &mut self,
        tid: u32,
        tgid: u32,
        table: u64,
        fd: u32,
        file: u64,
    ) -> &mut Self {
        self.apply(&Event::FdClose(&FdClose {
            header: header(tid, tgid, fd, 0),
            table,
            file,
        }))
    }

    pub(super) fn set_cloexec(&mut self, pid: u32, table: u64, fd: u32, flags: u8) -> &mut Self {
        self.apply(&Event::SetCloexec(&SetCloexec {
            header: header(pid, pid, fd, flags),
            table,
        }))
    }

    /// Forks process `child` from `parent`, which has `parent_table`.
    pub(super) fn fork(
        &mut self,
        child: u32,
        parent: u32,
        parent_table: u64,
        table: u64,
    ) -> &mut Self {
        self.fork_with((child, child), parent, parent_table, table, 0)
    }

    pub(super) fn fork_with(
        &mut self,
        (tid, tgid): (u32, u32),
        parent: u32,
        parent_table: u64,
        table: u64,
        flags: u8,
    ) -> &mut Self {
        let start_time = self.model.now().0 + 1;
        self.apply(&Event::Fork(&Fork {
            header: header(tid, tgid, 0, flags),
            table,
            parent_table,
            start_time,
            parent_tid: parent,
            parent_tgid: parent,
        }))
    }

    pub(super) fn exec(&mut self, tid: u32, tgid: u32, table: u64, open: u64) -> &mut Self {
        self.apply(&Event::Exec(&Exec {
            header: header(tid, tgid, 0, 0),
            table,
            comm: *b"new\0\0\0\0\0\0\0\0\0\0\0\0\0",
            open: [open, 0, 0, 0],
        }))
    }

    pub(super) fn exit(&mut self, tid: u32, tgid: u32, flags: u8) -> &mut Self {
        let header = header(tid, tgid, 0, flags);
        self.apply(&Event::Exit(&Exit { header }))
    }

    pub(super) fn bits(
        &mut self,
        pid: u32,
        table: u64,
        first: u32,
        flags: u8,
        words: &[u64],
    ) -> &mut Self {
        self.bits_by(pid, pid, table, first, flags, words)
    }

    pub(super) fn bits_by(
        &mut self,
        tid: u32,
        tgid: u32,
        table: u64,
        first: u32,
        flags: u8,
        words: &[u64],
    ) -> &mut Self {
        let mut bits = TableBits {
            header: header(tid, tgid, first, flags),
            table,
            len: words.len() as u32,
            capacity: first + words.len() as u32 * 64,
            ..TableBits::default()
        };
        bits.words[..words.len()].copy_from_slice(words);
        self.apply(&Event::TableBits(&bits))
    }

    pub(super) fn task(&mut self, tid: u32, tgid: u32, table: u64, start_time: u64) -> &mut Self {
        self.apply(&Event::SnapshotTask(&SnapshotTask {
            header: header(tid, tgid, 0, 0),
            table,
            start_time,
            ..SnapshotTask::default()
        }))
    }

    pub(super) fn found(
        &mut self,
        tid: u32,
        tgid: u32,
        table: u64,
        fd: u32,
        file: u64,
    ) -> &mut Self {
        self.apply(&Event::SnapshotFile(&SnapshotFile {
            header: header(tid, tgid, fd, 0),
            table,
            payload: payload(file),
        }))
    }

    pub(super) fn begin(&mut self) -> &mut Self {
        self.model.begin_snapshot();
        self
    }

    pub(super) fn end(&mut self) -> bool {
        self.model.end_snapshot()
    }

    /// Returns the open descriptors and their files.
    pub(super) fn files(&self, table: u64) -> Vec<(u32, u64)> {
        let entries = self.model.table(table).into_iter().flat_map(Table::iter);
        entries.map(|(fd, entry)| (fd, entry.file)).collect()
    }

    pub(super) fn holders(&self, table: u64) -> Vec<(u32, u32)> {
        let table = self.model.table(table);
        let holders = table.into_iter().flat_map(Table::holders);
        holders.map(|holder| (holder.tgid, holder.tid)).collect()
    }

    pub(super) fn closes_on_exec(&self, table: u64, fd: u32) -> bool {
        let table = self.model.table(table).unwrap();
        table.get(fd).unwrap().closes_on_exec()
    }
}
