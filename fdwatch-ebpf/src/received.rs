//! Calls that write what they made to the caller's memory: pairs of descriptors, and those that
//! come over a socket.

use aya_ebpf::{helpers::bpf_probe_read_user, macros::tracepoint, programs::TracePointContext};
use fdwatch_common::Kind;

use crate::{kernel::caller, open::birth_of, pending, ring::count_lost, syscall};

/// Entries of pipe and pipe2.
#[tracepoint]
fn pipe_entered(ctx: TracePointContext) -> u32 {
    leave(&ctx, syscall::argument(&ctx, 0));
    0
}

/// Entry of socketpair.
#[tracepoint]
fn socketpair_entered(ctx: TracePointContext) -> u32 {
    leave(&ctx, syscall::argument(&ctx, 3));
    0
}

/// Exits of both.
#[tracepoint]
fn returned_pair(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    let Some(pair) = pending::take(caller.tid) else {
        return 0;
    };
    if syscall::result(&ctx) < 0 {
        return 0;
    }
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(pair as *const [u32; 2]) } {
        Ok([one, other]) => {
            birth_of(&ctx, one);
            birth_of(&ctx, other);
        }
        Err(_) => count_lost(Kind::Birth),
    }
    0
}

/// The part of `struct user_msghdr`, include/linux/socket.h, that is about control messages.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    address: u64,
    len: u64,
}

/// Where that part is.
const CONTROL: u64 = 32;

/// `struct cmsghdr`, include/linux/socket.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct ControlMessage {
    len: u64,
    level: u32,
    kind: u32,
}

const CONTROL_MESSAGE: u64 = 16;
const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
const SCM_PIDFD: u32 = 4;

/// Descriptors told of one message; of more, the loss is counted. Few send more than a handful, and
/// the verifier walks through each.
const MOST_RECEIVED: u32 = 24;

/// Entry of recvmsg: only of interest if there is room for control messages with a descriptor.
#[tracepoint]
fn sys_enter_recvmsg(ctx: TracePointContext) -> u32 {
    let header = syscall::argument(&ctx, 1);
    if control(header).is_some_and(|control| control.len > CONTROL_MESSAGE) {
        leave(&ctx, header);
    }
    0
}

/// Exit of recvmsg: the kernel has set the length of what it wrote.
#[tracepoint]
fn sys_exit_recvmsg(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    let Some(header) = pending::take(caller.tid) else {
        return 0;
    };
    if syscall::result(&ctx) < 0 {
        return 0;
    }
    let Some(control) = control(header) else {
        count_lost(Kind::Birth);
        return 0;
    };
    // Where the next descriptor or the next message is, and where the message it is in ends.
    let (mut at, mut end) = (0, 0);
    let mut message_end = 0;
    for _ in 0..MOST_RECEIVED {
        if at >= end {
            // The next message begins at a multiple of eight.
            at = (message_end + 7) & !7;
            if at + CONTROL_MESSAGE > control.len {
                return 0;
            }
            let message = control.address + at;
            // SAFETY: the helper checks the address.
            let message = unsafe { bpf_probe_read_user(message as *const ControlMessage) };
            let Ok(message) = message else {
                count_lost(Kind::Birth);
                return 0;
            };
            message_end = at + message.len;
            at += CONTROL_MESSAGE;
            end = if message.level == SOL_SOCKET
                && (message.kind == SCM_RIGHTS || message.kind == SCM_PIDFD)
            {
                message_end
            } else {
                at
            };
        } else {
            // SAFETY: the helper checks the address.
            let fd = unsafe { bpf_probe_read_user((control.address + at) as *const u32) };
            at += 4;
            if let Ok(fd) = fd {
                birth_of(&ctx, fd);
            }
        }
    }
    count_lost(Kind::Birth);
    0
}

#[inline(always)]
fn control(header: u64) -> Option<Control> {
    // SAFETY: the helper checks the address.
    let control = unsafe { bpf_probe_read_user((header + CONTROL) as *const Control) }.ok()?;
    (control.address != 0).then_some(control)
}

#[inline(always)]
fn leave(ctx: &TracePointContext, value: u64) {
    if let Some(caller) = caller() {
        pending::leave(ctx, caller.tid, value);
    }
}
