//! Calls that return a new descriptor: `open` and its kin, and all others that make one.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use fdwatch_common::{Birth, CLOEXEC, Header, Kind};

use crate::{
    kernel::{Table, caller, current_table},
    ring::emit,
    syscall,
};

/// `O_CLOEXEC` of the architectures there is BPF for, include/uapi/asm-generic/fcntl.h.
const O_CLOEXEC: u32 = 0o2_000_000;

/// Exits of open, openat, openat2 and creat. What they were asked for is left in the description's
/// flags, close-on-exec among it.
#[tracepoint]
fn opened(ctx: TracePointContext) -> u32 {
    birth(&ctx, |_, _, flags| flags & O_CLOEXEC != 0);
    0
}

/// Exits of all other calls that return a new descriptor, the dup family among them. Where one
/// returns a descriptor that is not new, as `signalfd` may, this tells nothing wrong: the number
/// refers to what it says. That dup2 and dup3 close the number first follows from its being open
/// before.
#[tracepoint]
fn returned_descriptor(ctx: TracePointContext) -> u32 {
    birth(&ctx, |table, fd, _| table.closes_on_exec(fd));
    0
}

/// Tells of the descriptor that the call returns, if it does.
#[inline(always)]
pub(crate) fn birth(ctx: &TracePointContext, closes_on_exec: impl FnOnce(Table, u32, u32) -> bool) {
    if let Ok(fd) = u32::try_from(syscall::result(ctx)) {
        birth_of(ctx, fd, closes_on_exec);
    }
}

/// Tells of the descriptor `fd`, unless another thread has closed it already.
#[inline(always)]
pub(crate) fn birth_of(
    ctx: &TracePointContext,
    fd: u32,
    closes_on_exec: impl FnOnce(Table, u32, u32) -> bool,
) {
    let Some(caller) = caller() else {
        return;
    };
    let table = current_table();
    let Some(file) = table.file(fd) else {
        return;
    };
    let payload = file.payload();
    let header = Header {
        kind: Kind::Birth as u8,
        flags: if closes_on_exec(table, fd, payload.flags) {
            CLOEXEC
        } else {
            0
        },
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
            payload,
        },
    );
}
