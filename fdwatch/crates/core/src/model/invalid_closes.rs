//! Closes of numbers that were not open, but for those of loops that close all there could be: the
//! mark of code that closes what it has closed before, and may close another's next time.

use rustc_hash::FxHashMap;

use super::Moment;

/// After this long it is known that no loop followed: nanoseconds.
const SETTLED_AFTER: u64 = 200_000_000;

/// Threads that are waited for, at most.
const MAX: usize = 1024;

/// A close of a number that was not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidClose {
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Address of its table.
    pub table: u64,
    /// The number.
    pub fd: u32,
    /// When.
    pub at: Moment,
}

/// Of each thread the last.
#[derive(Debug, Default)]
pub(super) struct InvalidCloses {
    /// And whether it was the first of a loop.
    last: FxHashMap<u32, (InvalidClose, bool)>,
    settled: Vec<InvalidClose>,
}

impl InvalidCloses {
    /// Adds one; `is_consecutive` is [`FdClose::CONSECUTIVE`](fdwatch_common::FdClose::CONSECUTIVE).
    pub(super) fn add(&mut self, stray: InvalidClose, is_consecutive: bool) {
        if is_consecutive {
            if let Some((_, is_loop)) = self.last.get_mut(&stray.tid) {
                *is_loop = true;
            }
            return;
        }
        if self.last.len() >= MAX && !self.last.contains_key(&stray.tid) {
            self.settle(Moment(u64::MAX));
        }
        if let Some((before, false)) = self.last.insert(stray.tid, (stray, false)) {
            self.settled.push(before);
        }
    }

    /// Those that are known to be no part of a loop, since they were last asked for.
    pub(super) fn take(&mut self, now: Moment) -> Vec<InvalidClose> {
        if !self.last.is_empty() {
            self.settle(now);
        }
        std::mem::take(&mut self.settled)
    }

    fn settle(&mut self, now: Moment) {
        let Self { last, settled } = self;
        last.retain(|_, &mut (stray, is_loop)| {
            let is_over = now.since(stray.at) >= SETTLED_AFTER;
            if is_over && !is_loop {
                settled.push(stray);
            }
            !is_over
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stray(tid: u32, fd: u32, at: u64) -> InvalidClose {
        InvalidClose {
            tgid: 1,
            tid,
            table: 1,
            fd,
            at: Moment(at),
        }
    }

    #[test]
    fn loops_are_none() {
        let mut invalid_closes = InvalidCloses::default();
        invalid_closes.add(stray(1, 3, 10), false);
        invalid_closes.add(stray(1, 4, 11), true);
        invalid_closes.add(stray(2, 7, 12), false);
        invalid_closes.add(stray(2, 99, 13), false);
        assert_eq!(invalid_closes.take(Moment(14)), [stray(2, 7, 12)]);
        let later = Moment(14 + SETTLED_AFTER);
        assert_eq!(invalid_closes.take(later), [stray(2, 99, 13)]);
        assert_eq!(invalid_closes.take(later), []);
    }

    #[test]
    fn threads_that_are_waited_for_are_bounded() {
        let mut invalid_closes = InvalidCloses::default();
        for tid in 0..3 * MAX as u32 {
            invalid_closes.add(stray(tid, 3, 10), false);
        }
        assert!(invalid_closes.last.len() <= MAX);
        assert_eq!(invalid_closes.take(Moment(u64::MAX)).len(), 3 * MAX);
    }
}
