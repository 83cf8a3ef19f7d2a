//! Calls after which it is told what is in a table now: close_range, and unshare, after which the
//! thread may have a table of its own.

use aya_ebpf::{
    macros::{map, tracepoint},
    maps::ProgramArray,
    programs::TracePointContext,
};
use fdwatch_common::{Bitmap, Kind};

use crate::{
    kernel::{Caller, caller, current_table},
    pending::{self, By},
    process::emit_bits,
    ring::count_lost,
    syscall,
};

/// Where [`more_bits`] is, for what one run of a program cannot tell.
#[map]
static MORE_BITS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Chunks of a bitmap told in one run: 32,768 numbers. There may be 33 more runs, which is enough for
/// all that `fs.nr_open` allows by default; and from where a run goes on is not known to the
/// verifier, so that more than this are too many for it.
const CHUNKS: u32 = 16;

/// At the exit: what is left is easier told than what was closed, and it is right for
/// `CLOSE_RANGE_UNSHARE` as well.
#[tracepoint]
fn sys_exit_close_range(ctx: TracePointContext) -> u32 {
    if let (0, Some(caller)) = (syscall::result(&ctx), caller()) {
        tell(&ctx, caller, By::OpenThenCloseOnExec, 0);
    }
    0
}

/// Exit of unshare. Told even if the table is what it was, as this is rare.
#[tracepoint]
fn sys_exit_unshare(ctx: TracePointContext) -> u32 {
    if let (0, Some(caller)) = (syscall::result(&ctx), caller()) {
        tell(&ctx, caller, By::Open, 0);
    }
    0
}

/// Goes on where one of these, or this itself, has left off.
#[tracepoint]
fn more_bits(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    let Some(left) = pending::take_any(caller.tid) else {
        return 0;
    };
    let first = left.value as u32;
    if left.is_by(By::CloseOnExec) {
        tell(&ctx, caller, By::CloseOnExec, first);
    } else if left.is_by(By::Open) {
        tell(&ctx, caller, By::Open, first);
    } else {
        tell(&ctx, caller, By::OpenThenCloseOnExec, first);
    }
    0
}

#[inline(always)]
fn tell(ctx: &TracePointContext, caller: Caller, what: By, first: u32) {
    let (table, call) = (current_table(), syscall::number(ctx));
    let bitmap = match what {
        By::CloseOnExec => Bitmap::CloseOnExec,
        _ => Bitmap::Open,
    };
    let (next, first) = match (
        emit_bits::<CHUNKS>(table, bitmap, first, caller, call),
        what,
    ) {
        (Some(first), _) => (what, first),
        (None, By::OpenThenCloseOnExec) => (By::CloseOnExec, 0),
        (None, _) => return,
    };
    pending::leave(caller.tid, next, call, first.into());
    // SAFETY: the array is of programs of this kind.
    unsafe { MORE_BITS.tail_call(ctx, 0) };
    // Here only if it has been called too often.
    pending::take_any(caller.tid);
    count_lost(Kind::TableBits);
}
