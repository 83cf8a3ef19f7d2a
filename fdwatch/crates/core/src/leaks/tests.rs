//! Leaks found in the records of a command's processes.

use fdwatch_common::{
    Exec, Exit, FdClose, FdOpen, Fork, Header, Payload, SnapshotFile, SnapshotTask,
};

use super::{groups::LeakReport, *};
use crate::{
    diagnose::{Descriptor, FdHistory, FileInfo},
    engine::Engine,
    model::{AnonymousDevices, FileType, Lineage},
};

/// The command's first process, and one that does not belong to it.
const FIRST: u32 = 10;
const OTHER: u32 = 90;

struct Host {
    engine: Engine,
    now: u64,
}

impl Host {
    /// Creates two processes, each with four descriptors from before the command.
    fn new() -> Self {
        let mut host = Self {
            engine: Engine::new(AnonymousDevices::default(), true),
            now: 0,
        };
        host.engine.begin_snapshot();
        for tgid in [FIRST, OTHER] {
            let task = SnapshotTask {
                header: header(fdwatch_common::Kind::SnapshotTask, tgid, 0),
                table: u64::from(tgid),
                start_time: 1,
                ..SnapshotTask::default()
            };
            host.record(task.as_bytes());
            for fd in 0..4 {
                let file = SnapshotFile {
                    header: header(fdwatch_common::Kind::SnapshotFile, tgid, fd),
                    table: u64::from(tgid),
                    payload: payload(u64::from(fd)),
                };
                host.record(file.as_bytes());
            }
        }
        host.engine.end_snapshot();
        host.engine.leaks = Some(Box::new(Leaks::of(FIRST, &host.engine.model)));
        host
    }

    fn record(&mut self, record: &[u8]) {
        self.now += 1;
        self.engine.record(record, Moment(self.now));
    }

    fn open(&mut self, tgid: u32, fd: u32, file: u64, closes_on_exec: bool) {
        let open = FdOpen {
            header: Header {
                flags: FdOpen::CLOEXEC.when(closes_on_exec).bits(),
                ..header(fdwatch_common::Kind::FdOpen, tgid, fd)
            },
            table: u64::from(tgid),
            payload: payload(file),
        };
        self.record(open.as_bytes());
    }

    fn close(&mut self, tgid: u32, fd: u32, file: u64) {
        let close = FdClose {
            header: header(fdwatch_common::Kind::FdClose, tgid, fd),
            table: u64::from(tgid),
            file: payload(file).file,
        };
        self.record(close.as_bytes());
    }

    fn fork(&mut self, parent: u32, child: u32) {
        let fork = Fork {
            header: header(fdwatch_common::Kind::Fork, child, 0),
            table: u64::from(child),
            parent_table: u64::from(parent),
            start_time: u64::from(child),
            parent_tid: parent,
            parent_tgid: parent,
        };
        self.record(fork.as_bytes());
    }

    fn exec(&mut self, tgid: u32, comm: &str, open: &[u32]) {
        let mut exec = Exec {
            header: header(fdwatch_common::Kind::Exec, tgid, 0),
            table: u64::from(tgid),
            ..Exec::default()
        };
        exec.comm[..comm.len()].copy_from_slice(comm.as_bytes());
        exec.open[0] = open.iter().fold(0, |bits, fd| bits | 1 << fd);
        self.record(exec.as_bytes());
    }

    fn exit(&mut self, tgid: u32) {
        let exit = Exit {
            header: Header {
                flags: (Exit::LAST_THREAD | Exit::LAST_HOLDER).bits(),
                ..header(fdwatch_common::Kind::Exit, tgid, 0)
            },
        };
        self.record(exit.as_bytes());
    }

    fn leaks(&mut self) -> &mut Leaks {
        self.engine.leaks.as_mut().unwrap()
    }

    /// Returns kind, process and number of the leaks since the last call.
    fn take(&mut self) -> Vec<(LeakKind, u32, u32)> {
        let leaks = self.leaks().take().into_iter();
        leaks.map(|leak| (leak.kind, leak.tgid, leak.fd)).collect()
    }
}

fn header(kind: fdwatch_common::Kind, tgid: u32, fd: u32) -> Header {
    Header {
        kind: kind as u8,
        fd,
        tid: tgid,
        tgid,
        ..Header::default()
    }
}

fn payload(file: u64) -> Payload {
    Payload {
        file: 0x1000 + file,
        ino: file,
        dev: 1,
        mode: 0o100_644,
        nlink: 1,
        ..Payload::default()
    }
}

/// Creates a leak with all facts known.
pub(super) fn leak(kind: LeakKind, comm: &str, path: Option<&str>) -> LeakReport {
    let process = ProcessInfo {
        pid: FIRST,
        comm: comm.as_bytes().to_vec(),
        ..ProcessInfo::default()
    };
    let history = FdHistory {
        provenance: Provenance::Made,
        lineage: &Lineage::default(),
        process: &process,
    };
    let descriptor = Descriptor::new(3, &FdEntry::default(), history);
    LeakReport {
        kind,
        process,
        into: None,
        file: FileInfo::new(
            path.map(|path| path.as_bytes().to_vec()),
            1,
            1,
            FileType::Regular,
        ),
        descriptor,
        at: Moment(1),
    }
}

#[test]
fn open_fd_at_exit_is_a_leak() {
    let mut host = Host::new();
    host.exec(FIRST, "first", &[0, 1, 2, 3]);
    host.open(FIRST, 4, 40, true);
    host.open(FIRST, 5, 50, false);
    host.close(FIRST, 4, 40);
    host.open(OTHER, 6, 60, false);
    host.exit(OTHER);
    assert_eq!(host.take(), []);
    host.exit(FIRST);
    assert_eq!(host.take(), [(LeakKind::AtExit, FIRST, 5)]);
    assert_eq!(host.leaks().process(FIRST).comm, b"first");
    assert!(host.leaks().have_all_ended());
}

#[test]
fn initial_fds_and_streams_are_no_leaks() {
    let mut host = Host::new();
    host.exec(FIRST, "first", &[0, 1, 2, 3]);
    host.open(FIRST, 1, 10, false);
    host.exit(FIRST);
    assert_eq!(host.take(), []);
}

#[test]
fn inherited_fd_leaks_only_in_opener() {
    let mut host = Host::new();
    host.open(FIRST, 4, 40, true);
    host.fork(FIRST, 11);
    host.open(11, 5, 50, true);
    host.exit(11);
    assert_eq!(host.take(), [(LeakKind::AtExit, 11, 5)]);
    host.exit(FIRST);
    assert_eq!(host.take(), [(LeakKind::AtExit, FIRST, 4)]);
}

#[test]
fn fd_kept_across_exec_leaks_unless_stream() {
    let mut host = Host::new();
    host.open(FIRST, 4, 40, false);
    host.open(FIRST, 5, 50, true);
    host.open(FIRST, 6, 60, false);
    host.fork(FIRST, 11);
    host.open(11, 1, 60, false);
    host.exec(11, "other", &[0, 1, 2, 3, 4, 6]);
    assert_eq!(host.take(), [(LeakKind::AcrossExec, 11, 4)]);
    host.exit(11);
    assert_eq!(host.take(), []);
    // It is still open in the process that opened it.
    host.exit(FIRST);
    let at_exit = [4, 5, 6].map(|fd| (LeakKind::AtExit, FIRST, fd));
    assert_eq!(host.take(), at_exit);
}

#[test]
fn surviving_descendant_has_not_leaked() {
    let mut host = Host::new();
    host.fork(FIRST, 11);
    host.fork(11, 12);
    host.open(12, 5, 50, true);
    host.exit(11);
    host.exit(FIRST);
    assert_eq!(host.take(), []);
    assert_eq!(host.leaks().running(), [12]);
    assert_eq!(host.leaks().processes(), 3);
    assert!(!host.leaks().have_all_ended());
}

#[test]
fn execs_are_counted_by_process() {
    let mut host = Host::new();
    let program = |tgid, execs| Some(Program { tgid, execs });
    assert_eq!(host.leaks().program_of(FIRST), program(FIRST, 0));
    host.exec(FIRST, "first", &[]);
    host.fork(FIRST, 11);
    host.exec(FIRST, "second", &[]);
    assert_eq!(host.leaks().program_of(FIRST), program(FIRST, 2));
    assert_eq!(host.leaks().program_of(11), program(11, 0));
    assert_eq!(host.leaks().program_of(OTHER), None);
}

#[test]
fn reused_pid_is_not_a_member() {
    let mut host = Host::new();
    host.fork(FIRST, 11);
    host.exit(11);
    assert!(host.leaks().is_member(11));
    host.fork(OTHER, 11);
    assert!(!host.leaks().is_member(11));
    host.open(11, 5, 50, true);
    host.exit(11);
    assert_eq!(host.take(), []);
}

#[test]
fn similar_leaks_are_grouped() {
    let mut fold = LeakGroups::default();
    for pid in 1..=300 {
        let mut similar = leak(LeakKind::AtExit, "worker", Some("/srv/x"));
        similar.process.pid = pid;
        fold.add(similar);
    }
    fold.add(leak(LeakKind::AtExit, "worker", Some("/srv/y")));
    fold.add(leak(LeakKind::AcrossExec, "worker", Some("/srv/x")));
    let groups: Vec<_> = fold
        .groups()
        .iter()
        .map(|it| (it.count, it.processes))
        .collect();
    assert_eq!(groups, [(300, 300), (1, 1), (1, 1)]);
    assert_eq!(fold.count(LeakKind::AtExit), 301);
    for i in 0..2000 {
        fold.add(leak(LeakKind::AtExit, "worker", Some(&i.to_string())));
    }
    assert_eq!(fold.more(), 2000 + 3 - 1000);
}
