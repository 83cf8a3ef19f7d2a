//! How records change the model, one behaviour per test.

mod audit;
mod racing_fds;
mod scenario;

use fdwatch_common::{Exit, FdClose, FdOpen, Fork, TableBits};
use proptest::prelude::*;

use self::scenario::{Scenario, header, payload};
use super::{events::EXEC_BITMAP_FDS, *};

/// Addresses of tables.
const A: u64 = 0xa000;
const B: u64 = 0xb000;
const C: u64 = 0xc000;

/// Flags of the records in these tests, by the kind that has them first.
const CLOEXEC: u8 = FdOpen::CLOEXEC.bits();
const SHARED_TABLE: u8 = FdClose::SHARED_TABLE.bits();
const CLONED_THREAD: u8 = Fork::THREAD.bits();
const EVERY_THREAD: u8 = Exit::LAST_THREAD.bits();
const ONLY_HOLDER: u8 = Exit::LAST_HOLDER.bits();
const OTHER_THREADS: u8 = TableBits::MULTITHREADED.bits();

#[test]
fn open_and_close_change_table() {
    let mut scenario = Scenario::with(&[(0, 10), (1, 11)]);
    assert_eq!(scenario.close(1, 1, A, 0, 10).files(A), [(1, 11)]);
}

#[test]
fn open_on_open_number_replaces_it() {
    let mut scenario = Scenario::with(&[(0, 10), (1, 11)]);
    assert_eq!(scenario.open(1, A, 1, 10, 0).files(A), [(0, 10), (1, 10)]);
}

#[test]
fn same_description_again_updates_flag() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    let before = scenario.model.table(A).unwrap().get(0).unwrap().opened;
    scenario.open(1, A, 0, 10, CLOEXEC);
    assert!(scenario.closes_on_exec(A, 0));
    let after = scenario.model.table(A).unwrap().get(0).unwrap().opened;
    assert_eq!(after, before, "entry changed");
}

#[test]
fn late_open_after_other_threads_close_is_dropped() {
    let mut scenario = Scenario::with(&[]);
    scenario.close(2, 1, A, 0, 10).open_by(1, 1, A, 0, 10, 0);
    assert!(scenario.files(A).is_empty());
    assert_eq!(scenario.open_by(1, 1, A, 0, 10, 0).files(A), [(0, 10)]);
}

#[test]
fn open_after_own_close_is_kept() {
    let mut scenario = Scenario::with(&[]);
    scenario.close(1, 1, A, 0, 10).open(1, A, 0, 10, 0);
    assert_eq!(scenario.files(A), [(0, 10)]);
    assert_eq!(scenario.model.statistics().unknown_closed, 1);
}

#[test]
fn cloexec_is_set_and_cleared() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    assert!(scenario.set_cloexec(1, A, 0, CLOEXEC).closes_on_exec(A, 0));
    assert!(!scenario.set_cloexec(1, A, 0, 0).closes_on_exec(A, 0));
    scenario.set_cloexec(1, A, 5, CLOEXEC);
    assert_eq!(scenario.files(A), [(0, 10)]);
}

#[test]
fn fork_copies_table() {
    let mut scenario = Scenario::with(&[(0, 10), (1, 11)]);
    scenario.fork(2, 1, A, B).close(2, 2, B, 0, 10);
    assert_eq!(scenario.files(A), [(0, 10), (1, 11)]);
    assert_eq!(scenario.files(B), [(1, 11)]);
    let table = scenario.model.table_of(2).unwrap();
    let entry = table.get(1).unwrap();
    assert_eq!(table.provenance(entry), Provenance::Inherited);
}

#[test]
fn child_lacks_fds_opened_after_copy() {
    let mut scenario = Scenario::with(&[(0, 10), (1, 11)]);
    scenario.fork_with((2, 2), 1, A, B, SHARED_TABLE);
    assert_eq!(scenario.bits(2, B, 0, 0, &[0b01]).files(B), [(0, 10)]);
    assert_eq!(scenario.files(A).len(), 2);
}

#[test]
fn shared_table_lives_until_last_exit() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.fork(2, 1, A, A).open(2, A, 1, 11, 0);
    assert_eq!(scenario.holders(A), [(1, 1), (2, 2)]);
    scenario.exit(1, 1, EVERY_THREAD);
    assert_eq!(scenario.files(A), [(0, 10), (1, 11)]);
    scenario.exit(2, 2, EVERY_THREAD);
    assert_eq!(
        (scenario.model.tables().count(), scenario.dropped),
        (0, vec![A])
    );
}

#[test]
fn thread_holds_own_table_until_exit() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.fork_with((2, 1), 1, A, B, CLONED_THREAD);
    assert_eq!(
        (scenario.holders(A), scenario.holders(B)),
        (vec![(1, 1)], vec![(1, 2)])
    );
    scenario.exit(2, 1, 0);
    assert_eq!(
        (scenario.files(A), scenario.dropped),
        (vec![(0, 10)], vec![B])
    );
}

#[test]
fn process_exit_drops_thread_tables() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.fork_with((2, 1), 1, A, B, CLONED_THREAD);
    scenario.exit(1, 1, EVERY_THREAD);
    assert_eq!(scenario.dropped, [A, B]);
    assert_eq!(scenario.model.processes().count(), 0);
}

#[test]
fn unknown_table_is_copy_of_threads_table() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.open_by(2, 1, B, 1, 11, 0);
    assert_eq!(scenario.files(A), [(0, 10)]);
    assert_eq!(scenario.files(B), [(0, 10), (1, 11)]);
    assert_eq!(scenario.holders(B), [(1, 2)]);
    assert_eq!(scenario.model.statistics().unknown_tables, 1);
}

#[test]
fn process_that_unshares_releases_table() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.fork(2, 1, A, A).close(2, 2, B, 0, 10);
    assert_eq!(
        (scenario.holders(A), scenario.holders(B)),
        (vec![(1, 1)], vec![(2, 2)])
    );
    assert_eq!(
        (scenario.files(A), scenario.files(B)),
        (vec![(0, 10)], vec![])
    );
}

#[test]
fn fork_from_unknown_table_copies_its_fds() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.fork(2, 1, A, A).fork(3, 2, B, C);
    assert_eq!(
        (scenario.files(B), scenario.files(C)),
        (vec![(0, 10)], vec![(0, 10)])
    );
    assert_eq!(scenario.holders(B), [(2, 2)]);
}

#[test]
fn exec_keeps_fds_of_bitmap() {
    let mut scenario = Scenario::with(&[(0, 10), (1, 11), (300, 12), (301, 13)]);
    scenario
        .bits(1, A, 256, 0, &[1 << (300 - 256)])
        .exec(1, 1, A, 0b10);
    assert_eq!(scenario.files(A), [(1, 11), (300, 12)]);
    let table = scenario.model.table_of(1).unwrap();
    let entry = table.get(1).unwrap();
    let inherited = false;
    assert_eq!(
        table.provenance(entry),
        Provenance::KeptAcrossExec { inherited }
    );
    assert_eq!(scenario.model.process(1).unwrap().name(), b"new");
}

#[test]
fn exec_ends_sharing() {
    let mut scenario = Scenario::with(&[(0, 10), (1, 11)]);
    scenario.fork(2, 1, A, A).exec(2, 2, B, 0b01);
    assert_eq!(
        (scenario.holders(A), scenario.holders(B)),
        (vec![(1, 1)], vec![(2, 2)])
    );
    assert_eq!(
        (scenario.files(A).len(), scenario.files(B)),
        (2, vec![(0, 10)])
    );
}

#[test]
fn execing_thread_becomes_process() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.fork_with((2, 1), 1, A, B, CLONED_THREAD);
    scenario.open_by(2, 1, B, 1, 11, 0).exec(2, 1, B, 0b11);
    assert_eq!(
        (scenario.holders(B), scenario.dropped.clone()),
        (vec![(1, 1)], vec![A])
    );
    assert_eq!(scenario.model.table_of(1).unwrap().address(), B);
}

#[test]
fn exec_table_at_leaders_address_is_new() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.fork_with((2, 1), 1, A, B, CLONED_THREAD);
    scenario.fork_with((3, 3), 1, B, B, 0);
    scenario.open_by(2, 1, B, 1, 11, 0).exec(2, 1, A, 0b11);
    assert_eq!(scenario.files(A), [(0, 10), (1, 11)]);
    assert_eq!(
        (scenario.holders(A), scenario.holders(B)),
        (vec![(1, 1)], vec![(3, 3)])
    );
}

#[test]
fn reused_pid_is_another_process() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.fork(2, 1, A, B);
    let before = scenario.model.process(2).unwrap().start_time;
    scenario.fork(2, 1, A, C);
    assert_eq!(scenario.dropped, [B], "old table was not dropped");
    assert!(scenario.model.process(2).unwrap().start_time > before);
    assert_eq!(scenario.model.table_of(2).unwrap().address(), C);
}

#[test]
fn reused_table_address_is_another_table() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.fork(2, 1, A, B).open(2, B, 1, 11, 0);
    let before = scenario.model.table(B).unwrap().id();
    scenario.exit(2, 2, EVERY_THREAD).fork(3, 1, A, B);
    assert_eq!(
        (scenario.files(B), scenario.holders(B)),
        (vec![(0, 10)], vec![(3, 3)])
    );
    assert_ne!(scenario.model.table(B).unwrap().id(), before);
}

#[test]
fn close_range_keeps_fds_of_bitmap() {
    let mut scenario = Scenario::with(&[(0, 10), (3, 13), (4, 14)]);
    scenario
        .bits(1, A, 0, 0, &[0b1001])
        .bits(1, A, 0, CLOEXEC, &[0b1000]);
    assert_eq!(scenario.files(A), [(0, 10), (3, 13)]);
    assert_eq!(
        (scenario.closes_on_exec(A, 0), scenario.closes_on_exec(A, 3)),
        (false, true)
    );
}

#[test]
fn bitmap_capacity_closes_higher_fds() {
    let mut scenario = Scenario::with(&[(0, 10), (70, 11)]);
    scenario.fork(2, 1, A, A).bits(2, B, 0, 0, &[1]);
    assert_eq!(
        (scenario.files(A).len(), scenario.files(B)),
        (2, vec![(0, 10)])
    );
}

#[test]
fn snapshot_adds_unknown_fds() {
    let mut scenario = Scenario::default();
    scenario.begin().open(1, A, 1, 11, 0).task(1, 1, A, 5);
    scenario.found(1, 1, A, 0, 10).found(1, 1, A, 1, 99);
    assert!(!scenario.end());
    assert_eq!(scenario.files(A), [(0, 10), (1, 11)]);
    assert_eq!(scenario.model.process(1).unwrap().start_time, 5);
    let table = scenario.model.table(A).unwrap();
    assert_eq!(table.provenance(table.get(0).unwrap()), Provenance::Unknown);
}

#[test]
fn snapshot_does_not_restore_closed_fds() {
    let mut scenario = Scenario::default();
    scenario.begin().task(1, 1, A, 5).close(1, 1, A, 0, 10);
    scenario
        .found(1, 1, A, 0, 10)
        .exec(1, 1, A, 0)
        .found(1, 1, A, 1, 11);
    assert!(scenario.files(A).is_empty());
}

#[test]
fn close_before_snapshot_keeps_later_open() {
    let mut scenario = Scenario::default();
    scenario.begin().close(2, 1, A, 0, 10).open(1, A, 0, 10, 0);
    assert_eq!(scenario.files(A), [(0, 10)]);
}

#[test]
fn snapshot_keeps_flag_set_by_event() {
    let mut scenario = Scenario::default();
    scenario
        .begin()
        .task(1, 1, A, 5)
        .set_cloexec(1, A, 0, CLOEXEC);
    assert!(scenario.found(1, 1, A, 0, 10).closes_on_exec(A, 0));
}

#[test]
fn snapshot_does_not_restore_ended_tasks() {
    let mut scenario = Scenario::default();
    scenario
        .begin()
        .exit(1, 1, EVERY_THREAD)
        .task(1, 1, A, 5)
        .found(1, 1, A, 0, 10);
    scenario
        .task(2, 2, B, 6)
        .exit(2, 2, EVERY_THREAD)
        .found(2, 2, B, 0, 10);
    scenario.task(3, 3, 0, 7).found(3, 3, 0, 0, 10);
    assert_eq!(
        (
            scenario.model.tables().count(),
            scenario.model.processes().count()
        ),
        (0, 0)
    );
}

#[test]
fn stale_snapshot_of_reused_pid_is_ignored() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.begin().fork(2, 1, A, B);
    let start_time = scenario.model.process(2).unwrap().start_time;
    scenario.task(2, 2, C, start_time - 1).found(2, 2, C, 5, 15);
    assert_eq!(
        (scenario.files(B), scenario.files(C)),
        (vec![(0, 10)], vec![])
    );
}

#[test]
fn fork_during_first_snapshot_needs_another() {
    let mut scenario = Scenario::default();
    scenario.begin().task(5, 5, A, 1).fork(2, 5, A, B);
    assert!(scenario.end());
    scenario.begin().fork(3, 5, A, C);
    assert!(!scenario.end(), "parent was incomplete");
}

#[test]
fn fork_from_incomplete_copy_needs_another() {
    let mut scenario = Scenario::default();
    scenario.begin().task(5, 5, A, 1).fork(2, 5, A, B);
    assert!(scenario.end());
    scenario.begin().fork(3, 2, B, C);
    assert!(scenario.end());
    assert!(!scenario.begin().end());
}

#[test]
fn snapshot_order_of_threads_does_not_matter() {
    let mut scenario = Scenario::default();
    scenario.begin().open_by(2, 9, B, 1, 11, 0);
    scenario.task(2, 9, B, 5).found(2, 9, B, 0, 10);
    scenario.task(9, 9, A, 5).found(9, 9, A, 0, 20);
    assert_eq!(
        (scenario.holders(A), scenario.holders(B)),
        (vec![(9, 9)], vec![(9, 2)])
    );
    assert_eq!(
        (scenario.files(A), scenario.files(B)),
        (vec![(0, 20)], vec![(0, 10), (1, 11)])
    );
    scenario.exit(9, 9, EVERY_THREAD);
    assert_eq!(scenario.model.tables().count(), 0);
}

/// A change of one of the tables, by index.
#[derive(Clone, Debug)]
enum Change {
    Fork(usize),
    Insert(usize, u32, u64),
    Remove(usize, u32),
    Mark(usize, u32, bool),
}

fn change() -> impl Strategy<Value = Change> {
    let fd = || prop_oneof![0..8u32, 0..200u32];
    let table = || 0..16usize;
    prop_oneof![
        1 => table().prop_map(Change::Fork),
        4 => (table(), fd(), 1..9u64).prop_map(|(table, fd, ino)| Change::Insert(table, fd, ino)),
        3 => (table(), fd()).prop_map(|(table, fd)| Change::Remove(table, fd)),
        1 => (table(), fd(), any::<bool>()).prop_map(|(table, fd, on)| Change::Mark(table, fd, on)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn table_copies_match_map_copies(changes in prop::collection::vec(change(), 0..200)) {
        let holder = Holder { tgid: 1, tid: 1 };
        let mut tables = vec![Table::new(TableId(1), 1, holder)];
        let mut maps = vec![std::collections::BTreeMap::<u32, FdEntry>::new()];
        for change in changes {
            match change {
                Change::Fork(i) => {
                    let i = i % tables.len();
                    tables.push(tables[i].fork(TableId(2), 2, holder, Moment(1)));
                    maps.push(maps[i].clone());
                }
                Change::Insert(i, fd, ino) => {
                    let i = i % tables.len();
                    let entry = FdEntry::new(&header(1, 1, fd, 0), &payload(ino), Moment(1), false, AnonymousDevices::default());
                    prop_assert_eq!(tables[i].insert(fd, entry), maps[i].insert(fd, entry));
                }
                Change::Remove(i, fd) => {
                    let i = i % tables.len();
                    prop_assert_eq!(tables[i].remove(fd), maps[i].remove(&fd));
                }
                Change::Mark(i, fd, on) => {
                    let i = i % tables.len();
                    tables[i].set_closes_on_exec(fd, on);
                    if let Some(entry) = maps[i].get_mut(&fd) {
                        entry.set_closes_on_exec(on);
                    }
                }
            }
        }
        for (table, map) in tables.iter_mut().zip(&maps) {
            prop_assert!(table.iter().eq(map.iter().map(|(&fd, entry)| (fd, entry))));
            prop_assert_eq!(table.len(), map.len());
            for (&fd, entry) in map {
                let others = map.iter().filter(|&(_, other)| other.identity() == entry.identity());
                prop_assert_eq!(table.has_other(fd, entry.identity()), others.count() > 1);
            }
        }
    }
}

#[test]
fn threads_keep_table_that_leader_leaves() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.bits(1, B, 0, OTHER_THREADS, &[1]);
    scenario
        .open_by(1, 1, B, 1, 11, 0)
        .open_by(5, 1, A, 2, 12, 0);
    assert_eq!(scenario.files(A), [(0, 10), (2, 12)]);
    assert_eq!(scenario.files(B), [(0, 10), (1, 11)]);
    let of_thread =
        |scenario: &Scenario, tid| scenario.model.table_of_thread(1, tid).unwrap().address();
    assert_eq!((of_thread(&scenario, 1), of_thread(&scenario, 5)), (B, A));
    // One of them gets its own table, and the last one ends.
    scenario.bits_by(5, 1, C, 0, OTHER_THREADS, &[0b101]);
    assert_eq!(scenario.files(C), [(0, 10), (2, 12)]);
    scenario.exit(6, 1, ONLY_HOLDER);
    assert_eq!(scenario.dropped, [A]);
    scenario.exit(1, 1, EVERY_THREAD);
    assert_eq!(scenario.model.tables().count(), 0);
}

#[test]
fn leader_may_exit_before_threads() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.bits_by(5, 1, B, 0, OTHER_THREADS, &[1]);
    scenario.exit(1, 1, ONLY_HOLDER);
    assert_eq!(scenario.dropped, [A]);
    assert_eq!(scenario.files(B), [(0, 10)]);
    scenario.exit(5, 1, EVERY_THREAD);
    assert_eq!(scenario.model.tables().count(), 0);
}

#[test]
fn table_at_address_of_lost_table_is_new() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.fork(2, 1, A, B).open(2, B, 1, 11, 0);
    // Process 2's table has ended before its last thread, and process 1 stopped sharing its own.
    scenario.bits(1, B, 0, 0, &[1]);
    assert_eq!(scenario.files(B), [(0, 10)]);
    assert_eq!(scenario.holders(B), [(1, 1)]);
    scenario.exit(2, 2, EVERY_THREAD);
    assert_eq!(scenario.files(B), [(0, 10)]);
}

#[test]
fn exec_clears_cloexec_of_kept_fds() {
    let mut scenario = Scenario::with(&[(0, 10), (1, 11)]);
    scenario.set_cloexec(1, A, 0, CLOEXEC).exec(1, 1, A, 0b01);
    assert_eq!(scenario.files(A), [(0, 10)]);
    assert!(!scenario.closes_on_exec(A, 0));
}

#[test]
fn exec_uses_flags_above_bitmap() {
    let far = EXEC_BITMAP_FDS + 100;
    let mut scenario = Scenario::with(&[(far, 10), (far + 1, 11)]);
    scenario.set_cloexec(1, A, far, CLOEXEC).exec(1, 1, A, 0);
    assert_eq!(scenario.files(A), [(far + 1, 11)]);
}
