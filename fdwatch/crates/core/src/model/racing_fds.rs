//! Racing descriptors: numbers of shared tables that several threads change at the same time, so
//! that the order of the records does not determine the outcome. The next audit reads it from the
//! kernel.
//!
//! A close is recorded before it takes effect, and it closes whatever another thread puts in the
//! number's place meanwhile: by `dup2` onto it, or by an open that gets the number, if a third
//! thread closed it or it was not open at first. The same holds for a flag that is set through
//! ioctl. A table is copied well before the copy is recorded: recent changes to the original may or
//! may not be in it.
//!
//! Programs that race like this are faulty (two owners of one number), except for the copies.
//! Processes with a copy usually run another program soon, which closes the racing descriptors.

use rustc_hash::FxHashMap;

use super::moment::Moment;
use crate::shrink;

/// A number: the table's address and the descriptor.
type Number = (u64, u32);

/// Maximum duration of a call, in nanoseconds. Audits correct the effects of threads that are
/// delayed for longer.
const MAX_CALL_LEN: u64 = 1_000_000_000;

/// Maximum number of remembered closes, and of remembered flags. When exceeded, all numbers count
/// as racing until the next audit.
const MAX: usize = 8192;

/// A close of a number that was not open, or had another description than in the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Close {
    /// The description that was to be closed; 0 if there was none.
    pub(super) file: u64,
    /// The closing thread.
    pub(super) tid: u32,
    at: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Race {
    since: Moment,
    /// The number is open, but its description is unknown.
    is_unseen: bool,
}

/// The racing descriptors, and recent changes that can make others race.
#[derive(Debug, Default)]
pub(super) struct RacingFds {
    closes: FxHashMap<Number, Close>,
    /// The thread that set the flag, and when.
    flags: FxHashMap<Number, (u32, Moment)>,
    /// By table: the thread that set all its flags, and when.
    sweeps: FxHashMap<u64, (u32, Moment)>,
    numbers: FxHashMap<Number, Race>,
    /// More changes arrived than can be remembered.
    overflowed: bool,
    /// Racing descriptors so far.
    pub(super) count: u64,
}

impl RacingFds {
    /// Returns whether any state must be read from the kernel.
    pub(super) fn is_any(&self) -> bool {
        self.overflowed || !self.numbers.is_empty()
    }

    /// Returns whether the state of this number must be read from the kernel.
    pub(super) fn is_racing(&self, number: Number) -> bool {
        self.overflowed || self.numbers.contains_key(&number)
    }

    /// Records a close that may close what is opened after it.
    pub(super) fn close(&mut self, number: Number, file: u64, tid: u32, at: Moment) {
        if self.closes.len() >= MAX {
            self.closes.retain(|_, close| is_recent(close.at, at));
            if self.closes.len() >= MAX {
                self.overflowed = true;
                return;
            }
        }
        self.closes.insert(number, Close { file, tid, at });
    }

    /// Takes the close that may close what is opened at `number` now.
    pub(super) fn take_close(&mut self, number: Number, now: Moment) -> Option<Close> {
        if self.closes.is_empty() {
            return None;
        }
        let close = self.closes.remove(&number)?;
        is_recent(close.at, now).then_some(close)
    }

    /// Records that `tid` set the flag. If another thread has just set it too, they race.
    pub(super) fn set_flag(&mut self, number: Number, tid: u32, at: Moment) {
        if self.flags.len() >= MAX {
            self.flags.retain(|_, (_, set)| is_recent(*set, at));
            if self.flags.len() >= MAX {
                self.overflowed = true;
                return;
            }
        }
        let before = self.flags.insert(number, (tid, at));
        if before.is_some_and(|(other, set)| other != tid && is_recent(set, at)) {
            self.mark(number, at);
        }
    }

    /// Records that another descriptor, with its own flag, was opened at the number.
    pub(super) fn opened(&mut self, number: Number, tid: u32, at: Moment) {
        if !self.flags.is_empty()
            && let Some((other, set)) = self.flags.remove(&number)
            && other != tid
            && is_recent(set, at)
        {
            self.mark(number, at);
        }
        if !self.numbers.is_empty() && self.numbers.get(&number).is_some_and(|it| it.is_unseen) {
            self.numbers.remove(&number);
        }
    }

    /// Records that `tid` set all flags of the table.
    pub(super) fn set_flags(&mut self, table: u64, tid: u32, at: Moment) {
        self.copy_flags(table, table, tid, at);
        self.sweeps.retain(|_, (_, set)| is_recent(*set, at));
        self.sweeps.insert(table, (tid, at));
    }

    /// Returns whether another thread than `tid` has just set all flags of the table.
    pub(super) fn has_swept(&self, table: u64, tid: u32, now: Moment) -> bool {
        let sweep = self.sweeps.get(&table);
        sweep.is_some_and(|&(other, at)| other != tid && is_recent(at, now))
    }

    /// Copies the races of the table `from` to its copy `to`.
    pub(super) fn copy(&mut self, from: u64, to: u64, at: Moment) {
        let races = self.numbers.iter().filter(|((table, _), _)| *table == from);
        let races: Vec<_> = races.map(|(&(_, fd), race)| (fd, *race)).collect();
        for (fd, Race { is_unseen, .. }) in races {
            self.insert((to, fd), at, is_unseen);
        }
    }

    /// Marks the flags that other threads than `tid` have just set in `from`: they may be missing
    /// in `to`, the copy that `tid` made.
    pub(super) fn copy_flags(&mut self, from: u64, to: u64, tid: u32, at: Moment) {
        let of_others = |&(&(table, _), &(other, set)): &(&Number, &(u32, Moment))| {
            table == from && other != tid && is_recent(set, at)
        };
        let numbers = self.flags.iter().filter(of_others);
        let numbers: Vec<_> = numbers.map(|(&(_, fd), _)| (to, fd)).collect();
        for number in numbers {
            self.mark(number, at);
        }
    }

    /// Marks the number: it is unclear which change came last.
    pub(super) fn mark(&mut self, number: Number, at: Moment) {
        self.insert(number, at, false);
    }

    /// Marks the number as open, with unknown contents.
    pub(super) fn mark_unseen(&mut self, number: Number, at: Moment) {
        self.insert(number, at, true);
    }

    fn insert(&mut self, number: Number, since: Moment, is_unseen: bool) {
        let race = Race { since, is_unseen };
        if self.numbers.insert(number, race).is_none() {
            self.count += 1;
        }
    }

    /// Settles the number once its state in the kernel is known. Returns whether it was racing.
    pub(super) fn settle(&mut self, number: Number) -> bool {
        !self.numbers.is_empty() && self.numbers.remove(&number).is_some()
    }

    /// Settles everything that the audit that began at `began` has shown, except for differences
    /// that are still open.
    pub(super) fn audited(&mut self, began: Moment, is_open: impl Fn(Number) -> bool) {
        self.overflowed = false;
        self.numbers
            .retain(|&number, race| race.since > began || is_open(number));
        self.closes.retain(|_, close| is_recent(close.at, began));
        self.flags.retain(|_, (_, set)| is_recent(*set, began));
        // After a loss of records these are large for a moment.
        shrink::of_map(&mut self.numbers);
        shrink::of_map(&mut self.closes);
        shrink::of_map(&mut self.flags);
    }

    /// Drops the races of a table that is gone, or replaced by another one.
    pub(super) fn forget(&mut self, table: u64) {
        if !self.numbers.is_empty() {
            self.numbers.retain(|&(of, _), _| of != table);
        }
    }
}

/// Returns whether a call that was recorded at `recorded` may still be running.
pub(super) const fn is_recent(recorded: Moment, now: Moment) -> bool {
    now.since(recorded) < MAX_CALL_LEN
}
