//! Racing descriptors. Process 1 has table [`A`] and threads 1 to 4.

use fdwatch_common::{Event, FdClose, FdOpen, Header, SetCloexec};

use super::{
    super::*,
    A, B, C, CLOEXEC, EVERY_THREAD, SHARED_TABLE,
    scenario::{Scenario, header, payload},
};

#[cfg(target_arch = "x86_64")]
const DUP: u16 = libc::SYS_dup2 as u16;
#[cfg(not(target_arch = "x86_64"))]
const DUP: u16 = libc::SYS_dup3 as u16;

impl Scenario {
    /// Closes a descriptor of a shared table.
    fn shared_close(&mut self, tid: u32, fd: u32, file: u64) -> &mut Self {
        self.apply(&Event::FdClose(&FdClose {
            header: header(tid, 1, fd, SHARED_TABLE),
            table: A,
            file,
        }))
    }

    fn dup(&mut self, tid: u32, fd: u32, file: u64) -> &mut Self {
        self.apply(&Event::FdOpen(&FdOpen {
            header: Header {
                call: DUP,
                ..header(tid, 1, fd, 0)
            },
            table: A,
            payload: payload(file),
        }))
    }

    fn shared_flag(&mut self, tid: u32, fd: u32, flag: u8) -> &mut Self {
        self.apply(&Event::SetCloexec(&SetCloexec {
            header: header(tid, 1, fd, SHARED_TABLE | flag),
            table: A,
        }))
    }

    fn racing(&self, table: u64) -> Vec<u32> {
        (0..64)
            .filter(|&fd| self.model.is_racing(table, fd))
            .collect()
    }
}

#[test]
fn dup2_onto_fd_closed_by_other_thread_races() {
    let mut scenario = Scenario::with(&[(3, 13), (4, 14)]);
    scenario.shared_close(2, 3, 13).dup(1, 3, 14);
    assert_eq!(scenario.files(A), [(3, 14), (4, 14)]);
    assert_eq!(scenario.racing(A), [3]);
}

#[test]
fn dup2_onto_own_closed_fd_does_not_race() {
    let mut scenario = Scenario::with(&[(3, 13), (4, 14)]);
    scenario.shared_close(1, 3, 13).dup(1, 3, 14);
    assert!(!scenario.model.has_racing_fds());
}

#[test]
fn open_after_single_close_does_not_race() {
    let mut scenario = Scenario::with(&[(3, 13)]);
    scenario.shared_close(2, 3, 13).open_by(1, 1, A, 3, 15, 0);
    assert!(!scenario.model.has_racing_fds());
}

#[test]
fn open_after_two_closes_races() {
    let mut scenario = Scenario::with(&[(3, 13)]);
    scenario
        .shared_close(2, 3, 13)
        .shared_close(3, 3, 13)
        .open_by(1, 1, A, 3, 15, 0);
    assert_eq!(scenario.racing(A), [3]);
}

#[test]
fn open_after_invalid_close_races() {
    let mut scenario = Scenario::with(&[]);
    scenario.shared_close(2, 3, 0).open_by(1, 1, A, 3, 15, 0);
    assert_eq!(scenario.racing(A), [3]);
    assert_eq!(scenario.model.statistics().unknown_closed, 0);
}

#[test]
fn flags_set_by_two_threads_race() {
    let mut scenario = Scenario::with(&[(3, 13), (4, 14)]);
    scenario.shared_flag(1, 3, CLOEXEC).shared_flag(1, 3, 0);
    assert!(!scenario.model.has_racing_fds());
    scenario
        .shared_flag(2, 3, CLOEXEC)
        .shared_flag(2, 4, CLOEXEC);
    assert_eq!(scenario.racing(A), [3]);
}

#[test]
fn copy_races_with_recent_changes_of_original() {
    let mut scenario = Scenario::with(&[(3, 13)]);
    // More than a call can take, so that earlier changes do not race.
    scenario.model.now = Moment(2_000_000_000);
    scenario
        .open_by(2, 1, A, 4, 14, 0)
        .open_by(1, 1, A, 5, 15, 0)
        .shared_close(2, 3, 13)
        .fork_with((2, 2), 1, A, B, SHARED_TABLE)
        .bits(2, B, 0, 0, &[1 << 3 | 1 << 4 | 1 << 5]);
    assert_eq!(scenario.racing(B), [3, 4]);
    assert_eq!(scenario.racing(A), [0; 0]);
    scenario.exit(2, 2, EVERY_THREAD);
    scenario.fork(3, 1, A, B);
    assert_eq!(scenario.racing(B), [0; 0], "race in another table");
}

#[test]
fn copy_inherits_races() {
    let mut scenario = Scenario::with(&[(3, 13)]);
    // More than a call can take, so that earlier changes do not race.
    scenario.model.now = Moment(2_000_000_000);
    // A descriptor is open that had no event.
    scenario.bits(1, A, 0, 0, &[1 << 3 | 1 << 4]);
    assert_eq!(scenario.racing(A), [4]);
    scenario
        .fork(2, 1, A, B)
        .fork(3, 1, A, A)
        .close(3, 3, C, 3, 13);
    assert_eq!(scenario.racing(B), [4], "by fork");
    assert_eq!(scenario.racing(C), [4], "by unshare");
    scenario.open_by(2, 2, B, 4, 14, 0);
    assert_eq!(scenario.racing(B), [0; 0], "race was not resolved");
}

#[test]
fn audit_resolves_race_without_drift() {
    let mut scenario = Scenario::with(&[(3, 13), (4, 14)]);
    scenario.shared_close(2, 3, 13).dup(1, 3, 14);
    for _ in 0..2 {
        scenario.audit(&[(4, 14)]);
    }
    assert_eq!(scenario.files(A), [(4, 14)]);
    assert!(!scenario.model.has_racing_fds());
    let statistics = scenario.model.statistics();
    assert_eq!((statistics.racing, statistics.racing_corrected), (1, 1));
    assert_eq!(statistics.drift.total(), 0);
}

#[test]
fn matching_audit_resolves_race_at_once() {
    let mut scenario = Scenario::with(&[(3, 13), (4, 14)]);
    scenario.shared_close(2, 3, 13).dup(1, 3, 14);
    scenario.audit(&[(3, 14), (4, 14)]);
    assert!(!scenario.model.has_racing_fds());
    assert_eq!(scenario.model.statistics().racing_corrected, 0);
}
