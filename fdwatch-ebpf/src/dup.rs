//! What fcntl and ioctl do to descriptors. dup, dup2 and dup3 return theirs as any other call does.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use fdwatch_common::{CLOEXEC, Header, Kind, SHARED_TABLE, SetCloexec};

use crate::{
    kernel::{Caller, File, caller, current_table},
    open::birth,
    pending::{self, By},
    ring::{emit, reserve},
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

/// Most fcntl calls do not duplicate, and only the entry knows. Nor do most change the flag that
/// they set; where other threads may set it as well, what came of it is seen at the exit.
#[tracepoint]
fn sys_enter_fcntl(ctx: TracePointContext) -> u32 {
    let command = syscall::argument(&ctx, 1) & u64::from(u32::MAX);
    let by = match command {
        F_DUPFD | F_DUPFD_CLOEXEC => By::Duplication,
        F_SETFD => {
            let sets = syscall::argument(&ctx, 2) & FD_CLOEXEC != 0;
            if !current_table().is_shared() {
                set_cloexec(&ctx, sets, false);
                return 0;
            }
            By::Flag
        }
        _ => return 0,
    };
    if let Some(caller) = caller() {
        let (call, fd) = (syscall::number(&ctx), syscall::argument(&ctx, 0));
        pending::leave(caller.tid, by, call, fd);
    }
    0
}

#[tracepoint]
fn sys_exit_fcntl(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    // One look for both: there is one entry for a thread.
    let Some(left) = pending::take_any(caller.tid) else {
        return 0;
    };
    if left.is_by(By::Duplication) {
        birth(&ctx);
    } else if left.is_by(By::Flag) && syscall::result(&ctx) == 0 {
        tell_flag(caller, syscall::number(&ctx), left.value as u32);
    }
    0
}

/// Tells what the flag is now. Room in the ring is taken first: whoever changes it after that comes
/// later in the ring.
#[inline(always)]
fn tell_flag(caller: Caller, call: u16, fd: u32) {
    let Some(mut room) = reserve::<SetCloexec>(Kind::SetCloexec) else {
        return;
    };
    let table = current_table();
    if fd >= table.capacity() {
        room.discard();
        return;
    }
    let closes = if table.closes_on_exec(fd) { CLOEXEC } else { 0 };
    room.write(SetCloexec {
        header: Header {
            kind: Kind::SetCloexec as u8,
            flags: closes | SHARED_TABLE,
            call,
            fd,
            tid: caller.tid,
            tgid: caller.tgid,
        },
        table: table.address(),
    });
    room.submit();
}

/// The other way to set and clear the flag, which Python takes. All other ioctl calls are over after
/// a look at the request.
#[tracepoint]
fn sys_enter_ioctl(ctx: TracePointContext) -> u32 {
    match syscall::argument(&ctx, 1) & u64::from(u32::MAX) {
        FIOCLEX => set_cloexec(&ctx, true, true),
        FIONCLEX => set_cloexec(&ctx, false, true),
        _ => {}
    }
    0
}

/// Told at the room, and only if it changes anything: most programs set what is set already. Where
/// another thread may change it back before this call comes to it, it is told in any case. ioctl
/// knows no descriptors that are only a path.
#[inline(always)]
fn set_cloexec(ctx: &TracePointContext, set: bool, is_ioctl: bool) {
    let Some(caller) = caller() else { return };
    let fd = syscall::argument(ctx, 0) as u32;
    let table = current_table();
    let is_shared = table.is_shared();
    if fd >= table.capacity() || (table.closes_on_exec(fd) == set && !is_shared) {
        return;
    }
    if is_ioctl && table.file(fd).is_none_or(File::is_only_a_path) {
        return;
    }
    let header = Header {
        kind: Kind::SetCloexec as u8,
        flags: if set { CLOEXEC } else { 0 } | if is_shared { SHARED_TABLE } else { 0 },
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
