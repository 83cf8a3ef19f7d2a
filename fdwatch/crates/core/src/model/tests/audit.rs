//! What an audit finds and repairs, and what it leaves alone. Process 1 has table [`A`], and was
//! started at [`STARTED`].

use super::{
    super::*,
    A, B, CLOEXEC,
    told::{Told, header, payload},
};
use fdwatch_common::SnapshotFile;

/// When `Told::with` starts process 1.
const STARTED: u64 = 1;

impl Told {
    /// Holds what the kernel shows of process 1 against the model.
    pub(super) fn audit(&mut self, shown: &[(u32, u64)]) -> Outcome {
        self.audit_with(shown, |_| {})
    }

    /// The same, with something going on after the look and before its end.
    fn audit_with(&mut self, shown: &[(u32, u64)], meanwhile: impl FnOnce(&mut Self)) -> Outcome {
        self.model.begin_audit();
        self.task(1, 1, A, STARTED);
        for &(fd, file) in shown {
            self.found(1, 1, A, fd, file);
        }
        meanwhile(self);
        let mut gone = std::mem::take(&mut self.gone);
        let outcome = self.model.end_audit(&mut gone);
        self.gone = gone;
        outcome
    }

    fn drift(&self) -> Drift {
        let mut drift = self.model.statistics().drift;
        drift.audits = 0;
        drift
    }
}

#[test]
fn a_model_that_agrees_has_no_drift() {
    let mut told = Told::with(&[(0, 10), (40, 11)]);
    for _ in 0..3 {
        assert_eq!(told.audit(&[(0, 10), (40, 11)]), Outcome::default());
    }
    assert_eq!(told.drift(), Drift::default());
}

#[test]
fn what_two_looks_show_and_the_model_has_not_is_missing() {
    let mut told = Told::with(&[(0, 10)]);
    assert!(told.audit(&[(0, 10), (7, 17)]).is_open);
    assert_eq!(told.files(A), [(0, 10)]);
    assert!(!told.audit(&[(0, 10), (7, 17)]).is_open);
    assert_eq!(told.files(A), [(0, 10), (7, 17)]);
    assert_eq!(told.drift().missing, 1);
}

#[test]
fn what_two_looks_do_not_show_is_a_phantom_wherever_it_is() {
    let mut told = Told::with(&[(0, 10), (3, 13), (64, 16), (99, 19)]);
    told.audit(&[(3, 13), (64, 16)]);
    assert_eq!(told.files(A).len(), 4);
    told.audit(&[(3, 13), (64, 16)]);
    assert_eq!(told.files(A), [(3, 13), (64, 16)]);
    assert_eq!(told.drift().phantom, 2);
}

#[test]
fn what_two_looks_show_to_be_something_else_is_a_wrong_file() {
    let mut told = Told::with(&[(0, 10)]);
    told.audit(&[(0, 20)]);
    told.audit(&[(0, 20)]);
    assert_eq!(told.files(A), [(0, 20)]);
    assert_eq!(told.drift().wrong_file, 1);
}

#[test]
fn a_flag_that_two_looks_show_is_set() {
    let mut told = Told::with(&[(0, 10)]);
    for _ in 0..2 {
        told.audit_with(&[], |told| {
            told.apply(&Event::SnapshotFile(&SnapshotFile {
                header: header(1, 1, 0, CLOEXEC),
                table: A,
                payload: payload(10),
            }));
        });
    }
    assert!(told.closes_on_exec(A, 0));
    assert_eq!(told.drift().close_on_exec, 1);
}

#[test]
fn a_difference_that_an_event_explains_is_none() {
    let mut told = Told::with(&[(0, 10)]);
    // Looked at before the record of its birth was in the ring, and after that of a death.
    told.audit(&[(0, 10), (7, 17)]);
    told.birth(1, A, 7, 17, 0);
    assert!(!told.audit(&[(0, 10), (7, 17)]).is_open);
    assert_eq!(told.drift(), Drift::default());
}

#[test]
fn a_number_that_is_used_again_and_again_is_never_wrong() {
    let mut told = Told::with(&[]);
    for _ in 0..4 {
        // Each look shows what was closed just before its record was written.
        told.audit_with(&[(7, 17)], |told| {
            told.birth(1, A, 7, 17, 0).death(1, 1, A, 7, 17);
        });
        told.birth(1, A, 7, 17, 0).death(1, 1, A, 7, 17);
    }
    assert_eq!(told.drift(), Drift::default());
}

#[test]
fn a_difference_that_only_every_other_look_shows_is_none() {
    let mut told = Told::with(&[(0, 10)]);
    for _ in 0..3 {
        told.audit(&[(0, 10), (7, 17)]);
        told.audit(&[(0, 10)]);
    }
    assert_eq!(told.drift(), Drift::default());
}

#[test]
fn a_process_that_was_not_known_is_met_by_the_second_look() {
    let mut told = Told::with(&[]);
    for files in [vec![], vec![(0, 30), (1, 31)]] {
        told.audit_with(&[], |told| {
            told.task(5, 5, B, 77).found(5, 5, B, 0, 30);
            told.found(5, 5, B, 1, 31);
        });
        assert_eq!(told.files(B), files);
    }
    assert_eq!(told.holders(B), [(5, 5)]);
    assert_eq!(told.model.process(5).unwrap().start_time, 77);
    assert_eq!(told.drift().missing, 2);
}

#[test]
fn a_process_that_no_look_comes_to_is_asked_about_and_forgotten() {
    let mut told = Told::with(&[]);
    told.fork(5, 1, 0, B);
    told.birth(5, B, 0, 30, 0).birth(5, B, 1, 31, 0);
    assert!(told.audit(&[]).unvisited.is_empty());
    assert_eq!(told.audit(&[]).unvisited, [5]);
    told.model.forget(5, &mut ());
    assert!(told.model.process(5).is_none());
    assert_eq!(told.drift().phantom, 2);
}

#[test]
fn an_audit_that_is_broken_off_holds_nothing_against_what_it_did_not_come_to() {
    let mut told = Told::with(&[(0, 10), (1, 11)]);
    told.fork(5, 1, A, B);
    for _ in 0..3 {
        told.model.begin_audit();
        told.task(1, 1, A, STARTED).found(1, 1, A, 0, 10);
        told.model.break_off_audit();
    }
    assert_eq!(told.files(A), [(0, 10), (1, 11)]);
    assert_eq!(told.model.statistics().drift, Drift::default());
    // And the next is the first look at them.
    let outcome = told.audit(&[(0, 10)]);
    assert!(outcome.is_open && outcome.unvisited.is_empty());
    assert_eq!(told.files(A), [(0, 10), (1, 11)]);
}

#[test]
fn another_file_at_the_address_of_one_that_was_closed_is_wrong() {
    let mut told = Told::with(&[(0, 10)]);
    for _ in 0..2 {
        told.model.begin_audit();
        told.task(1, 1, A, STARTED);
        told.apply(&Event::SnapshotFile(&SnapshotFile {
            header: header(1, 1, 0, 0),
            table: A,
            payload: fdwatch_common::Payload {
                ino: 99,
                ..payload(10)
            },
        }));
        told.model.end_audit(&mut Vec::new());
    }
    assert_eq!(told.drift().wrong_file, 1);
    let ino = told.model.table(A).unwrap().get(0).unwrap().ino;
    assert_eq!(ino, 99);
}

#[test]
fn a_thread_whose_end_was_lost_leaves_its_table() {
    let mut told = Told::with(&[(0, 10)]);
    told.bits_by(2, 1, B, 0, 0, &[1]);
    assert_eq!(told.holders(B), [(1, 2)]);
    for _ in 0..2 {
        assert!(told.audit(&[(0, 10)]).unvisited.is_empty());
    }
    assert_eq!(told.model.tables().count(), 1);
    assert_eq!(told.drift().phantom, 1);
}

#[test]
fn a_thread_that_came_to_a_table_unseen_is_known_after_two_looks() {
    let mut told = Told::with(&[(0, 10)]);
    for _ in 0..2 {
        told.audit_with(&[(0, 10)], |told| {
            told.task(2, 1, B, STARTED).found(2, 1, B, 5, 15);
        });
    }
    assert_eq!(told.files(B), [(5, 15)]);
    assert_eq!(told.holders(B), [(1, 2)]);
    assert_eq!(told.model.table_of_thread(1, 2).unwrap().address(), B);
}
