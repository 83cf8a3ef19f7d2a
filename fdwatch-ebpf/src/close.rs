//! close.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use fdwatch_common::{Death, Header, Kind, SHARED_TABLE};

use crate::{
    detail::tell_stack,
    kernel::{current_table, followed_caller},
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
    let table = current_table();
    let fd = syscall::argument(&ctx, 0) as u32;
    let file = table.file_address(fd);
    let is_shared = table.is_shared();
    if file == 0 && !is_shared {
        return 0;
    }
    tell_stack(&ctx, caller, fd);
    let header = Header {
        kind: Kind::Death as u8,
        flags: if is_shared { SHARED_TABLE } else { 0 },
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
            file,
        },
    );
    0
}
