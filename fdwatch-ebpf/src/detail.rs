//! Detail of selected processes: call stacks, and path arguments of open calls.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_F_USER_STACK,
    helpers::generated::{bpf_get_stack, bpf_probe_read_user, bpf_probe_read_user_str},
    macros::tracepoint,
    programs::TracePointContext,
};
use fdwatch_common::{
    Header, INHERIT, Kind, MAX_FRAMES, MAX_PATH, MAX_PIECES, PIECE, Plain, Registers,
    RequestedPath, Stack, StackPiece,
};

use crate::{
    control::use_detail_allowance,
    kernel::{Caller, UserRegisters, main_stack_start, traced_caller},
    ring::{Room, count_lost, reserve, unread_bytes},
    settings::settings,
    syscall,
};

/// Records the thread's call stack, before the record it belongs to: frames as far as frame pointers
/// lead, then registers and stack memory, because most code is built without frame pointers.
#[inline(always)]
pub(crate) fn emit_stack(ctx: &TracePointContext, caller: Caller, fd: u32) {
    if !use_detail_allowance() {
        count_lost(Kind::Stack);
        return;
    }
    emit_frames(ctx, caller, fd);
    if let Some(registers) = UserRegisters::current()
        && emit_registers(ctx, caller, fd, registers)
    {
        emit_pieces(ctx, caller, fd, registers.sp);
    }
}

#[inline(always)]
fn emit_frames(ctx: &TracePointContext, caller: Caller, fd: u32) {
    let Some(mut room) = reserve_detail::<Stack>(Kind::Stack) else {
        return;
    };
    let record = room.as_mut_ptr();
    // SAFETY: there is room for the whole record, and for as many bytes as the helper may write.
    unsafe {
        let frames = (&raw mut (*record).frames).cast();
        let bytes = bpf_get_stack(
            ctx.as_ptr(),
            frames,
            MAX_FRAMES as u32 * 8,
            u64::from(BPF_F_USER_STACK),
        );
        (&raw mut (*record).header).write(header(ctx, Kind::Stack, caller, fd));
        (&raw mut (*record).len).write(if bytes > 0 { bytes as u32 / 8 } else { 0 });
        (&raw mut (*record).reserved).write(0);
    }
    room.submit();
}

/// Returns false if the ring is full.
#[inline(always)]
fn emit_registers(
    ctx: &TracePointContext,
    caller: Caller,
    fd: u32,
    UserRegisters { ip, sp, bp, lr, .. }: UserRegisters,
) -> bool {
    let Some(mut room) = reserve_for_unwinding::<Registers>(Kind::Registers) else {
        return false;
    };
    room.write(Registers {
        header: header(ctx, Kind::Registers, caller, fd),
        ip,
        sp,
        bp,
        lr,
    });
    room.submit();
    true
}

/// Number of pieces for processes whose children inherit flags.
const MAX_INHERITED_PIECES: u64 = 2;

/// Records stack memory, from the piece that contains `sp` towards the callers.
#[inline(always)]
fn emit_pieces(ctx: &TracePointContext, caller: Caller, fd: u32, sp: u64) {
    let begin = sp & !(PIECE as u64 - 1);
    let main_stack = main_stack_start();
    for i in 0..MAX_PIECES as u64 {
        let address = begin.wrapping_add(i * PIECE as u64);
        if i >= MAX_INHERITED_PIECES && caller.flags & INHERIT != 0 {
            // The reader stores these until the process exits.
            return;
        }
        if sp < main_stack && main_stack <= address {
            // Above this, there are only arguments and environment.
            return;
        }
        let Some(mut room) = reserve_for_unwinding::<StackPiece>(Kind::StackPiece) else {
            return;
        };
        let record = room.as_mut_ptr();
        // SAFETY: there is room for the whole record, and for as many bytes as the helper may write;
        // it checks the address.
        unsafe {
            let bytes = (&raw mut (*record).bytes).cast();
            if bpf_probe_read_user(bytes, PIECE as u32, address as *const _) != 0 {
                // The end of the stack.
                room.discard();
                return;
            }
            (&raw mut (*record).header).write(header(ctx, Kind::StackPiece, caller, fd));
            (&raw mut (*record).address).write(address);
        }
        room.submit();
    }
}

/// Records the path at the entry of open and creat. Attached only while detail is enabled: from
/// 6.19 on, the kernel copies the path for these tracepoints before any program runs.
#[tracepoint]
pub(crate) fn sys_enter_open_path(ctx: TracePointContext) -> u32 {
    emit_path_at_entry(&ctx, 0);
    0
}

/// Records the path at the entry of openat and openat2.
#[tracepoint]
pub(crate) fn sys_enter_openat_path(ctx: TracePointContext) -> u32 {
    emit_path_at_entry(&ctx, 1);
    0
}

#[inline(always)]
fn emit_path_at_entry(ctx: &TracePointContext, argument: usize) {
    let Some(caller) = traced_caller().filter(|caller| caller.wants_detail()) else {
        return;
    };
    if caller.flags & INHERIT != 0 && UserRegisters::have_arguments() {
        // Recorded at the exit.
        return;
    }
    emit_path(ctx, caller, syscall::argument(ctx, argument));
}

/// Records the path at the exit of an open call, for processes whose children inherit flags. At the
/// entry the path may not be in memory yet, for example at the start of a program; and other
/// processes would pay for programs on the entries.
#[inline(always)]
pub(crate) fn emit_path_at_exit(ctx: &TracePointContext, caller: Caller) {
    if caller.flags & INHERIT == 0 || !UserRegisters::have_arguments() {
        return;
    }
    let Some(registers) = UserRegisters::current() else {
        return;
    };
    let [first, second] = registers.arguments;
    match syscall::number(ctx) {
        OPEN | CREAT => emit_path(ctx, caller, first),
        OPENAT | OPENAT2 => emit_path(ctx, caller, second),
        _ => {}
    }
}

/// From arch/x86/entry/syscalls/syscall_64.tbl: arguments are available on x86 only.
const OPEN: u16 = 2;
const CREAT: u16 = 85;
const OPENAT: u16 = 257;
const OPENAT2: u16 = 437;

#[inline(always)]
fn emit_path(ctx: &TracePointContext, caller: Caller, path: u64) {
    if !use_detail_allowance() {
        count_lost(Kind::RequestedPath);
        return;
    }
    let Some(mut room) = reserve_detail::<RequestedPath>(Kind::RequestedPath) else {
        return;
    };
    let record = room.as_mut_ptr();
    // SAFETY: there is room for the whole record, and for as many bytes as the helper may write; it
    // checks the address.
    unsafe {
        let bytes = (&raw mut (*record).bytes).cast();
        let len = bpf_probe_read_user_str(bytes, MAX_PATH as u32, path as *const _);
        // The helper counts the NUL.
        let len = if len > 0 { len as u32 - 1 } else { 0 };
        (&raw mut (*record).header).write(Header {
            flags: RequestedPath::TRUNCATED
                .when(len == MAX_PATH as u32 - 1)
                .bits(),
            ..header(ctx, Kind::RequestedPath, caller, 0)
        });
        (&raw mut (*record).len).write(len);
        (&raw mut (*record).reserved).write(0);
    }
    room.submit();
}

/// Reserves room for detail, unless the ring is so full that events need it. Counts what is dropped.
#[inline(always)]
fn reserve_detail<T: Plain>(kind: Kind) -> Option<Room<T>> {
    reserve_below(kind, settings!(pause_at))
}

/// Reserves room for registers and stack memory. These are large, and are dropped earlier, so that
/// other detail still finds room.
#[inline(always)]
fn reserve_for_unwinding<T: Plain>(kind: Kind) -> Option<Room<T>> {
    reserve_below(kind, settings!(pause_at) / 2)
}

#[inline(always)]
fn reserve_below<T: Plain>(kind: Kind, limit: u32) -> Option<Room<T>> {
    if unread_bytes() < u64::from(limit) {
        reserve(kind)
    } else {
        count_lost(kind);
        None
    }
}

#[inline(always)]
fn header(ctx: &TracePointContext, kind: Kind, caller: Caller, fd: u32) -> Header {
    Header {
        kind: kind as u8,
        flags: 0,
        call: syscall::number(ctx),
        fd,
        tid: caller.tid,
        tgid: caller.tgid,
    }
}
