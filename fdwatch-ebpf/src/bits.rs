//! Calls after which the whole table is recorded: close_range, and unshare, which may give the thread
//! its own table.

use aya_ebpf::{
    macros::{map, tracepoint},
    maps::ProgramArray,
    programs::TracePointContext,
};
use fdwatch_common::{Bitmap, Kind};

use crate::{
    kernel::{Caller, caller, current_table},
    pending::{self, Purpose},
    process::emit_table_bits,
    ring::count_lost,
    syscall,
};

/// Holds [`sys_exit_table_bits_next`].
#[map]
pub(crate) static TABLE_BITS_NEXT: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Number of chunks in one run: 32,768 descriptors. There can be 33 more runs (`MAX_TAIL_CALL_CNT`,
/// include/linux/bpf.h), which is enough for the largest table that `fs.nr_open` allows by default.
/// The verifier does not know the first descriptor of a later run, and cannot check more chunks.
const CHUNKS: u32 = 16;

/// Records the table at the exit of close_range: recording the remaining descriptors is simpler
/// than recording the closed ones, and also correct for `CLOSE_RANGE_UNSHARE`.
#[tracepoint]
pub(crate) fn sys_exit_close_range(ctx: TracePointContext) -> u32 {
    if let (0, Some(caller)) = (syscall::result(&ctx), caller()) {
        emit_bitmaps(&ctx, caller, Purpose::OpenThenCloexecBits, 0);
    }
    0
}

/// Records the table even if it is the old one: unshare is rare.
#[tracepoint]
pub(crate) fn sys_exit_unshare(ctx: TracePointContext) -> u32 {
    if let (0, Some(caller)) = (syscall::result(&ctx), caller()) {
        emit_bitmaps(&ctx, caller, Purpose::OpenBits, 0);
    }
    0
}

/// Continues where one of the programs above, or a previous run of this one, stopped.
#[tracepoint]
pub(crate) fn sys_exit_table_bits_next(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    let Some(pending) = pending::take_any(caller.tid) else {
        return 0;
    };
    let first = pending.value as u32;
    if pending.is_for(Purpose::CloexecBits) {
        emit_bitmaps(&ctx, caller, Purpose::CloexecBits, first);
    } else if pending.is_for(Purpose::OpenBits) {
        emit_bitmaps(&ctx, caller, Purpose::OpenBits, first);
    } else {
        emit_bitmaps(&ctx, caller, Purpose::OpenThenCloexecBits, first);
    }
    0
}

#[inline(always)]
fn emit_bitmaps(ctx: &TracePointContext, caller: Caller, what: Purpose, first: u32) {
    let (table, call) = (current_table(), syscall::number(ctx));
    let bitmap = match what {
        Purpose::CloexecBits => Bitmap::CloseOnExec,
        _ => Bitmap::Open,
    };
    let (next, first) = match (
        emit_table_bits::<CHUNKS>(table, bitmap, first, caller, call),
        what,
    ) {
        (Some(first), _) => (what, first),
        (None, Purpose::OpenThenCloexecBits) => (Purpose::CloexecBits, 0),
        (None, _) => return,
    };
    pending::keep(caller.tid, next, call, first.into());
    // SAFETY: the array holds programs of this type.
    unsafe { TABLE_BITS_NEXT.tail_call(ctx, 0) };
    // Reached only if there were too many tail calls.
    pending::take_any(caller.tid);
    count_lost(Kind::TableBits);
}
