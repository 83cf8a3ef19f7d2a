//! The close system call.

use aya_ebpf::{
    macros::{map, tracepoint},
    maps::{PerCpuArray, ProgramArray},
    programs::TracePointContext,
};
use fdwatch_common::{FdClose, Header, Kind};

use crate::{
    detail::emit_stack,
    kernel::{Caller, caller, current_table, traced_caller},
    ring::emit,
    syscall,
};

/// Records a close at its entry, before the number can be reused. Many programs close every
/// possible descriptor before they execute another program: of such a loop, only the first two
/// closes of descriptors that are not open are recorded. If the table is shared, all of them are,
/// because another thread may open the descriptor before this call closes it.
#[tracepoint]
pub(crate) fn sys_enter_close(ctx: TracePointContext) -> u32 {
    let Some(caller) = traced_caller() else {
        return 0;
    };
    if caller.wants_close_detail() {
        // SAFETY: the array holds programs of this type.
        unsafe { CLOSE_DETAIL.tail_call(&ctx, 0) };
    }
    emit_fd_close(&ctx, caller, |_| ());
    0
}

/// Holds [`sys_enter_close_detail`].
#[map]
pub(crate) static CLOSE_DETAIL: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Records a close with its stack. A separate program, so that closes without detail do not pay for
/// it.
#[tracepoint]
pub(crate) fn sys_enter_close_detail(ctx: TracePointContext) -> u32 {
    if let Some(caller) = caller() {
        emit_fd_close(&ctx, caller, |fd| emit_stack(&ctx, caller, fd));
    }
    0
}

/// The last close of a descriptor that was not open, on this processor.
#[repr(C)]
struct InvalidClose {
    tid: u32,
    fd: u32,
    /// Length of the run of such closes.
    run: u32,
}

#[map]
static INVALID_CLOSE: PerCpuArray<InvalidClose> = PerCpuArray::with_max_entries(1, 0);

/// Closes belong to one run if their numbers are at most this far apart. Open ones are in between.
const MAX_GAP: u32 = 16;

/// Maximum number of closes recorded of one run.
const MAX_RECORDED: u32 = 2;

/// Returns the position of the close in its run, counted from 1; 0 if `fd` is not a valid number.
#[inline(always)]
fn position_in_run(caller: Caller, fd: u32) -> u32 {
    let Some(last) = INVALID_CLOSE.get_ptr_mut(0) else {
        return 0;
    };
    if fd > i32::MAX as u32 {
        return 0;
    }
    // SAFETY: the map returns a pointer to this processor's own value.
    let last = unsafe { &mut *last };
    let is_near = last.fd.wrapping_sub(fd).wrapping_add(MAX_GAP) <= 2 * MAX_GAP;
    let continues = last.tid == caller.tid && is_near && last.fd != fd;
    last.run = if continues { last.run + 1 } else { 1 };
    last.tid = caller.tid;
    last.fd = fd;
    last.run
}

#[inline(always)]
fn emit_fd_close(ctx: &TracePointContext, caller: Caller, before: impl Fn(u32)) {
    let (call, fd) = (syscall::number(ctx), syscall::argument(ctx, 0) as u32);
    let table = current_table();
    let file = table.file_address(fd);
    let is_shared = table.is_shared();
    let mut flags = FdClose::SHARED_TABLE.when(is_shared);
    if file == 0 {
        let position = position_in_run(caller, fd);
        if !is_shared && !(1..=MAX_RECORDED).contains(&position) {
            return;
        }
        flags = flags | FdClose::CONSECUTIVE.when(position > 1);
    }
    before(fd);
    let header = Header {
        kind: Kind::FdClose as u8,
        flags: flags.bits(),
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
