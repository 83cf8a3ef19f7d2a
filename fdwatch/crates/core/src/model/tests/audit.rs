//! Differences that an audit repairs or ignores. Process 1 has table [`A`] and was started at
//! [`STARTED`].

use fdwatch_common::{Event, SnapshotFile};

use super::{
    super::*,
    A, B, CLOEXEC,
    scenario::{Scenario, header, payload},
};

/// When `Scenario::with` starts process 1.
const STARTED: u64 = 1;

impl Scenario {
    /// Audits process 1, for which the kernel shows these descriptors and files.
    pub(super) fn audit(&mut self, shown: &[(u32, u64)]) -> Outcome {
        self.audit_with(shown, |_| {})
    }

    /// Like [`Self::audit`], with events before the end of the pass.
    fn audit_with(&mut self, shown: &[(u32, u64)], meanwhile: impl FnOnce(&mut Self)) -> Outcome {
        self.model.begin_audit();
        self.task(1, 1, A, STARTED);
        for &(fd, file) in shown {
            self.found(1, 1, A, fd, file);
        }
        meanwhile(self);
        let mut dropped = std::mem::take(&mut self.dropped);
        let outcome = self.model.end_audit(&mut dropped);
        self.dropped = dropped;
        outcome
    }

    fn drift(&self) -> Drift {
        let mut drift = self.model.statistics().drift;
        drift.audits = 0;
        drift
    }
}

#[test]
fn matching_model_has_no_drift() {
    let mut scenario = Scenario::with(&[(0, 10), (40, 11)]);
    for _ in 0..3 {
        assert_eq!(scenario.audit(&[(0, 10), (40, 11)]), Outcome::default());
    }
    assert_eq!(scenario.drift(), Drift::default());
}

#[test]
fn unknown_fd_in_two_passes_is_missing() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    assert!(scenario.audit(&[(0, 10), (7, 17)]).is_open);
    assert_eq!(scenario.files(A), [(0, 10)]);
    assert!(!scenario.audit(&[(0, 10), (7, 17)]).is_open);
    assert_eq!(scenario.files(A), [(0, 10), (7, 17)]);
    assert_eq!(scenario.drift().missing, 1);
}

#[test]
fn fd_absent_in_two_passes_is_phantom() {
    let mut scenario = Scenario::with(&[(0, 10), (3, 13), (64, 16), (99, 19)]);
    scenario.audit(&[(3, 13), (64, 16)]);
    assert_eq!(scenario.files(A).len(), 4);
    scenario.audit(&[(3, 13), (64, 16)]);
    assert_eq!(scenario.files(A), [(3, 13), (64, 16)]);
    assert_eq!(scenario.drift().phantom, 2);
}

#[test]
fn other_file_in_two_passes_is_wrong_file() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.audit(&[(0, 20)]);
    scenario.audit(&[(0, 20)]);
    assert_eq!(scenario.files(A), [(0, 20)]);
    assert_eq!(scenario.drift().wrong_file, 1);
}

#[test]
fn flag_in_two_passes_is_set() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    for _ in 0..2 {
        scenario.audit_with(&[], |scenario| {
            scenario.apply(&Event::SnapshotFile(&SnapshotFile {
                header: header(1, 1, 0, CLOEXEC),
                table: A,
                payload: payload(10),
            }));
        });
    }
    assert!(scenario.closes_on_exec(A, 0));
    assert_eq!(scenario.drift().close_on_exec, 1);
}

#[test]
fn event_cancels_difference() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    // Read before the record of its open was in the ring.
    scenario.audit(&[(0, 10), (7, 17)]);
    scenario.open(1, A, 7, 17, 0);
    assert!(!scenario.audit(&[(0, 10), (7, 17)]).is_open);
    assert_eq!(scenario.drift(), Drift::default());
}

#[test]
fn busy_number_causes_no_drift() {
    let mut scenario = Scenario::with(&[]);
    for _ in 0..4 {
        // Each pass shows a descriptor that was closed just before its record was written.
        scenario.audit_with(&[(7, 17)], |scenario| {
            scenario.open(1, A, 7, 17, 0).close(1, 1, A, 7, 17);
        });
        scenario.open(1, A, 7, 17, 0).close(1, 1, A, 7, 17);
    }
    assert_eq!(scenario.drift(), Drift::default());
}

#[test]
fn alternating_difference_is_ignored() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    for _ in 0..3 {
        scenario.audit(&[(0, 10), (7, 17)]);
        scenario.audit(&[(0, 10)]);
    }
    assert_eq!(scenario.drift(), Drift::default());
}

#[test]
fn unknown_process_is_added_by_second_pass() {
    let mut scenario = Scenario::with(&[]);
    for files in [vec![], vec![(0, 30), (1, 31)]] {
        scenario.audit_with(&[], |scenario| {
            scenario.task(5, 5, B, 77).found(5, 5, B, 0, 30);
            scenario.found(5, 5, B, 1, 31);
        });
        assert_eq!(scenario.files(B), files);
    }
    assert_eq!(scenario.holders(B), [(5, 5)]);
    assert_eq!(scenario.model.process(5).unwrap().start_time, 77);
    assert_eq!(scenario.drift().missing, 2);
}

#[test]
fn unvisited_process_is_returned_and_forgotten() {
    let mut scenario = Scenario::with(&[]);
    scenario.fork(5, 1, 0, B);
    scenario.open(5, B, 0, 30, 0).open(5, B, 1, 31, 0);
    assert!(scenario.audit(&[]).unvisited.is_empty());
    assert_eq!(scenario.audit(&[]).unvisited, [5]);
    scenario.model.forget(5, &mut ());
    assert!(scenario.model.process(5).is_none());
    assert_eq!(scenario.drift().phantom, 2);
}

#[test]
fn abandoned_audit_reports_nothing_missing() {
    let mut scenario = Scenario::with(&[(0, 10), (1, 11)]);
    scenario.fork(5, 1, A, B);
    for _ in 0..3 {
        scenario.model.begin_audit();
        scenario.task(1, 1, A, STARTED).found(1, 1, A, 0, 10);
        scenario.model.abandon_audit();
    }
    assert_eq!(scenario.files(A), [(0, 10), (1, 11)]);
    assert_eq!(scenario.model.statistics().drift, Drift::default());
    // The next pass is the first one that covers them.
    let outcome = scenario.audit(&[(0, 10)]);
    assert!(outcome.is_open && outcome.unvisited.is_empty());
    assert_eq!(scenario.files(A), [(0, 10), (1, 11)]);
}

#[test]
fn other_inode_at_same_description_is_wrong_file() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    for _ in 0..2 {
        scenario.model.begin_audit();
        scenario.task(1, 1, A, STARTED);
        scenario.apply(&Event::SnapshotFile(&SnapshotFile {
            header: header(1, 1, 0, 0),
            table: A,
            payload: fdwatch_common::Payload {
                ino: 99,
                ..payload(10)
            },
        }));
        scenario.model.end_audit(&mut Vec::new());
    }
    assert_eq!(scenario.drift().wrong_file, 1);
    let ino = scenario.model.table(A).unwrap().get(0).unwrap().ino;
    assert_eq!(ino, 99);
}

#[test]
fn lost_thread_exit_releases_table() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    scenario.bits_by(2, 1, B, 0, 0, &[1]);
    assert_eq!(scenario.holders(B), [(1, 2)]);
    for _ in 0..2 {
        assert!(scenario.audit(&[(0, 10)]).unvisited.is_empty());
    }
    assert_eq!(scenario.model.tables().count(), 1);
    assert_eq!(scenario.drift().phantom, 1);
}

#[test]
fn unknown_thread_table_is_added_by_second_pass() {
    let mut scenario = Scenario::with(&[(0, 10)]);
    for _ in 0..2 {
        scenario.audit_with(&[(0, 10)], |scenario| {
            scenario.task(2, 1, B, STARTED).found(2, 1, B, 5, 15);
        });
    }
    assert_eq!(scenario.files(B), [(5, 15)]);
    assert_eq!(scenario.holders(B), [(1, 2)]);
    assert_eq!(scenario.model.table_of_thread(1, 2).unwrap().address(), B);
}
