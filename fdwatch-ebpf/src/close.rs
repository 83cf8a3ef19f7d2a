//! close.

use aya_ebpf::{
    macros::{map, tracepoint},
    maps::ProgramArray,
    programs::TracePointContext,
};
use fdwatch_common::{Death, Header, Kind, SHARED_TABLE};

use crate::{
    detail::tell_stack,
    kernel::{Caller, caller, current_table, followed_caller},
    ring::emit,
    syscall,
};

/// At the entry, before the number can be given away again. A close of a number that is not open
/// tells nothing, for many programs close all there could be before they run another; unless
/// another thread may make the number before this call comes to closing it.
#[tracepoint]
fn sys_enter_close(ctx: TracePointContext) -> u32 {
    let Some(caller) = followed_caller() else {
        return 0;
    };
    if caller.is_in_detail_of_closes() {
        // SAFETY: the array is of programs of this kind.
        unsafe { DEATH_IN_DETAIL.tail_call(&ctx, 0) };
    }
    death(&ctx, caller, || ());
    0
}

/// Where [`death_in_detail`] is.
#[map]
static DEATH_IN_DETAIL: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same, after where the thread is.
#[tracepoint]
fn death_in_detail(ctx: TracePointContext) -> u32 {
    if let Some(caller) = caller() {
        death(&ctx, caller, || tell_stack(&ctx, caller, number(&ctx)));
    }
    0
}

/// The descriptor that is to be closed.
#[inline(always)]
fn number(ctx: &TracePointContext) -> u32 {
    syscall::argument(ctx, 0) as u32
}

#[inline(always)]
fn death(ctx: &TracePointContext, caller: Caller, before: impl Fn()) {
    let table = current_table();
    let fd = number(ctx);
    let file = table.file_address(fd);
    let is_shared = table.is_shared();
    if file == 0 && !is_shared {
        return;
    }
    before();
    let header = Header {
        kind: Kind::Death as u8,
        flags: if is_shared { SHARED_TABLE } else { 0 },
        call: syscall::number(ctx),
        fd,
        tid: caller.tid,
        tgid: caller.tgid,
    };
    emit(
        Kind::Death,
        Death {
            header,
            table: table.address(),
            file,
        },
    );
}
