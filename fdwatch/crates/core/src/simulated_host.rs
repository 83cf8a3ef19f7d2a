//! A simulated host for tests: its records pass through the model and duplicates.

use fdwatch_common::{
    Event, Exec, Exit, FdClose, FdOpen, Fork, Header, Kind, Payload, SnapshotFile, SnapshotTask,
};

use crate::{
    duplicates::{Duplicate, Duplicates},
    model::{AnonymousDevices, Model, Moment},
};

/// The inode that everything opens by default.
pub(crate) const LOG: u64 = 77;
pub(crate) const O_WRONLY: u32 = 1;
pub(crate) const O_APPEND: u32 = 0o2000;
const REGULAR: u32 = 0o100_644;
const SOCKET: u32 = 0o140_777;

/// A model with its duplicates. A process's table address equals its number.
pub(crate) struct Host {
    pub(crate) model: Model,
    pub(crate) duplicates: Duplicates,
    now: u64,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            model: Model::new(AnonymousDevices::default()),
            duplicates: Duplicates::new(true),
            now: 1,
        }
    }

    /// Advances the time, in nanoseconds.
    pub(crate) fn pass(&mut self, nanoseconds: u64) {
        self.now += nanoseconds;
    }

    pub(crate) fn now(&self) -> Moment {
        Moment(self.now)
    }

    /// Opens [`LOG`] with the description `file`.
    pub(crate) fn open(&mut self, tgid: u32, fd: u32, file: u64, flags: u32) {
        self.open_inode(tgid, fd, file, flags, LOG);
    }

    pub(crate) fn open_inode(&mut self, tgid: u32, fd: u32, file: u64, flags: u32, ino: u64) {
        let payload = Payload {
            file,
            ino,
            flags,
            mode: REGULAR,
            nlink: 1,
            ..Payload::default()
        };
        self.make(tgid, fd, libc::SYS_openat, payload);
    }

    /// Accepts a connection with the description `file`.
    pub(crate) fn accept(&mut self, tgid: u32, fd: u32, file: u64) {
        let payload = Payload {
            file,
            ino: file,
            mode: SOCKET,
            nlink: 1,
            ..Payload::default()
        };
        self.make(tgid, fd, libc::SYS_accept4, payload);
    }

    fn make(&mut self, tgid: u32, fd: u32, call: libc::c_long, payload: Payload) {
        let header = Header {
            fd,
            call: call as u16,
            ..header(Kind::FdOpen, tgid)
        };
        self.apply(&Event::FdOpen(&FdOpen {
            header,
            table: tgid.into(),
            payload,
        }));
    }

    pub(crate) fn close(&mut self, tgid: u32, fd: u32) {
        let header = Header {
            fd,
            ..header(Kind::FdClose, tgid)
        };
        self.apply(&Event::FdClose(&FdClose {
            header,
            table: tgid.into(),
            file: 0,
        }));
    }

    pub(crate) fn fork(&mut self, parent: u32, child: u32) {
        self.apply(&Event::Fork(&Fork {
            header: header(Kind::Fork, child),
            table: child.into(),
            parent_table: parent.into(),
            start_time: 5,
            parent_tid: parent,
            parent_tgid: parent,
        }));
    }

    /// Runs another program that keeps the descriptors whose bits are set in `open`, and all from
    /// 64 on.
    pub(crate) fn exec(&mut self, tgid: u32, open: u64) {
        self.apply(&Event::Exec(&Exec {
            header: header(Kind::Exec, tgid),
            table: tgid.into(),
            open: [open, u64::MAX, u64::MAX, u64::MAX],
            ..Exec::default()
        }));
    }

    pub(crate) fn exit(&mut self, tgid: u32) {
        let header = Header {
            flags: Exit::LAST_THREAD.bits(),
            ..header(Kind::Exit, tgid)
        };
        self.apply(&Event::Exit(&Exit { header }));
    }

    /// Audits a process with these descriptors and descriptions, and with [`LOG`] deleted.
    pub(crate) fn audit_deleted(&mut self, tgid: u32, fds: &[(u32, u64)]) {
        self.model.begin_audit();
        self.apply(&Event::SnapshotTask(&SnapshotTask {
            header: header(Kind::SnapshotTask, tgid),
            table: tgid.into(),
            ..SnapshotTask::default()
        }));
        for &(fd, file) in fds {
            self.apply(&Event::SnapshotFile(&SnapshotFile {
                header: Header {
                    fd,
                    ..header(Kind::SnapshotFile, tgid)
                },
                table: tgid.into(),
                payload: Payload {
                    file,
                    ino: LOG,
                    mode: REGULAR,
                    ..Payload::default()
                },
            }));
        }
        self.model.end_audit(&mut self.duplicates);
    }

    /// Reports what has changed.
    pub(crate) fn settle(&mut self, report: &mut impl FnMut(&Duplicate<'_>)) {
        let now = self.now();
        self.duplicates
            .settle_all(&self.model, now, &mut |duplicate, _| report(duplicate));
    }

    /// Checks what is checked less often.
    pub(crate) fn sweep(&mut self) {
        self.pass(1_000_000_000);
        let now = self.now();
        self.duplicates
            .sweep(&self.model, now, &mut |_, _, _| None, &mut |_, _| ());
    }

    fn apply(&mut self, event: &Event<'_>) {
        self.now += 1;
        let at = self.now();
        self.model.apply(event, at, &mut self.duplicates);
    }
}

fn header(kind: Kind, tgid: u32) -> Header {
    Header {
        kind: kind as u8,
        tid: tgid,
        tgid,
        ..Header::default()
    }
}
