//! Calls that return a new descriptor: `open` and its variants, the dup family, and others.

use aya_ebpf::{
    macros::{map, tracepoint},
    maps::ProgramArray,
    programs::TracePointContext,
};
use fdwatch_common::{FdOpen, Header, Kind, Payload};

use crate::{
    detail::{emit_path_at_exit, emit_stack},
    kernel::{Caller, File, current_table, traced_caller},
    ring::reserve,
    syscall,
};

/// Records the result at the exit of all these calls. If a call returns an existing descriptor, as
/// `signalfd` may, the record is still correct: it describes what the descriptor refers to. dup2
/// and dup3 first close an open descriptor; the reader derives that from its own table.
#[tracepoint]
pub(crate) fn sys_exit_new_fd(ctx: TracePointContext) -> u32 {
    emit_returned_fd(&ctx);
    0
}

/// Records the descriptor that the call returns, if it succeeds.
#[inline(always)]
pub(crate) fn emit_returned_fd(ctx: &TracePointContext) {
    if let (Ok(fd), Some(caller)) = (u32::try_from(syscall::result(ctx)), traced_caller()) {
        if caller.wants_detail() {
            // SAFETY: the array holds programs of this type.
            unsafe { NEW_FD_DETAIL.tail_call(ctx, 0) };
        }
        emit_fd_open(caller, syscall::number(ctx), fd);
    }
}

/// Holds [`sys_exit_new_fd_detail`].
#[map]
pub(crate) static NEW_FD_DETAIL: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Records the result with the path and the stack. A separate program, so that calls without detail
/// do not pay for it.
#[tracepoint]
pub(crate) fn sys_exit_new_fd_detail(ctx: TracePointContext) -> u32 {
    if let (Ok(fd), Some(caller)) = (u32::try_from(syscall::result(&ctx)), traced_caller()) {
        emit_path_at_exit(&ctx, caller);
        emit_stack(&ctx, caller, fd);
        emit_fd_open(caller, syscall::number(&ctx), fd);
    }
    0
}

/// Records the descriptor `fd`, unless another thread has closed it already.
#[inline(always)]
pub(crate) fn emit_fd_open(caller: Caller, call: u16, fd: u32) {
    emit_fd_open_with(caller, call, fd, File::payload);
}

/// As [`emit_fd_open`], for use in a loop: slower to run, and faster to verify.
#[inline(always)]
pub(crate) fn emit_fd_open_in_loop(caller: Caller, call: u16, fd: u32) {
    emit_fd_open_with(caller, call, fd, File::copy_payload);
}

/// Reserves room in the ring before it reads the table: a thread that changes the descriptor after
/// that comes later in the ring, so that the last record of a descriptor is its last state.
#[inline(always)]
fn emit_fd_open_with(caller: Caller, call: u16, fd: u32, payload: impl Fn(File) -> Payload) {
    let Some(mut room) = reserve::<FdOpen>(Kind::FdOpen) else {
        return;
    };
    let table = current_table();
    let Some(file) = table.file(fd) else {
        room.discard();
        return;
    };
    let header = Header {
        kind: Kind::FdOpen as u8,
        // From the table: the description's flags lack O_CLOEXEC, on 6.18 at least.
        flags: FdOpen::CLOEXEC.when(table.closes_on_exec(fd)).bits(),
        call,
        fd,
        tid: caller.tid,
        tgid: caller.tgid,
    };
    room.write(FdOpen {
        header,
        table: table.address(),
        payload: payload(file),
    });
    room.submit();
}
