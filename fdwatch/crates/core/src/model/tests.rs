//! What the model makes of records, one behaviour a test.

mod audit;
mod racing_fds;
mod told;

use proptest::prelude::*;

use self::told::{Told, header, payload};
use super::*;

/// Addresses of tables.
const A: u64 = 0xa000;
const B: u64 = 0xb000;
const C: u64 = 0xc000;

/// Flags of the headers in these tests, by the kind that has them first.
const CLOEXEC: u8 = FdOpen::CLOEXEC.bits();
const SHARED_TABLE: u8 = FdClose::SHARED_TABLE.bits();
const CLONED_THREAD: u8 = Fork::THREAD.bits();
const EVERY_THREAD: u8 = Exit::LAST_THREAD.bits();
const ONLY_HOLDER: u8 = Exit::LAST_HOLDER.bits();
const OTHER_THREADS: u8 = fdwatch_common::TableBits::MULTITHREADED.bits();

#[test]
fn what_is_made_is_there_until_it_is_closed() {
    let mut told = Told::with(&[(0, 10), (1, 11)]);
    assert_eq!(told.death(1, 1, A, 0, 10).files(A), [(1, 11)]);
}

#[test]
fn what_is_made_on_an_open_number_replaces_it() {
    let mut told = Told::with(&[(0, 10), (1, 11)]);
    assert_eq!(told.birth(1, A, 1, 10, 0).files(A), [(0, 10), (1, 10)]);
}

#[test]
fn a_description_that_is_told_again_takes_its_new_flag() {
    let mut told = Told::with(&[(0, 10)]);
    let before = told.model.table(A).unwrap().get(0).unwrap().born;
    told.birth(1, A, 0, 10, CLOEXEC);
    assert!(told.closes_on_exec(A, 0));
    let after = told.model.table(A).unwrap().get(0).unwrap().born;
    assert_eq!(after, before, "it is the same descriptor");
}

#[test]
fn a_late_birth_after_another_threads_close_is_dropped() {
    let mut told = Told::with(&[]);
    told.death(2, 1, A, 0, 10).birth_by(1, 1, A, 0, 10, 0);
    assert!(told.files(A).is_empty());
    assert_eq!(told.birth_by(1, 1, A, 0, 10, 0).files(A), [(0, 10)]);
}

#[test]
fn a_birth_after_the_same_threads_close_is_none_too_late() {
    let mut told = Told::with(&[]);
    told.death(1, 1, A, 0, 10).birth(1, A, 0, 10, 0);
    assert_eq!(told.files(A), [(0, 10)]);
    assert_eq!(told.model.statistics().unknown_closed, 1);
}

#[test]
fn the_flag_is_set_and_cleared() {
    let mut told = Told::with(&[(0, 10)]);
    assert!(told.set_cloexec(1, A, 0, CLOEXEC).closes_on_exec(A, 0));
    assert!(!told.set_cloexec(1, A, 0, 0).closes_on_exec(A, 0));
    told.set_cloexec(1, A, 5, CLOEXEC);
    assert_eq!(told.files(A), [(0, 10)]);
}

#[test]
fn a_forked_table_is_a_copy() {
    let mut told = Told::with(&[(0, 10), (1, 11)]);
    told.fork(2, 1, A, B).death(2, 2, B, 0, 10);
    assert_eq!(told.files(A), [(0, 10), (1, 11)]);
    assert_eq!(told.files(B), [(1, 11)]);
    let table = told.model.table_of(2).unwrap();
    let slot = table.get(1).unwrap();
    assert_eq!(table.provenance(slot), Provenance::Inherited);
}

#[test]
fn a_child_has_not_what_was_made_too_late_for_it() {
    let mut told = Told::with(&[(0, 10), (1, 11)]);
    told.fork_with((2, 2), 1, A, B, SHARED_TABLE);
    assert_eq!(told.bits(2, B, 0, 0, &[0b01]).files(B), [(0, 10)]);
    assert_eq!(told.files(A).len(), 2);
}

#[test]
fn a_shared_table_is_there_as_long_as_one_has_it() {
    let mut told = Told::with(&[(0, 10)]);
    told.fork(2, 1, A, A).birth(2, A, 1, 11, 0);
    assert_eq!(told.holders(A), [(1, 1), (2, 2)]);
    told.exit(1, 1, EVERY_THREAD);
    assert_eq!(told.files(A), [(0, 10), (1, 11)]);
    told.exit(2, 2, EVERY_THREAD);
    assert_eq!((told.model.tables().count(), told.gone), (0, vec![A]));
}

#[test]
fn a_thread_with_its_own_table_holds_it_until_it_ends() {
    let mut told = Told::with(&[(0, 10)]);
    told.fork_with((2, 1), 1, A, B, CLONED_THREAD);
    assert_eq!(
        (told.holders(A), told.holders(B)),
        (vec![(1, 1)], vec![(1, 2)])
    );
    told.exit(2, 1, 0);
    assert_eq!((told.files(A), told.gone), (vec![(0, 10)], vec![B]));
}

#[test]
fn the_end_of_a_process_ends_its_threads_tables() {
    let mut told = Told::with(&[(0, 10)]);
    told.fork_with((2, 1), 1, A, B, CLONED_THREAD);
    told.exit(1, 1, EVERY_THREAD);
    assert_eq!(told.gone, [A, B]);
    assert_eq!(told.model.processes().count(), 0);
}

#[test]
fn a_table_that_nothing_told_of_is_a_copy_of_the_threads_own() {
    let mut told = Told::with(&[(0, 10)]);
    told.birth_by(2, 1, B, 1, 11, 0);
    assert_eq!(told.files(A), [(0, 10)]);
    assert_eq!(told.files(B), [(0, 10), (1, 11)]);
    assert_eq!(told.holders(B), [(1, 2)]);
    assert_eq!(told.model.statistics().unknown_tables, 1);
}

#[test]
fn a_process_that_leaves_a_shared_table_holds_it_no_longer() {
    let mut told = Told::with(&[(0, 10)]);
    told.fork(2, 1, A, A).death(2, 2, B, 0, 10);
    assert_eq!(
        (told.holders(A), told.holders(B)),
        (vec![(1, 1)], vec![(2, 2)])
    );
    assert_eq!((told.files(A), told.files(B)), (vec![(0, 10)], vec![]));
}

#[test]
fn a_fork_from_a_table_that_nothing_told_of_has_what_is_in_it() {
    let mut told = Told::with(&[(0, 10)]);
    told.fork(2, 1, A, A).fork(3, 2, B, C);
    assert_eq!(
        (told.files(B), told.files(C)),
        (vec![(0, 10)], vec![(0, 10)])
    );
    assert_eq!(told.holders(B), [(2, 2)]);
}

#[test]
fn exec_keeps_what_the_kernel_kept() {
    let mut told = Told::with(&[(0, 10), (1, 11), (300, 12), (301, 13)]);
    told.bits(1, A, 256, 0, &[1 << (300 - 256)])
        .exec(1, 1, A, 0b10);
    assert_eq!(told.files(A), [(1, 11), (300, 12)]);
    let table = told.model.table_of(1).unwrap();
    let slot = table.get(1).unwrap();
    let inherited = false;
    assert_eq!(
        table.provenance(slot),
        Provenance::KeptOverExec { inherited }
    );
    assert_eq!(told.model.process(1).unwrap().name(), b"new");
}

#[test]
fn exec_ends_the_sharing() {
    let mut told = Told::with(&[(0, 10), (1, 11)]);
    told.fork(2, 1, A, A).exec(2, 2, B, 0b01);
    assert_eq!(
        (told.holders(A), told.holders(B)),
        (vec![(1, 1)], vec![(2, 2)])
    );
    assert_eq!((told.files(A).len(), told.files(B)), (2, vec![(0, 10)]));
}

#[test]
fn a_thread_that_execs_becomes_the_process() {
    let mut told = Told::with(&[(0, 10)]);
    told.fork_with((2, 1), 1, A, B, CLONED_THREAD);
    told.birth_by(2, 1, B, 1, 11, 0).exec(2, 1, B, 0b11);
    assert_eq!(
        (told.holders(B), told.gone.clone()),
        (vec![(1, 1)], vec![A])
    );
    assert_eq!(told.model.table_of(1).unwrap().address(), B);
}

#[test]
fn an_exec_table_where_the_leaders_was_is_not_the_leaders() {
    let mut told = Told::with(&[(0, 10)]);
    told.fork_with((2, 1), 1, A, B, CLONED_THREAD);
    told.fork_with((3, 3), 1, B, B, 0);
    told.birth_by(2, 1, B, 1, 11, 0).exec(2, 1, A, 0b11);
    assert_eq!(told.files(A), [(0, 10), (1, 11)]);
    assert_eq!(
        (told.holders(A), told.holders(B)),
        (vec![(1, 1)], vec![(3, 3)])
    );
}

#[test]
fn a_reused_process_id_is_another_process() {
    let mut told = Told::with(&[(0, 10)]);
    told.fork(2, 1, A, B);
    let before = told.model.process(2).unwrap().start_time;
    told.fork(2, 1, A, C);
    assert_eq!(told.gone, [B], "that it ended was not seen");
    assert!(told.model.process(2).unwrap().start_time > before);
    assert_eq!(told.model.table_of(2).unwrap().address(), C);
}

#[test]
fn a_reused_table_address_is_another_table() {
    let mut told = Told::with(&[(0, 10)]);
    told.fork(2, 1, A, B).birth(2, B, 1, 11, 0);
    let before = told.model.table(B).unwrap().id();
    told.exit(2, 2, EVERY_THREAD).fork(3, 1, A, B);
    assert_eq!(
        (told.files(B), told.holders(B)),
        (vec![(0, 10)], vec![(3, 3)])
    );
    assert_ne!(told.model.table(B).unwrap().id(), before);
}

#[test]
fn close_range_leaves_what_its_bits_show() {
    let mut told = Told::with(&[(0, 10), (3, 13), (4, 14)]);
    told.bits(1, A, 0, 0, &[0b1001])
        .bits(1, A, 0, CLOEXEC, &[0b1000]);
    assert_eq!(told.files(A), [(0, 10), (3, 13)]);
    assert_eq!(
        (told.closes_on_exec(A, 0), told.closes_on_exec(A, 3)),
        (false, true)
    );
}

#[test]
fn a_table_ends_where_its_bits_do() {
    let mut told = Told::with(&[(0, 10), (70, 11)]);
    told.fork(2, 1, A, A).bits(2, B, 0, 0, &[1]);
    assert_eq!((told.files(A).len(), told.files(B)), (2, vec![(0, 10)]));
}

#[test]
fn a_snapshot_adds_what_is_not_known() {
    let mut told = Told::default();
    told.begin().birth(1, A, 1, 11, 0).task(1, 1, A, 5);
    told.found(1, 1, A, 0, 10).found(1, 1, A, 1, 99);
    assert!(!told.end());
    assert_eq!(told.files(A), [(0, 10), (1, 11)]);
    assert_eq!(told.model.process(1).unwrap().start_time, 5);
    let table = told.model.table(A).unwrap();
    assert_eq!(table.provenance(table.get(0).unwrap()), Provenance::Unknown);
}

#[test]
fn a_snapshot_does_not_bring_back_what_was_closed() {
    let mut told = Told::default();
    told.begin().task(1, 1, A, 5).death(1, 1, A, 0, 10);
    told.found(1, 1, A, 0, 10)
        .exec(1, 1, A, 0)
        .found(1, 1, A, 1, 11);
    assert!(told.files(A).is_empty());
}

#[test]
fn a_close_of_what_the_snapshot_has_not_come_to_makes_no_birth_late() {
    let mut told = Told::default();
    told.begin().death(2, 1, A, 0, 10).birth(1, A, 0, 10, 0);
    assert_eq!(told.files(A), [(0, 10)]);
}

#[test]
fn a_snapshot_does_not_undo_a_flag_that_was_set() {
    let mut told = Told::default();
    told.begin().task(1, 1, A, 5).set_cloexec(1, A, 0, CLOEXEC);
    assert!(told.found(1, 1, A, 0, 10).closes_on_exec(A, 0));
}

#[test]
fn a_snapshot_does_not_bring_back_who_has_ended() {
    let mut told = Told::default();
    told.begin()
        .exit(1, 1, EVERY_THREAD)
        .task(1, 1, A, 5)
        .found(1, 1, A, 0, 10);
    told.task(2, 2, B, 6)
        .exit(2, 2, EVERY_THREAD)
        .found(2, 2, B, 0, 10);
    told.task(3, 3, 0, 7).found(3, 3, 0, 0, 10);
    assert_eq!(
        (told.model.tables().count(), told.model.processes().count()),
        (0, 0)
    );
}

#[test]
fn an_old_look_at_a_reused_process_id_is_passed_over() {
    let mut told = Told::with(&[(0, 10)]);
    told.begin().fork(2, 1, A, B);
    let start_time = told.model.process(2).unwrap().start_time;
    told.task(2, 2, C, start_time - 1).found(2, 2, C, 5, 15);
    assert_eq!((told.files(B), told.files(C)), (vec![(0, 10)], vec![]));
}

#[test]
fn a_fork_while_the_first_snapshot_is_taken_asks_for_another() {
    let mut told = Told::default();
    told.begin().task(5, 5, A, 1).fork(2, 5, A, B);
    assert!(told.end());
    told.begin().fork(3, 5, A, C);
    assert!(!told.end(), "its parent was complete");
}

#[test]
fn a_fork_from_who_was_made_meanwhile_asks_for_one_more() {
    let mut told = Told::default();
    told.begin().task(5, 5, A, 1).fork(2, 5, A, B);
    assert!(told.end());
    told.begin().fork(3, 2, B, C);
    assert!(told.end());
    assert!(!told.begin().end());
}

#[test]
fn a_threads_table_is_its_own_whoever_the_snapshot_comes_to_first() {
    let mut told = Told::default();
    told.begin().birth_by(2, 9, B, 1, 11, 0);
    told.task(2, 9, B, 5).found(2, 9, B, 0, 10);
    told.task(9, 9, A, 5).found(9, 9, A, 0, 20);
    assert_eq!(
        (told.holders(A), told.holders(B)),
        (vec![(9, 9)], vec![(9, 2)])
    );
    assert_eq!(
        (told.files(A), told.files(B)),
        (vec![(0, 20)], vec![(0, 10), (1, 11)])
    );
    told.exit(9, 9, EVERY_THREAD);
    assert_eq!(told.model.tables().count(), 0);
}

/// On which of the tables there are, and what.
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
    fn copies_of_tables_are_as_copies_of_maps(changes in prop::collection::vec(change(), 0..200)) {
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
                    let slot = FdEntry::new(&header(1, 1, fd, 0), &payload(ino), Moment(1), false, AnonymousDevices::default());
                    prop_assert_eq!(tables[i].insert(fd, slot), maps[i].insert(fd, slot));
                }
                Change::Remove(i, fd) => {
                    let i = i % tables.len();
                    prop_assert_eq!(tables[i].remove(fd), maps[i].remove(&fd));
                }
                Change::Mark(i, fd, on) => {
                    let i = i % tables.len();
                    tables[i].set_closes_on_exec(fd, on);
                    if let Some(slot) = maps[i].get_mut(&fd) {
                        slot.set_closes_on_exec(on);
                    }
                }
            }
        }
        for (table, map) in tables.iter_mut().zip(&maps) {
            prop_assert!(table.iter().eq(map.iter().map(|(&fd, slot)| (fd, slot))));
            prop_assert_eq!(table.len(), map.len());
            for (&fd, slot) in map {
                let others = map.iter().filter(|&(_, other)| other.identity() == slot.identity());
                prop_assert_eq!(table.has_other(fd, slot.identity()), others.count() > 1);
            }
        }
    }
}

#[test]
fn threads_keep_the_table_that_their_leader_leaves() {
    let mut told = Told::with(&[(0, 10)]);
    told.bits(1, B, 0, OTHER_THREADS, &[1]);
    told.birth_by(1, 1, B, 1, 11, 0).birth_by(5, 1, A, 2, 12, 0);
    assert_eq!(told.files(A), [(0, 10), (2, 12)]);
    assert_eq!(told.files(B), [(0, 10), (1, 11)]);
    let of_thread = |told: &Told, tid| told.model.table_of_thread(1, tid).unwrap().address();
    assert_eq!((of_thread(&told, 1), of_thread(&told, 5)), (B, A));
    // One of them comes to a table of its own, and the last ends.
    told.bits_by(5, 1, C, 0, OTHER_THREADS, &[0b101]);
    assert_eq!(told.files(C), [(0, 10), (2, 12)]);
    told.exit(6, 1, ONLY_HOLDER);
    assert_eq!(told.gone, [A]);
    told.exit(1, 1, EVERY_THREAD);
    assert_eq!(told.model.tables().count(), 0);
}

#[test]
fn a_leader_may_end_before_its_threads() {
    let mut told = Told::with(&[(0, 10)]);
    told.bits_by(5, 1, B, 0, OTHER_THREADS, &[1]);
    told.exit(1, 1, ONLY_HOLDER);
    assert_eq!(told.gone, [A]);
    assert_eq!(told.files(B), [(0, 10)]);
    told.exit(5, 1, EVERY_THREAD);
    assert_eq!(told.model.tables().count(), 0);
}

#[test]
fn a_table_at_the_address_of_one_that_ended_unseen_is_new() {
    let mut told = Told::with(&[(0, 10)]);
    told.fork(2, 1, A, B).birth(2, B, 1, 11, 0);
    // Process 2's table has ended before its last thread, and process 1 shared its own.
    told.bits(1, B, 0, 0, &[1]);
    assert_eq!(told.files(B), [(0, 10)]);
    assert_eq!(told.holders(B), [(1, 1)]);
    told.exit(2, 2, EVERY_THREAD);
    assert_eq!(told.files(B), [(0, 10)]);
}

#[test]
fn what_is_kept_over_exec_does_not_close_on_exec() {
    let mut told = Told::with(&[(0, 10), (1, 11)]);
    told.set_cloexec(1, A, 0, CLOEXEC).exec(1, 1, A, 0b01);
    assert_eq!(told.files(A), [(0, 10)]);
    assert!(!told.closes_on_exec(A, 0));
}

#[test]
fn beyond_what_is_told_of_exec_the_flags_tell() {
    let far = TOLD_OF_EXEC + 100;
    let mut told = Told::with(&[(far, 10), (far + 1, 11)]);
    told.set_cloexec(1, A, far, CLOEXEC).exec(1, 1, A, 0);
    assert_eq!(told.files(A), [(far + 1, 11)]);
}
