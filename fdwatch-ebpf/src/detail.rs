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
    AskedPath, CUT, Header, INHERITED, Kind, MAX_FRAMES, MAX_MEMORY, MAX_PATH, Plain, Stack,
    StackMemory, TASK_REGISTERS,
};

use crate::{
    asked::take_allowance,
    kernel::{Caller, followed_caller, registers, settings},
    ring::{Room, count_lost, filled, reserve},
    syscall,
};

/// Tells where the thread is: before what it does is told.
#[inline(always)]
pub(crate) fn tell_stack(ctx: &TracePointContext, caller: Caller, fd: u32) {
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

/// Tells what is on the thread's stack, of those whose children inherit what is asked of them.
#[inline(always)]
pub(crate) fn tell_memory(ctx: &TracePointContext, caller: Caller, fd: u32) {
    if caller.asked & INHERITED == 0 {
        return;
    }
    let Some(registers) = registers() else { return };
    let Some(mut room) = room::<StackMemory>(Kind::StackMemory) else {
        return;
    };
    let record = room.as_mut_ptr();
    // SAFETY: there is room for the whole record, and for as many bytes as the helper is told of; it
    // checks the address.
    unsafe {
        let bytes = (&raw mut (*record).bytes).cast();
        let from = registers.sp as *const _;
        // Near its beginning the next page may not be in memory: there is a gap below the strings that
        // a program is given (`arch_align_stack`, arch/x86/kernel/process.c).
        let left_of_page = (PAGE - registers.sp % PAGE) as u32;
        let len = if bpf_probe_read_user(bytes, MAX_MEMORY as u32, from) == 0 {
            MAX_MEMORY as u32
        } else if left_of_page < MAX_MEMORY as u32
            && bpf_probe_read_user(bytes, left_of_page, from) == 0
        {
            left_of_page
        } else {
            0
        };
        (&raw mut (*record).header).write(header(ctx, Kind::StackMemory, caller, fd));
        (&raw mut (*record).ip).write(registers.ip);
        (&raw mut (*record).sp).write(registers.sp);
        (&raw mut (*record).bp).write(registers.bp);
        (&raw mut (*record).len).write(len);
        (&raw mut (*record).reserved).write(0);
    }
    room.submit();
}

/// `PAGE_SIZE`, where registers are told.
const PAGE: u64 = 4096;

/// Entries of the calls whose first argument is a path. Attached only while detail is wanted: the
/// kernel copies the path for these tracepoints before any program runs (6.19 and newer).
#[tracepoint]
fn path_asked(ctx: TracePointContext) -> u32 {
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
    if caller.asked & INHERITED != 0 && settings!(features) & TASK_REGISTERS != 0 {
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
    if caller.asked & INHERITED == 0 {
        return;
    }
    let Some(registers) = registers() else { return };
    let [first, second] = registers.arguments;
    match syscall::number(ctx) {
        OPEN | CREAT => tell_path_at(ctx, caller, first),
        OPENAT | OPENAT2 => tell_path_at(ctx, caller, second),
        _ => {}
    }
}

/// arch/x86/entry/syscalls/syscall_64.tbl: where registers are told.
const OPEN: u16 = 2;
const CREAT: u16 = 85;
const OPENAT: u16 = 257;
const OPENAT2: u16 = 437;

#[inline(always)]
fn tell_path_at(ctx: &TracePointContext, caller: Caller, path: u64) {
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
    if take_allowance() && filled() < u64::from(settings!(pause_at)) {
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
