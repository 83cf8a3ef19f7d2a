//! Closes of numbers that were not open, except by loops that close every possible number. They
//! come from code that closes a descriptor twice, which can close another owner's descriptor the
//! next time.

use rustc_hash::FxHashMap;

use super::moment::Moment;

/// Time after which a close is known not to start a loop: nanoseconds.
const SETTLED_AFTER: u64 = 200_000_000;

/// Maximum number of threads with a pending close.
const MAX: usize = 1024;

/// A close of a number that was not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidClose {
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Address of its table in the kernel.
    pub table: u64,
    /// The number.
    pub fd: u32,
    /// When it was closed.
    pub at: Moment,
}

/// The last invalid close of each thread, until it is known whether a loop follows.
#[derive(Debug, Default)]
pub(super) struct InvalidCloses {
    /// By thread; `true` if it was the first close of a loop.
    last: FxHashMap<u32, (InvalidClose, bool)>,
    settled: Vec<InvalidClose>,
}

impl InvalidCloses {
    /// Adds a close; `is_consecutive` is
    /// [`FdClose::CONSECUTIVE`](fdwatch_common::FdClose::CONSECUTIVE).
    pub(super) fn add(&mut self, close: InvalidClose, is_consecutive: bool) {
        if is_consecutive {
            if let Some((_, is_loop)) = self.last.get_mut(&close.tid) {
                *is_loop = true;
            }
            return;
        }
        if self.last.len() >= MAX && !self.last.contains_key(&close.tid) {
            self.settle(Moment(u64::MAX));
        }
        if let Some((before, false)) = self.last.insert(close.tid, (close, false)) {
            self.settled.push(before);
        }
    }

    /// Returns the closes that have turned out not to belong to a loop, since the last call.
    pub(super) fn take(&mut self, now: Moment) -> Vec<InvalidClose> {
        if !self.last.is_empty() {
            self.settle(now);
        }
        std::mem::take(&mut self.settled)
    }

    fn settle(&mut self, now: Moment) {
        let Self { last, settled } = self;
        last.retain(|_, &mut (close, is_loop)| {
            let is_over = now.since(close.at) >= SETTLED_AFTER;
            if is_over && !is_loop {
                settled.push(close);
            }
            !is_over
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(tid: u32, fd: u32, at: u64) -> InvalidClose {
        InvalidClose {
            tgid: 1,
            tid,
            table: 1,
            fd,
            at: Moment(at),
        }
    }

    #[test]
    fn loops_are_ignored() {
        let mut invalid_closes = InvalidCloses::default();
        invalid_closes.add(close(1, 3, 10), false);
        invalid_closes.add(close(1, 4, 11), true);
        invalid_closes.add(close(2, 7, 12), false);
        invalid_closes.add(close(2, 99, 13), false);
        assert_eq!(invalid_closes.take(Moment(14)), [close(2, 7, 12)]);
        let later = Moment(14 + SETTLED_AFTER);
        assert_eq!(invalid_closes.take(later), [close(2, 99, 13)]);
        assert_eq!(invalid_closes.take(later), []);
    }

    #[test]
    fn pending_threads_are_bounded() {
        let mut invalid_closes = InvalidCloses::default();
        for tid in 0..3 * MAX as u32 {
            invalid_closes.add(close(tid, 3, 10), false);
        }
        assert!(invalid_closes.last.len() <= MAX);
        assert_eq!(invalid_closes.take(Moment(u64::MAX)).len(), 3 * MAX);
    }
}
