//! Calls that return a new descriptor: `open` and its kin, the dup family, and all others.

use aya_ebpf::{
    macros::{map, tracepoint},
    maps::ProgramArray,
    programs::TracePointContext,
};
use fdwatch_common::{CLOEXEC, FdOpen, Header, Kind, Payload};

use crate::{
    detail::{tell_path_at_exit, tell_stack},
    kernel::{Caller, File, current_table, followed_caller},
    ring::reserve,
    syscall,
};

/// Exits of them all. Where one returns a descriptor that is not new, as `signalfd` may, this tells
/// nothing wrong: the number refers to what it says. That dup2 and dup3 close the number first
/// follows from its being open before.
#[tracepoint]
fn sys_exit_new_fd(ctx: TracePointContext) -> u32 {
    birth(&ctx);
    0
}

/// Tells of the descriptor that the call returns, if it does.
#[inline(always)]
pub(crate) fn birth(ctx: &TracePointContext) {
    if let (Ok(fd), Some(caller)) = (u32::try_from(syscall::result(ctx)), followed_caller()) {
        if caller.is_in_detail() {
            // SAFETY: the array is of programs of this kind.
            unsafe { BIRTH_IN_DETAIL.tail_call(ctx, 0) };
        }
        birth_of(caller, syscall::number(ctx), fd);
    }
}

/// Where [`birth_in_detail`] is. A program of its own, for that the others pay nothing for it.
#[map]
static BIRTH_IN_DETAIL: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The same, after where the thread is.
#[tracepoint]
fn birth_in_detail(ctx: TracePointContext) -> u32 {
    if let (Ok(fd), Some(caller)) = (u32::try_from(syscall::result(&ctx)), followed_caller()) {
        tell_path_at_exit(&ctx, caller);
        tell_stack(&ctx, caller, fd);
        birth_of(caller, syscall::number(&ctx), fd);
    }
    0
}

/// Tells of the descriptor `fd`, unless another thread has closed it already.
#[inline(always)]
pub(crate) fn birth_of(caller: Caller, call: u16, fd: u32) {
    birth_with(caller, call, fd, File::payload);
}

/// The same, where it is one of many.
#[inline(always)]
pub(crate) fn birth_of_many(caller: Caller, call: u16, fd: u32) {
    birth_with(caller, call, fd, File::read_payload);
}

/// Room in the ring is taken before the table is read: whoever changes the number after that comes
/// later in the ring, so that the last record of a number tells what it refers to last.
#[inline(always)]
fn birth_with(caller: Caller, call: u16, fd: u32, payload: impl Fn(File) -> Payload) {
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
        // From the table: what open was asked for is not in the description's flags, on 6.18 at least.
        flags: if table.closes_on_exec(fd) { CLOEXEC } else { 0 },
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
