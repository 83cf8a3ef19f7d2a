//! Values stored by thread, from the entry of a system call to its exit, or from one program to the
//! one that continues it. Only for calls whose result does not identify the new descriptors.

use aya_ebpf::{macros::map, maps::HashMap};
use fdwatch_common::Kind;

use crate::ring::count_lost;

/// A stored value. A call that never reaches its exit, because its thread is killed, leaves its
/// value to the next thread with that ID: `purpose` distinguishes them.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Pending {
    pub(crate) value: u64,
    purpose: u32,
    /// Number of the call.
    pub(crate) call: u32,
}

/// The meaning of a stored value.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// fcntl that duplicates; the value is unused.
    Duplicate,
    /// fcntl that sets the close-on-exec flag: the descriptor.
    SetCloexec,
    /// pipe and socketpair: address of the two descriptors.
    FdPair,
    /// clone and clone3 that create a pidfd: its address.
    Pidfd,
    /// The next descriptor of a table's open bitmap.
    OpenBits,
    /// The next descriptor of a table's open bitmap; the close-on-exec bitmap follows.
    OpenThenCloexecBits,
    /// The next descriptor of a table's close-on-exec bitmap.
    CloexecBits,
}

/// Stored values by thread.
#[map]
static PENDING: HashMap<u32, Pending> = HashMap::with_max_entries(16_384, 0);

/// Stores a value for the exit of the call that the thread has entered.
#[inline(always)]
pub(crate) fn keep(tid: u32, purpose: Purpose, call: u16, value: u64) {
    let pending = Pending {
        value,
        purpose: purpose as u32,
        call: call.into(),
    };
    if PENDING.insert(tid, pending, 0).is_err() {
        // Too many threads are in such calls at once. Not logged: the log macros use functions, and
        // not every kernel allows tail calls from programs with functions.
        count_lost(Kind::FdOpen);
    }
}

/// Removes the thread's value and returns it if it was stored for this purpose.
#[inline(always)]
pub(crate) fn take(tid: u32, purpose: Purpose) -> Option<Pending> {
    take_any(tid).filter(|pending| pending.is_for(purpose))
}

/// Removes and returns the thread's value.
#[inline(always)]
pub(crate) fn take_any(tid: u32) -> Option<Pending> {
    // A lookup is cheaper than a removal, which takes a lock, and usually finds no value.
    let pending = PENDING.get_ptr(tid)?;
    // SAFETY: the map returns pointers to its values, which outlive the program's run.
    let pending = unsafe { *pending };
    PENDING.remove(tid).ok()?;
    Some(pending)
}

impl Pending {
    #[inline(always)]
    pub(crate) fn is_for(&self, purpose: Purpose) -> bool {
        self.purpose == purpose as u32
    }
}
