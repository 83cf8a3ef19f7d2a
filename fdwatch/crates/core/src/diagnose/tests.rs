//! Cause and severity of duplicates.

use super::*;
use crate::simulated_host::{Host, O_APPEND, O_WRONLY};

/// Returns the cause and severity of each finding, by process.
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
        name: Some(Name {
            path: b"/var/log/x".to_vec(),
            deleted: false,
            pinned: None,
        }),
        replaced: false,
        from_parent: Vec::new(),
        parent_holds_it: false,
    }
}

#[test]
fn separate_writer_and_reader_are_a_warning() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY | O_APPEND);
    host.open(1, 4, 101, 0);
    let found = found(&mut host, &context());
    assert_eq!(found, [(1, Cause::Reopened, Severity::Warning)]);
}

#[test]
fn readers_only_are_info() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 101, 0);
    let found = found(&mut host, &context());
    assert_eq!(found, [(1, Cause::Reopened, Severity::Info)]);
}

#[test]
fn single_description_is_duplicated() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.open(1, 4, 100, O_WRONLY);
    let found = found(&mut host, &context());
    assert_eq!(found, [(1, Cause::Duplicated, Severity::Info)]);
}

#[test]
fn reopen_by_child_is_inherited() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.fork(1, 2);
    host.open(2, 4, 101, O_WRONLY);
    let found = found(&mut host, &context());
    assert_eq!(found, [(2, Cause::Inherited, Severity::Warning)]);
}

#[test]
fn inherited_stdout_is_not_an_exec_leak() {
    let mut host = Host::new();
    host.open(1, 1, 100, O_WRONLY);
    host.fork(1, 2);
    host.exec(2, u64::MAX);
    host.open(2, 4, 101, 0);
    let found = found(&mut host, &context());
    assert_eq!(found, [(2, Cause::Inherited, Severity::Warning)]);
}

#[test]
fn fd_kept_across_exec_is_exec_leak() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.fork(1, 2);
    host.exec(2, u64::MAX);
    host.open(2, 4, 101, 0);
    let found = found(&mut host, &context());
    assert_eq!(found, [(2, Cause::ExecLeak, Severity::Warning)]);
}

#[test]
fn chain_starts_at_open() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.fork(1, 2);
    host.fork(2, 3);
    host.exec(3, u64::MAX);
    host.open(3, 4, 101, 0);
    let mut chains: Vec<Vec<(&str, u32)>> = Vec::new();
    host.pass(2_000_000_000);
    host.settle(&mut |duplicate| {
        let finding = diagnose(duplicate, context());
        let chain = |fd: &Descriptor| fd.chain.iter().map(|link| (link.how, link.pid)).collect();
        chains.extend(finding.fds.iter().map(chain));
    });
    // The context does not name the process.
    let inherited: Vec<(&str, u32)> = vec![("openat", 1), ("fork", 2), ("fork", 3), ("exec", 0)];
    assert_eq!(chains, [inherited, Vec::new()]);
}

#[test]
fn reader_outliving_connection_is_reported_again() {
    let mut host = Host::new();
    host.open(1, 3, 100, O_WRONLY);
    host.accept(1, 4, 200);
    host.open(1, 5, 101, 0);
    let outlived = |host: &mut Host| {
        let mut outlived = Vec::new();
        host.settle(&mut |duplicate| {
            let finding = diagnose(duplicate, context());
            let fds = finding.fds.iter();
            outlived.push(
                fds.map(|fd| fd.outlives().map(|it| it.fd))
                    .collect::<Vec<_>>(),
            );
        });
        outlived
    };
    assert_eq!(outlived(&mut host), [[None, None]]);
    host.close(1, 4);
    assert_eq!(outlived(&mut host), [[None, Some(4)]]);
    host.accept(1, 4, 201);
    host.close(1, 4);
    assert!(outlived(&mut host).is_empty());
}

#[test]
fn duplicate_of_parent_is_info_in_child() {
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
fn deleted_file_is_a_warning_for_readers() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 100, 0);
    let context = Context {
        name: Some(Name {
            path: b"/var/log/x".to_vec(),
            deleted: true,
            pinned: None,
        }),
        ..context()
    };
    let found = found(&mut host, &context);
    assert_eq!(found, [(1, Cause::Duplicated, Severity::Warning)]);
}

#[test]
fn duplicates_near_limit_are_critical() {
    let mut host = Host::new();
    for fd in 0..80 {
        host.open(1, fd, 100 + u64::from(fd), 0);
    }
    let mut context = context();
    context.process.fd_limit = Some(100);
    assert_eq!(
        found(&mut host, &context),
        [(1, Cause::Reopened, Severity::Critical)]
    );
}

#[test]
fn story_folds_similar_opens() {
    let mut host = Host::new();
    host.open(1, 3, 99, O_WRONLY);
    for fd in 4..200 {
        host.open(1, fd, 100 + u64::from(fd), 0);
    }
    let mut texts = Vec::new();
    host.pass(2_000_000_000);
    host.settle(&mut |duplicate| {
        let finding = diagnose(duplicate, context());
        let sentences = story(&finding, &[]).into_iter();
        texts
            .extend(sentences.map(|sentence| String::from_utf8_lossy(&sentence.text).into_owned()));
    });
    assert_eq!(
        texts,
        [
            "3 (writing) opened by openat, thread 1",
            "4 (reading) opened by openat, thread 1",
            "5-199 likewise, until then",
        ]
    );
}

#[test]
fn consecutive_numbers_are_ranges() {
    assert_eq!(numbers(&[]), "");
    assert_eq!(numbers(&[5, 3, 4]), "3, 4, 5");
    assert_eq!(numbers(&[3, 4, 5, 6, 8, u32::MAX]), "3-6, 8, 4294967295");
    let apart: Vec<_> = (0..40).map(|number| number * 2).collect();
    assert!(
        numbers(&apart).ends_with("28, 30 and 24 more"),
        "{}",
        numbers(&apart)
    );
}

#[test]
fn causes_have_distinct_names_and_remedies() {
    let names: std::collections::BTreeSet<_> =
        Cause::ALL.iter().map(|cause| cause.name()).collect();
    assert_eq!(names.len(), Cause::ALL.len());
    for cause in Cause::ALL {
        for is_written in [false, true] {
            assert!(!remedies(cause, is_written).is_empty(), "{cause:?}");
        }
    }
}
