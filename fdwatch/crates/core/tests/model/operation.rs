//! Operations on the simulated kernel: any system call, by any task.

use proptest::prelude::*;

use super::simulated_kernel::{INIT, Kernel};

/// Steps of the snapshot between a change and its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap(pub(crate) u8);

/// An operation. The task and its descriptor are chosen by index, modulo how many exist.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    who: usize,
    gap: Gap,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Open(bool),
    Duplicate(usize, u32, bool),
    Dup2(usize, u32, bool),
    Dup2OntoOpen(usize, usize, bool),
    Close(usize),
    CloseWhileItOpens,
    CloseRange(u32, u32, bool, bool),
    SetCloexec(usize, bool),
    Fork,
    Clone,
    Thread,
    ThreadWithTable,
    Exec(bool),
    ExitThread,
    ExitProcess,
    Unshare(Next),
    Snapshot(u8),
}

/// The record that shows an unsharing: its own, or that of the task's next operation.
#[derive(Clone, Copy, Debug)]
enum Next {
    Record,
    Open,
    Close,
    Fork,
    Clone,
    ThreadWithTable,
    Exec,
}

/// Generates any operation.
pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    let who = 0..64usize;
    let gap = prop_oneof![3 => Just(0), 1 => 1..4u8];
    (who, gap, what()).prop_map(|(who, gap, what)| Operation {
        who,
        gap: Gap(gap),
        what,
    })
}

fn what() -> impl Strategy<Value = What> {
    let flag = any::<bool>;
    let nth = || 0..64usize;
    prop_oneof![
        8 => flag().prop_map(What::Open),
        3 => (nth(), number(), flag()).prop_map(|(fd, from, on)| What::Duplicate(fd, from, on)),
        3 => (nth(), number(), flag()).prop_map(|(fd, onto, on)| What::Dup2(fd, onto, on)),
        2 => (nth(), nth(), flag()).prop_map(|(fd, onto, on)| What::Dup2OntoOpen(fd, onto, on)),
        6 => nth().prop_map(What::Close),
        1 => Just(What::CloseWhileItOpens),
        2 => (number(), number(), flag(), flag()).prop_map(|(a, b, unshare, mark)| {
            What::CloseRange(a.min(b), if a % 2 == 0 { u32::MAX } else { a.max(b) }, unshare, mark)
        }),
        2 => (nth(), flag()).prop_map(|(fd, on)| What::SetCloexec(fd, on)),
        3 => Just(What::Fork),
        2 => Just(What::Clone),
        2 => Just(What::Thread),
        2 => Just(What::ThreadWithTable),
        2 => flag().prop_map(What::Exec),
        2 => Just(What::ExitThread),
        2 => Just(What::ExitProcess),
        2 => next().prop_map(What::Unshare),
        12 => (1..6u8).prop_map(What::Snapshot),
    ]
}

/// Generates a descriptor number: mostly small, with some around the limits of one record.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..8u32, 2 => 0..300u32, 1 => 0..5000u32]
}

fn next() -> impl Strategy<Value = Next> {
    prop_oneof![
        Just(Next::Record),
        Just(Next::Open),
        Just(Next::Close),
        Just(Next::Fork),
        Just(Next::Clone),
        Just(Next::ThreadWithTable),
        Just(Next::Exec),
    ]
}

impl Kernel {
    /// Executes the operation; does nothing where it is impossible.
    pub(crate) fn run(&mut self, operation: &Operation) {
        let &Operation { who, gap, ref what } = operation;
        let live: Vec<_> = self.live().collect();
        let task = live[who % live.len()];
        let (tid, tgid) = (self.tasks[task].tid, self.tasks[task].tgid);
        let descriptor = |i| self.descriptor(task, i);
        match *what {
            What::Open(cloexec) => self.open(task, cloexec, gap),
            What::Duplicate(i, from, cloexec) => {
                if let Some(fd) = descriptor(i) {
                    self.duplicate(task, fd, from, cloexec, gap);
                }
            }
            What::Dup2(i, onto, cloexec) => {
                if let Some(fd) = descriptor(i) {
                    let cloexec = cloexec && onto >= self.kept;
                    self.dup2(task, fd, onto, cloexec, gap);
                }
            }
            What::Dup2OntoOpen(i, onto, cloexec) => {
                if let (Some(fd), Some(onto)) = (descriptor(i), descriptor(onto)) {
                    let cloexec = cloexec && onto >= self.kept;
                    self.dup2(task, fd, onto, cloexec, gap);
                }
            }
            What::Close(i) => {
                if let Some(fd) = descriptor(i).filter(|&fd| fd >= self.kept) {
                    self.close(task, fd, gap);
                }
            }
            // During a snapshot, a close of a descriptor from before it looks the same.
            What::CloseWhileItOpens if self.iterator.is_some() => {}
            What::CloseWhileItOpens => self.close_while_it_opens(task),
            What::CloseRange(first, last, unshare, mark) => {
                if !(unshare && self.leaves_threads_behind(task)) {
                    let range = first.max(self.kept)..=last.max(self.kept);
                    self.close_range(task, range, unshare, mark, gap);
                }
            }
            What::SetCloexec(i, cloexec) => {
                if let Some(fd) = descriptor(i).filter(|&fd| fd >= self.kept) {
                    self.set_cloexec(task, fd, cloexec, gap);
                }
            }
            What::Fork => drop(self.fork(task, false, false, gap)),
            What::Clone => drop(self.fork(task, true, false, gap)),
            What::Thread => self.thread(task),
            What::ThreadWithTable => drop(self.fork(task, false, true, gap)),
            What::Exec(unshare_first) => {
                // A thread takes over the leader's number shortly before the record of it.
                let gap = if tid == tgid { gap } else { Gap(0) };
                self.exec(task, unshare_first, gap);
            }
            What::ExitThread if tid != tgid => self.exit(task, gap),
            What::ExitProcess if tgid != INIT => self.exit_process(task, gap),
            What::ExitThread | What::ExitProcess => {}
            What::Unshare(next) => {
                if !self.leaves_threads_behind(task) && self.unshare(task) {
                    self.gap(gap);
                    self.next(task, next, gap);
                }
            }
            What::Snapshot(steps) => self.gap(Gap(steps)),
        }
    }

    fn next(&mut self, task: usize, next: Next, gap: Gap) {
        let reported = match (next, self.descriptor(task, self.kept as usize)) {
            (Next::Close, Some(fd)) if fd >= self.kept => {
                self.close(task, fd, gap);
                true
            }
            (Next::Record, _) => {
                self.emit_bits(task, 0, 0);
                true
            }
            (Next::Fork, _) => self.fork(task, false, false, gap),
            (Next::Clone, _) => self.fork(task, true, false, gap),
            (Next::ThreadWithTable, _) => self.fork(task, false, true, gap),
            (Next::Exec, _) => {
                self.exec(task, false, Gap(0));
                true
            }
            _ => false,
        };
        if !reported {
            self.open(task, false, gap);
        }
    }
}
