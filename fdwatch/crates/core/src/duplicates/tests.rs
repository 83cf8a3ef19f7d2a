//! Which duplicates are reported, and when.

use super::*;
use crate::simulated_host::{Host, LOG};

const SECOND: u64 = 1_000_000_000;

/// A report: process, change, open descriptors and closed ones.
type Report = (u32, Change, Vec<u32>, Vec<u32>);

fn reports(host: &mut Host) -> Vec<Report> {
    let mut reports = Vec::new();
    host.pass(SECOND / 10);
    host.settle(&mut |duplicate| {
        let closed = duplicate.closed.iter().map(|closed| closed.fd);
        reports.push((
            duplicate.tgid,
            duplicate.change,
            duplicate.fds.to_vec(),
            closed.collect(),
        ));
    });
    reports
}

#[test]
fn duplicate_is_found_changed_and_gone() {
    let mut host = Host::new();
    host.open(1, 15, 100, 0);
    assert_eq!(reports(&mut host), []);
    host.open(1, 17, 101, 1);
    assert_eq!(
        reports(&mut host),
        [(1, Change::Found, vec![15, 17], vec![])]
    );
    host.open(1, 83, 102, 0);
    assert_eq!(
        reports(&mut host),
        [(1, Change::Changed, vec![15, 17, 83], vec![])]
    );
    host.close(1, 83);
    assert_eq!(
        reports(&mut host),
        [(1, Change::Changed, vec![15, 17], vec![83])]
    );
    assert_eq!(reports(&mut host), []);
    host.close(1, 15);
    assert_eq!(reports(&mut host), [(1, Change::Gone, vec![17], vec![15])]);
    assert_eq!(reports(&mut host), []);
}

#[test]
fn brief_duplicate_is_reported_with_lifetime() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    reports(&mut host);
    host.open(1, 4, 101, 0);
    host.pass(5_000_000);
    host.close(1, 4);
    let mut lifetimes = Vec::new();
    host.pass(SECOND);
    host.settle(&mut |duplicate| {
        assert_eq!(duplicate.change, Change::Gone);
        lifetimes.push(duplicate.ended.map(|ended| ended.since(duplicate.since)));
    });
    assert_eq!(lifetimes, [Some(5_000_001)]);
}

#[test]
fn frequent_changes_are_rate_limited_and_counted() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    let (mut lines, mut times) = (0, 0);
    let mut count = |host: &mut Host| {
        host.pass(SECOND / 10);
        host.settle(&mut |duplicate| {
            lines += 1;
            times += duplicate.times;
        });
    };
    for _ in 0..80 {
        host.open(1, 4, 101, 0);
        host.close(1, 4);
        count(&mut host);
    }
    host.pass(11 * SECOND);
    count(&mut host);
    assert_eq!((lines, times), (MAX_REPORTS + 1, 80));
}

#[test]
fn child_duplicate_before_exec_is_not_reported() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 101, 0);
    reports(&mut host);
    host.fork(1, 2);
    host.open(2, 5, 102, 0);
    assert_eq!(reports(&mut host), []);
    host.exec(2, 1 << 3);
    assert_eq!(reports(&mut host), []);
}

#[test]
fn duplicate_kept_across_exec_is_reported() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 101, 0);
    reports(&mut host);
    host.fork(1, 2);
    host.exec(2, u64::MAX);
    assert_eq!(reports(&mut host), [(2, Change::Found, vec![3, 4], vec![])]);
}

#[test]
fn child_without_exec_is_reported_after_delay() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 101, 0);
    reports(&mut host);
    host.fork(1, 2);
    host.pass(SECOND);
    assert_eq!(reports(&mut host), [(2, Change::Found, vec![3, 4], vec![])]);
}

#[test]
fn child_that_ends_early_is_not_reported() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.fork(1, 2);
    host.open(2, 5, 102, 0);
    host.exit(2);
    host.pass(2 * SECOND);
    assert_eq!(reports(&mut host), []);
}

#[test]
fn exit_ends_duplicates() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 101, 0);
    reports(&mut host);
    host.exit(1);
    let reports = reports(&mut host);
    let [(1, Change::Gone, left, closed)] = reports.as_slice() else {
        panic!("{reports:?}");
    };
    assert_eq!((left.len(), closed.len()), (0, 2));
}

#[test]
fn dup2_onto_member_ends_duplicate() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 101, 0);
    reports(&mut host);
    host.open_inode(1, 4, 200, 0, LOG + 1);
    assert_eq!(reports(&mut host), [(1, Change::Gone, vec![3], vec![4])]);
}

#[test]
fn reused_number_is_another_descriptor() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 101, 0);
    reports(&mut host);
    host.close(1, 4);
    host.open(1, 4, 102, 0);
    assert_eq!(
        reports(&mut host),
        [(1, Change::Changed, vec![3, 4], vec![4])]
    );
}

#[test]
fn search_finds_existing_duplicates() {
    let mut host = Host::new();
    host.open(1, 3, 100, 0);
    host.open(1, 4, 101, 0);
    host.duplicates = Duplicates::new(false);
    host.duplicates.search(&host.model);
    assert_eq!(reports(&mut host), [(1, Change::Found, vec![3, 4], vec![])]);
}

mod rotation {
    use super::{super::Path, *};

    /// Sweeps and returns what is reported, with one path for descriptor 3 and another for all
    /// others.
    fn swept(host: &mut Host, third: (&str, bool), others: &str) -> Vec<(Change, u64, u64)> {
        let mut reports = Vec::new();
        host.pass(SECOND);
        let now = host.now();
        let mut path_of = |_, fd, _: &FdEntry| {
            let (path, deleted) = if fd == 3 { third } else { (others, false) };
            Some(Path {
                bytes: path.as_bytes().to_vec(),
                deleted,
            })
        };
        host.duplicates
            .sweep(&host.model, now, &mut path_of, &mut |rotation, _| {
                reports.push((rotation.change, rotation.old.number, rotation.new.number));
            });
        reports
    }

    #[test]
    fn reopened_path_is_a_rotation() {
        let mut host = Host::new();
        host.open_inode(1, 3, 100, 1, 7);
        assert_eq!(swept(&mut host, ("/x", false), "/x"), []);
        host.open_inode(1, 4, 101, 1, 8);
        // The old file has been renamed, but was opened by this path.
        let reports = swept(&mut host, ("/x.1", false), "/x");
        assert_eq!(reports, [(Change::Found, 7, 8)]);
        assert_eq!(swept(&mut host, ("/x.1", false), "/x"), []);
        host.close(1, 3);
        let reports = swept(&mut host, ("/x.1", false), "/x");
        assert_eq!(reports, [(Change::Gone, 7, 8)]);
    }

    #[test]
    fn readers_and_brief_writers_are_not_looked_up() {
        let mut host = Host::new();
        host.open_inode(1, 3, 100, 0, 7);
        host.open_inode(1, 4, 101, 1, 8);
        host.close(1, 4);
        let now = host.now();
        host.pass(SECOND);
        let mut path_of = |_, _, _: &FdEntry| panic!("path was looked up");
        host.duplicates
            .sweep(&host.model, now, &mut path_of, &mut |_, _| {
                panic!("reports")
            });
    }
}

#[test]
fn single_fd_on_deleted_file_is_reported() {
    let mut host = Host::new();
    host.open(1, 15, 100, 0);
    host.open(1, 16, 101, 0);
    assert_eq!(
        reports(&mut host),
        [(1, Change::Found, vec![15, 16], vec![])]
    );
    host.audit_deleted(1, &[(15, 100), (16, 101)]);
    let change = (1, Change::Changed, vec![15, 16], vec![]);
    assert_eq!(reports(&mut host), [change]);
    host.close(1, 16);
    let change = (1, Change::Changed, vec![15], vec![16]);
    assert_eq!(reports(&mut host), [change]);
    host.audit_deleted(1, &[(15, 100)]);
    assert_eq!(reports(&mut host), []);
    host.close(1, 15);
    assert_eq!(reports(&mut host), [(1, Change::Gone, vec![], vec![15])]);
    assert_eq!(reports(&mut host), []);
}

/// Opens `files` files twice each in the process.
fn open_files_twice(host: &mut Host, tgid: u32, files: u32) {
    for file in 0..files {
        let ino = 10_000 * u64::from(tgid) + u64::from(file);
        for fd in [2 * file, 2 * file + 1] {
            host.open_inode(
                tgid,
                fd,
                1_000_000 * u64::from(tgid) + u64::from(fd),
                2,
                ino,
            );
        }
    }
}

#[test]
fn files_beyond_limit_are_counted_and_follow_later() {
    let mut host = Host::new();
    open_files_twice(&mut host, 1, 300);
    assert_eq!(reports(&mut host).len(), 128);
    host.sweep();
    let folded = |files, tables| Folded { files, tables };
    assert_eq!(host.duplicates.folded(), folded(172, 1));
    // Room for others, and one of those that were not reported.
    for file in (0..10).chain([299]) {
        host.close(1, 2 * file);
    }
    let count = |reports: Vec<Report>, change| {
        let of_kind = reports.iter().filter(|report| report.1 == change);
        of_kind.count()
    };
    assert_eq!(count(reports(&mut host), Change::Gone), 10);
    host.sweep();
    assert_eq!(count(reports(&mut host), Change::Found), 10);
    assert_eq!(host.duplicates.folded(), folded(300 - 11 - 128, 1));
    host.exit(1);
    reports(&mut host);
    assert_eq!(host.duplicates.folded(), folded(0, 0));
}

#[test]
fn process_with_few_duplicates_is_reported_beside_many() {
    let mut host = Host::new();
    for tgid in 2..60 {
        open_files_twice(&mut host, tgid, 200);
    }
    open_files_twice(&mut host, 1, 1);
    host.pass(SECOND);
    // Process 1 is of another user than all others, and takes the second turn.
    let mut reported = Vec::new();
    let now = host.now();
    let mut left = 2;
    let is_more = host.duplicates.settle(
        &host.model,
        now,
        &mut |tgid| u32::from(tgid != 1),
        &mut || {
            left -= 1;
            left >= 0
        },
        &mut |duplicate, _| reported.push(duplicate.tgid),
    );
    assert!(is_more);
    assert!(reported.contains(&1), "{reported:?}");
    let rest = reports(&mut host);
    assert!(rest.len() > 4000 && rest.len() < 4500, "{}", rest.len());
    // Each process has at least some of its own.
    for tgid in 2..60 {
        assert!(rest.iter().any(|(of, ..)| *of == tgid), "{tgid}");
    }
}

#[test]
fn many_descriptors_of_one_file_are_listed_in_part() {
    let mut host = Host::new();
    for fd in 0..5000 {
        host.open(1, fd, 100, 0);
    }
    host.pass(SECOND);
    host.settle(&mut |duplicate| {
        assert_eq!((duplicate.fds.len(), duplicate.max_listed), (5000, 512));
    });
    for fd in 0..4999 {
        host.close(1, fd);
    }
    let gone = reports(&mut host);
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].2, [4999]);
}
