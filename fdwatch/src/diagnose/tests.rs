//! Cause and severity, by what is held.

use fdwatch_common::{Birth, Event, Exec, Fork, Header, Kind, Payload};

use super::*;
use crate::{duplicates::Duplicates, model::Model};

const LOG: u64 = 77;
const O_WRONLY: u32 = 1;
const O_APPEND: u32 = 0o2000;

/// A model with its duplicates, driven by hand.
struct Host {
    model: Model,
    duplicates: Duplicates,
    now: u64,
}

impl Host {
    fn new() -> Self {
        Self {
            model: Model::new(None),
            duplicates: Duplicates::new(true),
            now: 1,
        }
    }

    fn apply(&mut self, event: &Event<'_>) {
        self.now += 1;
        let at = Moment(self.now);
        self.model.apply(event, at, &mut self.duplicates);
    }

    fn open(&mut self, tgid: u32, fd: u32, file: u64, flags: u32) {
        let header = Header {
            kind: Kind::Birth as u8,
            fd,
            tid: tgid,
            tgid,
            ..Header::default()
        };
        let payload = Payload {
            file,
            ino: LOG,
            flags,
            mode: 0o100_644,
            nlink: 1,
            ..Payload::default()
        };
        let table = tgid.into();
        self.apply(&Event::Birth(&Birth {
            header,
            table,
            payload,
        }));
    }

    fn fork(&mut self, parent: u32, child: u32) {
        let header = Header {
            kind: Kind::Fork as u8,
            tid: child,
            tgid: child,
            ..Header::default()
        };
        self.apply(&Event::Fork(&Fork {
            header,
            table: child.into(),
            parent_table: parent.into(),
            start_time: 5,
            parent_tid: parent,
            parent_tgid: parent,
        }));
    }

    fn exec(&mut self, tgid: u32) {
        let header = Header {
            kind: Kind::Exec as u8,
            tid: tgid,
            tgid,
            ..Header::default()
        };
        self.apply(&Event::Exec(&Exec {
            header,
            table: tgid.into(),
            open: [u64::MAX; 4],
            ..Exec::default()
        }));
    }

    /// What is found, as cause and severity.
    fn found(&mut self, context: &Context) -> Vec<(u32, Cause, Severity)> {
        let mut found = Vec::new();
        self.now += 2_000_000_000;
        let now = Moment(self.now);
        self.duplicates
            .settle(&self.model, now, &mut |duplicate, _| {
                let finding = diagnose(duplicate, context.clone());
                found.push((duplicate.tgid, finding.cause, finding.severity));
            });
        found.sort_unstable_by_key(|&(tgid, ..)| tgid);
        found
    }
}

fn context() -> Context {
    Context {
        process: ProcessInfo::default(),
        path: Some(b"/var/log/x".to_vec()),
        deleted: false,
        parent_holds_it: false,
    }
}

#[test]
fn a_writer_and_a_reader_of_their_own_are_a_warning() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY | O_APPEND);
    host.open(1, 4, 101, 0);
    let found = host.found(&context());
    assert_eq!(found, [(1, Cause::Reopened, Severity::Warning)]);
}

#[test]
fn readers_only_are_no_more_than_an_information() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 101, 0);
    let found = host.found(&context());
    assert_eq!(found, [(1, Cause::Reopened, Severity::Info)]);
}

#[test]
fn one_description_is_duplicated() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.open(1, 4, 100, O_WRONLY);
    let found = host.found(&context());
    assert_eq!(found, [(1, Cause::Duplicated, Severity::Info)]);
}

#[test]
fn what_a_child_opens_again_is_inherited() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.fork(1, 2);
    host.open(2, 4, 101, O_WRONLY);
    let found = host.found(&context());
    assert_eq!(found, [(2, Cause::Inherited, Severity::Warning)]);
}

#[test]
fn what_is_inherited_stays_so_over_exec() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.fork(1, 2);
    host.exec(2);
    host.open(2, 4, 101, 0);
    let found = host.found(&context());
    assert_eq!(found, [(2, Cause::Inherited, Severity::Warning)]);
}

#[test]
fn what_a_process_opened_before_exec_and_again_after_is_reopened() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.exec(1);
    host.open(1, 4, 101, 0);
    let found = host.found(&context());
    assert_eq!(found, [(1, Cause::Reopened, Severity::Warning)]);
}

#[test]
fn a_parents_duplicate_is_an_information_in_its_children() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.open(1, 4, 101, 0);
    host.fork(1, 2);
    let context = Context {
        parent_holds_it: true,
        ..context()
    };
    let found = host.found(&context);
    let child = (2, Cause::Inherited, Severity::Info);
    assert_eq!(found, [(1, Cause::Reopened, Severity::Warning), child]);
}

#[test]
fn a_deleted_file_is_a_warning_even_to_readers() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 100, 0);
    let context = Context {
        deleted: true,
        ..context()
    };
    let found = host.found(&context);
    assert_eq!(found, [(1, Cause::Duplicated, Severity::Warning)]);
}

#[test]
fn growing_towards_the_limit_is_critical() {
    let mut host = Host::new();
    for fd in 0..80 {
        host.open(1, fd, 100 + u64::from(fd), 0);
    }
    let mut context = context();
    context.process.most_fds = Some(100);
    assert_eq!(
        host.found(&context),
        [(1, Cause::Reopened, Severity::Critical)]
    );
}
