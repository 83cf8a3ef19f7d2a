//! Calls that return a new descriptor: `open` and its kin, the dup family, and all others.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use fdwatch_common::{Birth, CLOEXEC, Header, Kind};

use crate::{
    kernel::{caller, current_table},
    ring::emit,
    syscall,
};

/// Exits of them all. Where one returns a descriptor that is not new, as `signalfd` may, this tells
/// nothing wrong: the number refers to what it says. That dup2 and dup3 close the number first
/// follows from its being open before.
#[tracepoint]
fn returned_descriptor(ctx: TracePointContext) -> u32 {
    birth(&ctx);
    0
}

/// Tells of the descriptor that the call returns, if it does.
#[inline(always)]
pub(crate) fn birth(ctx: &TracePointContext) {
    if let Ok(fd) = u32::try_from(syscall::result(ctx)) {
        birth_of(ctx, fd);
    }
}

/// Tells of the descriptor `fd`, unless another thread has closed it already.
#[inline(always)]
pub(crate) fn birth_of(ctx: &TracePointContext, fd: u32) {
    let Some(caller) = caller() else {
        return;
    };
    let table = current_table();
    let Some(file) = table.file(fd) else {
        return;
    };
    let header = Header {
        kind: Kind::Birth as u8,
        // From the table: what open was asked for is not in the description's flags, on 6.18 at least.
        flags: if table.closes_on_exec(fd) { CLOEXEC } else { 0 },
        call: syscall::number(ctx),
        fd,
        tid: caller.tid,
        tgid: caller.tgid,
    };
    emit(
        Kind::Birth,
        Birth {
            header,
            table: table.address(),
            payload: file.payload(),
        },
    );
}
