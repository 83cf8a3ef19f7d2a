//! close, and close_range.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use fdwatch_common::{Bitmap, Death, Header, Kind};

use crate::{
    kernel::{caller, current_table},
    process::emit_bits,
    ring::emit,
    syscall,
};

/// At the entry, before the number can be given away again. A close of a number that is not open
/// tells nothing: many programs close all there could be before they run another.
#[tracepoint]
fn sys_enter_close(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    let table = current_table();
    let fd = syscall::argument(&ctx, 0) as u32;
    let Some(file) = table.file(fd) else { return 0 };
    let header = Header {
        kind: Kind::Death as u8,
        flags: 0,
        call: syscall::number(&ctx),
        fd,
        tid: caller.tid,
        tgid: caller.tgid,
    };
    emit(
        Kind::Death,
        Death {
            header,
            table: table.address(),
            file: file.0,
        },
    );
    0
}

/// At the exit: what is left is easier told than what was closed, and it is right for
/// `CLOSE_RANGE_UNSHARE` as well.
#[tracepoint]
fn sys_exit_close_range(ctx: TracePointContext) -> u32 {
    if syscall::result(&ctx) != 0 {
        return 0;
    }
    let Some(caller) = caller() else { return 0 };
    let (table, call) = (current_table(), syscall::number(&ctx));
    emit_bits(&ctx, table, Bitmap::Open, 0, caller, call);
    emit_bits(&ctx, table, Bitmap::CloseOnExec, 0, caller, call);
    0
}
