//! Cause and severity, by what is held.

use super::*;
use crate::simulated_host::{Host, O_APPEND, O_WRONLY};

/// What is found, as cause and severity.
fn found(host: &mut Host, context: &Context) -> Vec<(u32, Cause, Severity)> {
    let mut found = Vec::new();
    host.pass(2_000_000_000);
    host.settle(&mut |duplicate| {
        let finding = diagnose(duplicate, context.clone());
        found.push((duplicate.tgid, finding.cause, finding.severity));
    });
    found.sort_unstable_by_key(|&(tgid, ..)| tgid);
    found
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
    let found = found(&mut host, &context());
    assert_eq!(found, [(1, Cause::Reopened, Severity::Warning)]);
}

#[test]
fn readers_only_are_no_more_than_an_information() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 101, 0);
    let found = found(&mut host, &context());
    assert_eq!(found, [(1, Cause::Reopened, Severity::Info)]);
}

#[test]
fn one_description_is_duplicated() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.open(1, 4, 100, O_WRONLY);
    let found = found(&mut host, &context());
    assert_eq!(found, [(1, Cause::Duplicated, Severity::Info)]);
}

#[test]
fn what_a_child_opens_again_is_inherited() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.fork(1, 2);
    host.open(2, 4, 101, O_WRONLY);
    let found = found(&mut host, &context());
    assert_eq!(found, [(2, Cause::Inherited, Severity::Warning)]);
}

#[test]
fn what_is_inherited_stays_so_over_exec() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.fork(1, 2);
    host.exec(2, u64::MAX);
    host.open(2, 4, 101, 0);
    let found = found(&mut host, &context());
    assert_eq!(found, [(2, Cause::Inherited, Severity::Warning)]);
}

#[test]
fn what_a_process_opened_before_exec_and_again_after_is_reopened() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.exec(1, u64::MAX);
    host.open(1, 4, 101, 0);
    let found = found(&mut host, &context());
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
    let found = found(&mut host, &context);
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
    let found = found(&mut host, &context);
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
        found(&mut host, &context),
        [(1, Cause::Reopened, Severity::Critical)]
    );
}
