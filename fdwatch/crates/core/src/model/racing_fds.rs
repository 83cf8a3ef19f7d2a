//! Numbers of shared tables that threads are at odds about, so that the order of the records does
//! not say who came last: the kernel is to be asked, by the next audit.
//!
//! A close is told before it is done. What another thread puts in the place of the number meanwhile
//! is closed by it: `dup2` onto it, or whatever is given the number when it was closed by a third
//! thread, or was not open at first. The same holds for a flag that is set through ioctl. And a
//! table is copied a good while before that is told: what others have changed in the original
//! shortly before may or may not be so in the copy.
//!
//! Programs that do such things have a fault (two owners of one number) but for the copies, which
//! mostly run another program soon, and close all that is in doubt.

use rustc_hash::FxHashMap;

use super::fd_entry::Moment;
use crate::shrink;

/// A number: the table's address, and the descriptor.
type Number = (u64, u32);

/// How long what a thread does may take, in nanoseconds: one that is held up for longer is left to
/// the audits.
const MAX_CALL_LEN: u64 = 1_000_000_000;

/// So many closes, and flags, are remembered. Of what is beyond, the next audit is to tell.
const MAX: usize = 8192;

/// A close that found nothing, or not what the model has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Close {
    /// The description that was to be closed; 0, if there was none.
    pub(super) file: u64,
    /// Who closes it.
    pub(super) tid: u32,
    at: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Race {
    since: Moment,
    /// The number is known to be open, but not what it refers to.
    is_unseen: bool,
}

/// The numbers that are contested, and what may come to make others so.
#[derive(Debug, Default)]
pub(super) struct RacingFds {
    closes: FxHashMap<Number, Close>,
    /// Who has set the flag, and when.
    flags: FxHashMap<Number, (u32, Moment)>,
    /// By table: who has set all flags of it, and when.
    sweeps: FxHashMap<u64, (u32, Moment)>,
    numbers: FxHashMap<Number, Race>,
    /// More came than can be remembered.
    overflowed: bool,
    /// How many there were.
    pub(super) count: u64,
}

impl RacingFds {
    /// Whether the kernel is to be asked.
    pub(super) fn is_any(&self) -> bool {
        self.overflowed || !self.numbers.is_empty()
    }

    /// Whether the kernel is to be asked about this number.
    pub(super) fn is_in_doubt(&self, number: Number) -> bool {
        self.overflowed || self.numbers.contains_key(&number)
    }

    /// A close came that may end what is made after it.
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

    /// The close that may end what is made at `number` now, if there is one.
    pub(super) fn take_close(&mut self, number: Number, now: Moment) -> Option<Close> {
        if self.closes.is_empty() {
            return None;
        }
        let close = self.closes.remove(&number)?;
        is_recent(close.at, now).then_some(close)
    }

    /// The flag was set by `tid`, or with what is made there. Whether another has set it just now.
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
            self.add(number, at);
        }
    }

    /// Another descriptor, with a flag of its own, is made at the number.
    pub(super) fn make(&mut self, number: Number, tid: u32, at: Moment) {
        if !self.flags.is_empty()
            && let Some((other, set)) = self.flags.remove(&number)
            && other != tid
            && is_recent(set, at)
        {
            self.add(number, at);
        }
        if !self.numbers.is_empty() && self.numbers.get(&number).is_some_and(|it| it.is_unseen) {
            self.numbers.remove(&number);
        }
    }

    /// All flags of the table are told, by `tid`.
    pub(super) fn set_flags(&mut self, table: u64, tid: u32, at: Moment) {
        self.copy_flags(table, table, tid, at);
        self.sweeps.retain(|_, (_, set)| is_recent(*set, at));
        self.sweeps.insert(table, (tid, at));
    }

    /// Whether another thread than `tid` has set all flags of the table just now.
    pub(super) fn has_swept(&self, table: u64, tid: u32, now: Moment) -> bool {
        let sweep = self.sweeps.get(&table);
        sweep.is_some_and(|&(other, at)| other != tid && is_recent(at, now))
    }

    /// The table `to` is a copy of `from`: what is not known of that is not known of this.
    pub(super) fn copy(&mut self, from: u64, to: u64, at: Moment) {
        let doubts = self.numbers.iter().filter(|((table, _), _)| *table == from);
        let doubts: Vec<_> = doubts.map(|(&(_, fd), doubt)| (fd, *doubt)).collect();
        for (fd, Race { is_unseen, .. }) in doubts {
            self.doubt((to, fd), at, is_unseen);
        }
    }

    /// The table `to` is a copy of `from`, made by `tid`: what others have done to flags shortly
    /// before may be missing there.
    pub(super) fn copy_flags(&mut self, from: u64, to: u64, tid: u32, at: Moment) {
        let of_others = |&(&(table, _), &(other, set)): &(&Number, &(u32, Moment))| {
            table == from && other != tid && is_recent(set, at)
        };
        let numbers = self.flags.iter().filter(of_others);
        let numbers: Vec<_> = numbers.map(|(&(_, fd), _)| (to, fd)).collect();
        for number in numbers {
            self.add(number, at);
        }
    }

    /// Who came last there is not known.
    pub(super) fn add(&mut self, number: Number, at: Moment) {
        self.doubt(number, at, false);
    }

    /// The number is open, and nothing is known of it yet.
    pub(super) fn add_unseen(&mut self, number: Number, at: Moment) {
        self.doubt(number, at, true);
    }

    fn doubt(&mut self, number: Number, since: Moment, is_unseen: bool) {
        let doubt = Race { since, is_unseen };
        if self.numbers.insert(number, doubt).is_none() {
            self.count += 1;
        }
    }

    /// What the kernel has there is known now. Whether it was in doubt.
    pub(super) fn settle(&mut self, number: Number) -> bool {
        !self.numbers.is_empty() && self.numbers.remove(&number).is_some()
    }

    /// An audit that began at `began` has shown all but what `is_open` says.
    pub(super) fn audited(&mut self, began: Moment, is_open: impl Fn(Number) -> bool) {
        self.overflowed = false;
        self.numbers
            .retain(|&number, doubt| doubt.since > began || is_open(number));
        self.closes.retain(|_, close| is_recent(close.at, began));
        self.flags.retain(|_, (_, set)| is_recent(*set, began));
        // After a loss they are full for a moment.
        shrink::of_map(&mut self.numbers);
        shrink::of_map(&mut self.closes);
        shrink::of_map(&mut self.flags);
    }

    /// The table is gone, or another one now.
    pub(super) fn forget(&mut self, table: u64) {
        if !self.numbers.is_empty() {
            self.numbers.retain(|&(of, _), _| of != table);
        }
    }
}

/// Whether a call that was told of at `told` may still be under way.
pub(super) const fn is_recent(told: Moment, now: Moment) -> bool {
    now.since(told) < MAX_CALL_LEN
}
