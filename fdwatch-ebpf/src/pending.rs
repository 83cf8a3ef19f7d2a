//! What an entry leaves for its exit, by thread: only for calls whose result does not tell what
//! they made, and of these only if they made it.

use aya_ebpf::{EbpfContext, macros::map, maps::HashMap};
use aya_log_ebpf::warn;
use fdwatch_common::Kind;

use crate::ring::count_lost;

/// By thread. A thread that dies in its call leaves its entry behind, to be overwritten by the next
/// of that number.
#[map]
static PENDING: HashMap<u32, u64> = HashMap::with_max_entries(16_384, 0);

/// Leaves `value` for the exit of the call that the thread has entered.
#[inline(always)]
pub(crate) fn leave(ctx: &impl EbpfContext, tid: u32, value: u64) {
    if PENDING.insert(tid, value, 0).is_err() {
        count_lost(Kind::Birth);
        warn!(ctx, "too many threads make descriptors at once");
    }
}

/// What was left for the thread's exit, if anything was.
#[inline(always)]
pub(crate) fn take(tid: u32) -> Option<u64> {
    // To look is cheaper than to remove, which takes a lock, and mostly there is nothing.
    let value = PENDING.get_ptr(tid)?;
    // SAFETY: the map gives pointers to its values, which outlive the program's run.
    let value = unsafe { *value };
    PENDING.remove(tid).ok()?;
    Some(value)
}
