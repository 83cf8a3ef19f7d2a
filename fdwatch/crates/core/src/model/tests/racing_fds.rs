//! Numbers that threads are at odds about. Process 1 has table [`A`], and threads 1 to 4.

use super::{
    super::*,
    A, B, C, CLOEXEC, EVERY_THREAD, SHARED_TABLE,
    told::{Told, header, payload},
};

#[cfg(target_arch = "x86_64")]
const DUP: u16 = libc::SYS_dup2 as u16;
#[cfg(not(target_arch = "x86_64"))]
const DUP: u16 = libc::SYS_dup3 as u16;

impl Told {
    /// In a table that threads share.
    fn shared_death(&mut self, tid: u32, fd: u32, file: u64) -> &mut Self {
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

    fn in_doubt(&self, table: u64) -> Vec<u32> {
        (0..64)
            .filter(|&fd| self.model.is_in_doubt(table, fd))
            .collect()
    }
}

#[test]
fn what_is_put_where_another_thread_closes_is_contested() {
    let mut told = Told::with(&[(3, 13), (4, 14)]);
    told.shared_death(2, 3, 13).dup(1, 3, 14);
    assert_eq!(told.files(A), [(3, 14), (4, 14)]);
    assert_eq!(told.in_doubt(A), [3]);
}

#[test]
fn what_a_thread_puts_where_it_closed_itself_is_not() {
    let mut told = Told::with(&[(3, 13), (4, 14)]);
    told.shared_death(1, 3, 13).dup(1, 3, 14);
    assert!(!told.model.is_contested());
}

#[test]
fn a_number_that_is_given_anew_after_a_close_is_not() {
    let mut told = Told::with(&[(3, 13)]);
    told.shared_death(2, 3, 13).birth_by(1, 1, A, 3, 15, 0);
    assert!(!told.model.is_contested());
}

#[test]
fn a_number_that_is_given_anew_after_two_closes_is() {
    let mut told = Told::with(&[(3, 13)]);
    told.shared_death(2, 3, 13)
        .shared_death(3, 3, 13)
        .birth_by(1, 1, A, 3, 15, 0);
    assert_eq!(told.in_doubt(A), [3]);
}

#[test]
fn a_number_that_is_made_where_another_thread_closes_none_is() {
    let mut told = Told::with(&[]);
    told.shared_death(2, 3, 0).birth_by(1, 1, A, 3, 15, 0);
    assert_eq!(told.in_doubt(A), [3]);
    assert_eq!(told.model.statistics().unknown_closed, 0);
}

#[test]
fn flags_that_two_threads_set_are() {
    let mut told = Told::with(&[(3, 13), (4, 14)]);
    told.shared_flag(1, 3, CLOEXEC).shared_flag(1, 3, 0);
    assert!(!told.model.is_contested());
    told.shared_flag(2, 3, CLOEXEC).shared_flag(2, 4, CLOEXEC);
    assert_eq!(told.in_doubt(A), [3]);
}

#[test]
fn a_copy_is_where_others_have_just_changed_the_original() {
    let mut told = Told::with(&[(3, 13)]);
    // A second later it is certain.
    told.model.now = Moment(2_000_000_000);
    told.birth_by(2, 1, A, 4, 14, 0)
        .birth_by(1, 1, A, 5, 15, 0)
        .shared_death(2, 3, 13)
        .fork_with((2, 2), 1, A, B, SHARED_TABLE)
        .bits(2, B, 0, 0, &[1 << 3 | 1 << 4 | 1 << 5]);
    assert_eq!(told.in_doubt(B), [3, 4]);
    assert_eq!(told.in_doubt(A), [0; 0]);
    told.exit(2, 2, EVERY_THREAD);
    told.fork(3, 1, A, B);
    assert_eq!(told.in_doubt(B), [0; 0], "it is another table");
}

#[test]
fn a_copy_of_what_is_in_doubt_is_in_doubt() {
    let mut told = Told::with(&[(3, 13)]);
    // A second later it is certain.
    told.model.now = Moment(2_000_000_000);
    // Something is open that no one told of.
    told.bits(1, A, 0, 0, &[1 << 3 | 1 << 4]);
    assert_eq!(told.in_doubt(A), [4]);
    told.fork(2, 1, A, B).fork(3, 1, A, A).death(3, 3, C, 3, 13);
    assert_eq!(told.in_doubt(B), [4], "by fork");
    assert_eq!(told.in_doubt(C), [4], "by unshare");
    told.birth_by(2, 2, B, 4, 14, 0);
    assert_eq!(told.in_doubt(B), [0; 0], "it is known now");
}

#[test]
fn an_audit_settles_it_and_counts_no_drift() {
    let mut told = Told::with(&[(3, 13), (4, 14)]);
    told.shared_death(2, 3, 13).dup(1, 3, 14);
    for _ in 0..2 {
        told.audit(&[(4, 14)]);
    }
    assert_eq!(told.files(A), [(4, 14)]);
    assert!(!told.model.is_contested());
    let statistics = told.model.statistics();
    assert_eq!(
        (statistics.contested, statistics.contested_otherwise),
        (1, 1)
    );
    assert_eq!(statistics.drift.total(), 0);
}

#[test]
fn an_audit_that_agrees_settles_it_at_once() {
    let mut told = Told::with(&[(3, 13), (4, 14)]);
    told.shared_death(2, 3, 13).dup(1, 3, 14);
    told.audit(&[(3, 14), (4, 14)]);
    assert!(!told.model.is_contested());
    assert_eq!(told.model.statistics().contested_otherwise, 0);
}
