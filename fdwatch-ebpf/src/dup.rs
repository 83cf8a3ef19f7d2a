//! Changes of descriptors by fcntl and ioctl. [`crate::open`] handles dup, dup2 and dup3, which
//! return a descriptor.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use fdwatch_common::{Header, Kind, SetCloexec};

use crate::{
    kernel::{Caller, File, caller, current_table},
    open::emit_returned_fd,
    pending::{self, Purpose},
    ring::{emit, reserve},
    syscall,
};

/// include/uapi/asm-generic/fcntl.h and include/uapi/linux/fcntl.h.
const F_DUPFD: u64 = 0;
const F_SETFD: u64 = 2;
const F_DUPFD_CLOEXEC: u64 = 1030;
const FD_CLOEXEC: u64 = 1;

/// include/uapi/asm-generic/ioctls.h, used by all architectures with BPF.
const FIONCLEX: u64 = 0x5450;
const FIOCLEX: u64 = 0x5451;

/// Filters fcntl calls at the entry, where the command is known: most do not duplicate, and most of
/// those that set the close-on-exec flag do not change it. If other threads can set the flag as
/// well, the exit reads its value.
#[tracepoint]
pub(crate) fn sys_enter_fcntl(ctx: TracePointContext) -> u32 {
    let command = syscall::argument(&ctx, 1) & u64::from(u32::MAX);
    let purpose = match command {
        F_DUPFD | F_DUPFD_CLOEXEC => Purpose::Duplicate,
        F_SETFD => {
            let sets = syscall::argument(&ctx, 2) & FD_CLOEXEC != 0;
            if !current_table().is_shared() {
                emit_set_cloexec(&ctx, sets, false);
                return 0;
            }
            Purpose::SetCloexec
        }
        _ => return 0,
    };
    if let Some(caller) = caller() {
        let (call, fd) = (syscall::number(&ctx), syscall::argument(&ctx, 0));
        pending::keep(caller.tid, purpose, call, fd);
    }
    0
}

#[tracepoint]
pub(crate) fn sys_exit_fcntl(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    // A single lookup serves both purposes: a thread has one value.
    let Some(pending) = pending::take_any(caller.tid) else {
        return 0;
    };
    if pending.is_for(Purpose::Duplicate) {
        emit_returned_fd(&ctx);
    } else if pending.is_for(Purpose::SetCloexec) && syscall::result(&ctx) == 0 {
        emit_current_cloexec(caller, syscall::number(&ctx), pending.value as u32);
    }
    0
}

/// Records the flag's current value. Reserves room in the ring first: a thread that changes the flag
/// after that comes later in the ring.
#[inline(always)]
fn emit_current_cloexec(caller: Caller, call: u16, fd: u32) {
    let Some(mut room) = reserve::<SetCloexec>(Kind::SetCloexec) else {
        return;
    };
    let table = current_table();
    if fd >= table.capacity() {
        room.discard();
        return;
    }
    let closes = SetCloexec::CLOEXEC.when(table.closes_on_exec(fd));
    room.write(SetCloexec {
        header: Header {
            kind: Kind::SetCloexec as u8,
            flags: (closes | SetCloexec::SHARED_TABLE).bits(),
            call,
            fd,
            tid: caller.tid,
            tgid: caller.tgid,
        },
        table: table.address(),
    });
    room.submit();
}

/// Handles FIOCLEX and FIONCLEX, which set and clear the flag; Python uses them. Other ioctl calls
/// return after a check of the request.
#[tracepoint]
pub(crate) fn sys_enter_ioctl(ctx: TracePointContext) -> u32 {
    match syscall::argument(&ctx, 1) & u64::from(u32::MAX) {
        FIOCLEX => emit_set_cloexec(&ctx, true, true),
        FIONCLEX => emit_set_cloexec(&ctx, false, true),
        _ => {}
    }
    0
}

/// Records that the call sets the flag, at its entry. Most calls set a flag that is already set and
/// are skipped, unless the table is shared: another thread may change the flag back before this
/// call sets it. ioctl fails on O_PATH descriptors.
#[inline(always)]
fn emit_set_cloexec(ctx: &TracePointContext, set: bool, is_ioctl: bool) {
    let Some(caller) = caller() else { return };
    let fd = syscall::argument(ctx, 0) as u32;
    let table = current_table();
    let is_shared = table.is_shared();
    if fd >= table.capacity() || (table.closes_on_exec(fd) == set && !is_shared) {
        return;
    }
    if is_ioctl && table.file(fd).is_none_or(File::is_path_only) {
        return;
    }
    let flags = SetCloexec::CLOEXEC.when(set) | SetCloexec::SHARED_TABLE.when(is_shared);
    let header = Header {
        kind: Kind::SetCloexec as u8,
        flags: flags.bits(),
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
