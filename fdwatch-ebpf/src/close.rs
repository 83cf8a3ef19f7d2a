//! close.

use aya_ebpf::{
    macros::{map, tracepoint},
    maps::{PerCpuArray, ProgramArray},
    programs::TracePointContext,
};
use fdwatch_common::{FdClose, Header, IN_A_ROW, Kind, SHARED_TABLE};

use crate::{
    detail::tell_stack,
    kernel::{Caller, caller, current_table, followed_caller},
    ring::emit,
    syscall,
};

/// At the entry, before the number can be given away again. Of closes of numbers that are not open
/// the first two in a row are told, for many programs close all there could be before they run
/// another; or all, where another thread may make the number before this call comes to closing it.
#[tracepoint]
fn sys_enter_close(ctx: TracePointContext) -> u32 {
    let Some(caller) = followed_caller() else {
        return 0;
    };
    if caller.is_in_detail_of_closes() {
        // SAFETY: the array is of programs of this kind.
        unsafe { DEATH_IN_DETAIL.tail_call(&ctx, 0) };
    }
    death(&ctx, caller, |_| ());
    0
}

/// Where [`death_in_detail`] is.
#[map]
static DEATH_IN_DETAIL: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same, after where the thread is.
#[tracepoint]
fn death_in_detail(ctx: TracePointContext) -> u32 {
    if let Some(caller) = caller() {
        death(&ctx, caller, |fd| tell_stack(&ctx, caller, fd));
    }
    0
}

/// The last close of a number that was not open, on this processor.
#[repr(C)]
struct Row {
    tid: u32,
    fd: u32,
    /// How many there were in a row.
    len: u32,
}

#[map]
static ROW: PerCpuArray<Row> = PerCpuArray::with_max_entries(1, 0);

/// Numbers are in a row if no more than so many are between: such as are open.
const REACH: u32 = 16;

/// Of a row, so many are told.
const TOLD_OF_ROW: u32 = 2;

/// Which one in a row this is; 0 for what is no number of a descriptor.
#[inline(always)]
fn row(caller: Caller, fd: u32) -> u32 {
    let Some(row) = ROW.get_ptr_mut(0) else {
        return 0;
    };
    if fd > i32::MAX as u32 {
        return 0;
    }
    // SAFETY: the map gives a pointer to this processor's own.
    let row = unsafe { &mut *row };
    let is_near = row.fd.wrapping_sub(fd).wrapping_add(REACH) <= 2 * REACH;
    let is_next = row.tid == caller.tid && is_near && row.fd != fd;
    row.len = if is_next { row.len + 1 } else { 1 };
    row.tid = caller.tid;
    row.fd = fd;
    row.len
}

/// The descriptor that is to be closed.
#[inline(always)]
fn number(ctx: &TracePointContext) -> u32 {
    syscall::argument(ctx, 0) as u32
}

#[inline(always)]
fn death(ctx: &TracePointContext, caller: Caller, before: impl Fn(u32)) {
    let (call, fd) = (syscall::number(ctx), number(ctx));
    let table = current_table();
    let file = table.file_address(fd);
    let is_shared = table.is_shared();
    let mut flags = if is_shared { SHARED_TABLE } else { 0 };
    if file == 0 {
        let row = row(caller, fd);
        if !is_shared && !(1..=TOLD_OF_ROW).contains(&row) {
            return;
        }
        if row > 1 {
            flags |= IN_A_ROW;
        }
    }
    before(fd);
    let header = Header {
        kind: Kind::FdClose as u8,
        flags,
        call,
        fd,
        tid: caller.tid,
        tgid: caller.tgid,
    };
    emit(
        Kind::FdClose,
        FdClose {
            header,
            table: table.address(),
            file,
        },
    );
}
