//! Detail, of those that it is wanted of: where in its program a thread is, and by which path it
//! opens something.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_F_USER_STACK,
    helpers::generated::{bpf_get_stack, bpf_probe_read_user, bpf_probe_read_user_str},
    macros::tracepoint,
    programs::TracePointContext,
};
use fdwatch_common::{
    AskedPath, CUT, Header, INHERITED, Kind, MAX_FRAMES, MAX_PATH, MAX_PIECES, PIECE, Plain,
    Registers, Stack, StackPiece,
};

use crate::{
    control::take_allowance,
    kernel::{Caller, UserRegisters, first_stack, followed_caller, settings},
    ring::{Room, count_lost, filled, reserve},
    syscall,
};

/// Tells where the thread is: before what it does is told. By frame pointers as far as these lead, and
/// what else it takes to go on without: code is mostly built without them.
#[inline(always)]
pub(crate) fn tell_stack(ctx: &TracePointContext, caller: Caller, fd: u32) {
    if !take_allowance() {
        count_lost(Kind::Stack);
        return;
    }
    tell_frames(ctx, caller, fd);
    if let Some(registers) = UserRegisters::current()
        && tell_registers(ctx, caller, fd, registers)
    {
        tell_pieces(ctx, caller, fd, registers.sp);
    }
}

#[inline(always)]
fn tell_frames(ctx: &TracePointContext, caller: Caller, fd: u32) {
    let Some(mut room) = room::<Stack>(Kind::Stack) else {
        return;
    };
    let record = room.as_mut_ptr();
    // SAFETY: there is room for the whole record, and for as many bytes as the helper is told of.
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

/// Whether there was room.
#[inline(always)]
fn tell_registers(
    ctx: &TracePointContext,
    caller: Caller,
    fd: u32,
    UserRegisters { ip, sp, bp, lr, .. }: UserRegisters,
) -> bool {
    let Some(mut room) = room_for_unwinding::<Registers>(Kind::Registers) else {
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

/// Pieces that are told of those whose children inherit what is asked of them.
const KEPT_PIECES: u64 = 2;

/// Tells what stands on the stack, from the piece that `sp` is in outwards.
#[inline(always)]
fn tell_pieces(ctx: &TracePointContext, caller: Caller, fd: u32, sp: u64) {
    let begin = sp & !(PIECE as u64 - 1);
    let first_stack = first_stack();
    for i in 0..MAX_PIECES as u64 {
        let address = begin.wrapping_add(i * PIECE as u64);
        if i >= KEPT_PIECES && caller.asked & INHERITED != 0 {
            // These are kept, until the process may have ended.
            return;
        }
        if sp < first_stack && first_stack <= address {
            // There is nothing more but arguments and environment.
            return;
        }
        let Some(mut room) = room_for_unwinding::<StackPiece>(Kind::StackPiece) else {
            return;
        };
        let record = room.as_mut_ptr();
        // SAFETY: there is room for the whole record, and for as many bytes as the helper is told of;
        // it checks the address.
        unsafe {
            let bytes = (&raw mut (*record).bytes).cast();
            if bpf_probe_read_user(bytes, PIECE as u32, address as *const _) != 0 {
                // That is the end of the stack.
                room.discard();
                return;
            }
            (&raw mut (*record).header).write(header(ctx, Kind::StackPiece, caller, fd));
            (&raw mut (*record).address).write(address);
        }
        room.submit();
    }
}

/// Entries of the calls whose first argument is a path. Attached only while detail is wanted: the
/// kernel copies the path for these tracepoints before any program runs (6.19 and newer).
#[tracepoint]
fn sys_enter_open_path(ctx: TracePointContext) -> u32 {
    tell_path(&ctx, 0);
    0
}

/// Entries of those whose second is one, after a directory.
#[tracepoint]
fn path_asked_at(ctx: TracePointContext) -> u32 {
    tell_path(&ctx, 1);
    0
}

#[inline(always)]
fn tell_path(ctx: &TracePointContext, argument: usize) {
    let Some(caller) = followed_caller().filter(|caller| caller.is_in_detail()) else {
        return;
    };
    if caller.asked & INHERITED != 0 && UserRegisters::have_arguments() {
        // It is told at the exit.
        return;
    }
    tell_path_at(ctx, caller, syscall::argument(ctx, argument));
}

/// At the exit of a call that may have opened something: the path that was asked for, of those whose
/// children inherit what is asked of them. At the entry it may not be in memory yet, as where a
/// program has just begun; and no one else is to pay for programs on the entries.
#[inline(always)]
pub(crate) fn tell_path_at_exit(ctx: &TracePointContext, caller: Caller) {
    if caller.asked & INHERITED == 0 || !UserRegisters::have_arguments() {
        return;
    }
    let Some(registers) = UserRegisters::current() else {
        return;
    };
    let [first, second] = registers.arguments;
    match syscall::number(ctx) {
        OPEN | CREAT => tell_path_at(ctx, caller, first),
        OPENAT | OPENAT2 => tell_path_at(ctx, caller, second),
        _ => {}
    }
}

/// arch/x86/entry/syscalls/syscall_64.tbl: where arguments are known.
const OPEN: u16 = 2;
const CREAT: u16 = 85;
const OPENAT: u16 = 257;
const OPENAT2: u16 = 437;

#[inline(always)]
fn tell_path_at(ctx: &TracePointContext, caller: Caller, path: u64) {
    if !take_allowance() {
        count_lost(Kind::AskedPath);
        return;
    }
    let Some(mut room) = room::<AskedPath>(Kind::AskedPath) else {
        return;
    };
    let record = room.as_mut_ptr();
    // SAFETY: there is room for the whole record, and for as many bytes as the helper is told of; it
    // checks the address.
    unsafe {
        let bytes = (&raw mut (*record).bytes).cast();
        let len = bpf_probe_read_user_str(bytes, MAX_PATH as u32, path as *const _);
        // With the byte that ends it.
        let len = if len > 0 { len as u32 - 1 } else { 0 };
        (&raw mut (*record).header).write(Header {
            flags: if len == MAX_PATH as u32 - 1 { CUT } else { 0 },
            ..header(ctx, Kind::AskedPath, caller, 0)
        });
        (&raw mut (*record).len).write(len);
        (&raw mut (*record).reserved).write(0);
    }
    room.submit();
}

/// Room for detail, unless what is to be told without it needs that. What is left out is counted.
#[inline(always)]
fn room<T: Plain>(kind: Kind) -> Option<Room<T>> {
    room_below(kind, settings!(pause_at))
}

/// The same for what it takes to unwind a stack, which is large: the other detail goes on without it.
#[inline(always)]
fn room_for_unwinding<T: Plain>(kind: Kind) -> Option<Room<T>> {
    room_below(kind, settings!(pause_at) / 2)
}

#[inline(always)]
fn room_below<T: Plain>(kind: Kind, most: u32) -> Option<Room<T>> {
    if filled() < u64::from(most) {
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
