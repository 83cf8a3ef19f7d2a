//! What an entry leaves for its exit, by thread: only for calls whose result does not tell what
//! they made, and of these only if they made it. And what a program leaves for the one that it goes
//! on in.

use aya_ebpf::{macros::map, maps::HashMap};
use fdwatch_common::Kind;

use crate::ring::count_lost;

/// What is left, and by which kind of call: one that does not come to its exit, as of a thread that
/// is ended in the middle, leaves it to be found by the next call of that thread's number.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Left {
    pub(crate) value: u64,
    by: u32,
    /// Number of the call.
    pub(crate) call: u32,
}

/// Who leaves something.
#[derive(Clone, Copy)]
pub(crate) enum By {
    /// fcntl that duplicates: nothing.
    Duplication,
    /// fcntl that sets the flag: the descriptor.
    Flag,
    /// pipe and socketpair: where the two descriptors are to be written.
    Pair,
    /// clone and clone3 that make a pidfd: where that is to be written.
    Clone,
    /// A program that tells the open numbers of a table: the next of them.
    Open,
    /// The same, and then which close on exec.
    OpenThenCloseOnExec,
    /// A program that tells these: the next of them.
    CloseOnExec,
}

/// By thread.
#[map]
static PENDING: HashMap<u32, Left> = HashMap::with_max_entries(16_384, 0);

/// Leaves `value` for the exit of the call that the thread has entered.
#[inline(always)]
pub(crate) fn leave(tid: u32, by: By, call: u16, value: u64) {
    let left = Left {
        value,
        by: by as u32,
        call: call.into(),
    };
    if PENDING.insert(tid, left, 0).is_err() {
        // Too many threads make descriptors at once. There are no words about it: logging is done in
        // functions, and programs with functions cannot go on in others everywhere.
        count_lost(Kind::FdOpen);
    }
}

/// What was left for the thread's exit from a call of this kind, if anything was.
#[inline(always)]
pub(crate) fn take(tid: u32, by: By) -> Option<Left> {
    take_any(tid).filter(|left| left.is_by(by))
}

/// What was left for the thread's exit, if anything was.
#[inline(always)]
pub(crate) fn take_any(tid: u32) -> Option<Left> {
    // To look is cheaper than to remove, which takes a lock, and mostly there is nothing.
    let left = PENDING.get_ptr(tid)?;
    // SAFETY: the map gives pointers to its values, which outlive the program's run.
    let left = unsafe { *left };
    PENDING.remove(tid).ok()?;
    Some(left)
}

impl Left {
    #[inline(always)]
    pub(crate) fn is_by(&self, by: By) -> bool {
        self.by == by as u32
    }
}
