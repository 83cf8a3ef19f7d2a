//! What fcntl and ioctl do to descriptors. dup, dup2 and dup3 return theirs as any other call does.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use fdwatch_common::{CLOEXEC, Header, Kind, SetCloexec};

use crate::{
    kernel::{caller, current_table},
    open::birth,
    pending,
    ring::emit,
    syscall,
};

/// include/uapi/asm-generic/fcntl.h and include/uapi/linux/fcntl.h.
const F_DUPFD: u64 = 0;
const F_SETFD: u64 = 2;
const F_DUPFD_CLOEXEC: u64 = 1030;
const FD_CLOEXEC: u64 = 1;

/// include/uapi/asm-generic/ioctls.h, which all architectures with BPF in use have.
const FIONCLEX: u64 = 0x5450;
const FIOCLEX: u64 = 0x5451;

/// Most fcntl calls do not duplicate, and only the entry knows.
#[tracepoint]
fn sys_enter_fcntl(ctx: TracePointContext) -> u32 {
    match syscall::argument(&ctx, 1) & u64::from(u32::MAX) {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let Some(caller) = caller() else { return 0 };
            pending::leave(&ctx, caller.tid, 0);
        }
        F_SETFD => set_cloexec(&ctx, syscall::argument(&ctx, 2) & FD_CLOEXEC != 0),
        _ => {}
    }
    0
}

#[tracepoint]
fn sys_exit_fcntl(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    if pending::take(caller.tid).is_some() {
        birth(&ctx);
    }
    0
}

/// The other way to set and clear the flag, which Python takes. All other ioctl calls are over after
/// a look at the request.
#[tracepoint]
fn sys_enter_ioctl(ctx: TracePointContext) -> u32 {
    match syscall::argument(&ctx, 1) & u64::from(u32::MAX) {
        FIOCLEX => set_cloexec(&ctx, true),
        FIONCLEX => set_cloexec(&ctx, false),
        _ => {}
    }
    0
}

/// Told at the entry, and only if it changes anything: most programs set what is set already.
#[inline(always)]
fn set_cloexec(ctx: &TracePointContext, set: bool) {
    let Some(caller) = caller() else { return };
    let fd = syscall::argument(ctx, 0) as u32;
    let table = current_table();
    if fd >= table.capacity() || table.closes_on_exec(fd) == set {
        return;
    }
    let header = Header {
        kind: Kind::SetCloexec as u8,
        flags: if set { CLOEXEC } else { 0 },
        call: syscall::number(ctx),
        fd,
        tid: caller.tid,
        tgid: caller.tgid,
    };
    emit(
        Kind::SetCloexec,
        SetCloexec {
            header,
            table: table.address(),
        },
    );
}
