//! Calls that write new descriptors to the caller's memory: pairs of descriptors, those received over
//! a socket, and the pidfd of a new process.

use aya_ebpf::{
    helpers::bpf_probe_read_user,
    macros::{map, tracepoint},
    maps::{HashMap, ProgramArray},
    programs::TracePointContext,
};
use fdwatch_common::Kind;

use crate::{
    detail::emit_stack,
    kernel::{Caller, File, caller, current_table, traced_caller},
    open::{emit_fd_open, emit_fd_open_in_loop},
    pending::{self, Purpose},
    ring::count_lost,
    syscall,
};

/// Stores the address of the two descriptors at the entry of pipe and pipe2.
#[tracepoint]
pub(crate) fn sys_enter_pipe(ctx: TracePointContext) -> u32 {
    keep(&ctx, Purpose::FdPair, syscall::argument(&ctx, 0));
    0
}

#[tracepoint]
pub(crate) fn sys_enter_socketpair(ctx: TracePointContext) -> u32 {
    keep(&ctx, Purpose::FdPair, syscall::argument(&ctx, 3));
    0
}

/// Records both descriptors at the exit of pipe, pipe2 and socketpair.
#[tracepoint]
pub(crate) fn sys_exit_fd_pair(ctx: TracePointContext) -> u32 {
    let Some(caller) = traced_caller() else {
        return 0;
    };
    let Some(pending) = pending::take(caller.tid, Purpose::FdPair) else {
        return 0;
    };
    if syscall::result(&ctx) < 0 {
        return 0;
    }
    let call = syscall::number(&ctx);
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(pending.value as *const [u32; 2]) } {
        Ok([first, second]) => {
            if caller.wants_detail() {
                emit_stack(&ctx, caller, first);
            }
            emit_fd_open(caller, call, first);
            emit_fd_open(caller, call, second);
        }
        Err(_) => count_lost(Kind::FdOpen),
    }
    0
}

/// include/uapi/linux/sched.h
const CLONE_PIDFD: u64 = 0x1000;

#[tracepoint]
pub(crate) fn sys_enter_clone(ctx: TracePointContext) -> u32 {
    if syscall::argument(&ctx, 0) & CLONE_PIDFD != 0 {
        keep(&ctx, Purpose::Pidfd, syscall::argument(&ctx, 2));
    }
    0
}

/// Reads the arguments at the entry of clone3: the caller has just written them, so they are in
/// memory.
#[tracepoint]
pub(crate) fn sys_enter_clone3(ctx: TracePointContext) -> u32 {
    let arguments = syscall::argument(&ctx, 0) as *const [u64; 2];
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(arguments) } {
        Ok([flags, pidfd]) if flags & CLONE_PIDFD != 0 => keep(&ctx, Purpose::Pidfd, pidfd),
        _ => {}
    }
    0
}

/// Records the pidfd of a new process, if the caller requested one. The kernel has written it by then
/// (`copy_process`, kernel/fork.c). Not at the exit of the call, which vfork delays.
#[inline(always)]
pub(crate) fn emit_child_pidfd() {
    let Some(caller) = caller() else { return };
    let Some(pending) = pending::take(caller.tid, Purpose::Pidfd) else {
        return;
    };
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(pending.value as *const u32) } {
        Ok(pidfd) => emit_fd_open(caller, pending.call as u16, pidfd),
        Err(_) => count_lost(Kind::FdOpen),
    }
}

/// The control message fields of `struct user_msghdr`, include/linux/socket.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    address: u64,
    len: u64,
}

/// Offset of these fields.
const CONTROL: u64 = 32;

/// Size of a `struct mmsghdr`.
const MMSGHDR: u64 = 64;

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

/// The position in the search for descriptors in received messages.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Walk {
    /// The next `struct user_msghdr`.
    header: u64,
    /// Number of headers left.
    headers: u64,
    /// The control messages of the previous header.
    control: u64,
    control_end: u64,
    /// The next descriptor, and the end of the descriptors in its control message.
    fd: u64,
    fds_end: u64,
    /// The end of that control message.
    message_end: u64,
}

/// Walks by thread, for calls on a Unix socket with room for descriptors.
#[map]
static WALKS: HashMap<u32, Walk> = HashMap::with_max_entries(16_384, 0);

/// Holds [`sys_exit_recvmsg_next`].
#[map]
pub(crate) static RECVMSG_NEXT: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Number of steps in one run of a program: the verifier checks each. There can be 33 more runs
/// (`MAX_TAIL_CALL_CNT`, include/linux/bpf.h).
const STEPS: u32 = 24;

/// Skips calls without room for a control message with a descriptor.
#[tracepoint]
pub(crate) fn sys_enter_recvmsg(ctx: TracePointContext) -> u32 {
    start_walk(&ctx, 1);
    0
}

/// Checks the first header only: programs prepare all of them alike.
#[tracepoint]
pub(crate) fn sys_enter_recvmmsg(ctx: TracePointContext) -> u32 {
    start_walk(&ctx, 0);
    0
}

/// Prepares the walk at the entry. `headers` is the number of headers; 0 if the call's result
/// determines it.
#[inline(always)]
fn start_walk(ctx: &TracePointContext, headers: u64) {
    let header = syscall::argument(ctx, 1);
    if control(header).is_none_or(|control| control.len <= CONTROL_MESSAGE) {
        return;
    }
    let Some(caller) = caller() else { return };
    let fd = syscall::argument(ctx, 0) as u32;
    if !current_table().file(fd).is_some_and(File::is_unix_socket) {
        return;
    }
    let walk = Walk {
        header,
        headers,
        ..Walk::default()
    };
    if WALKS.insert(caller.tid, walk, 0).is_err() {
        count_lost(Kind::FdOpen);
    }
}

/// Records the received descriptors at the exit of recvmsg and recvmmsg, where the kernel has
/// updated the lengths of the control messages.
#[tracepoint]
pub(crate) fn sys_exit_recvmsg(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    let Some(walk) = WALKS.get_ptr_mut(caller.tid) else {
        return 0;
    };
    let result = syscall::result(&ctx);
    if result < 0 {
        let _ = WALKS.remove(caller.tid);
        return 0;
    }
    // SAFETY: the map returns pointers to its values, which outlive the program's run, and no other
    // program writes to this thread's value.
    let walk = unsafe { &mut *walk };
    if walk.headers == 0 {
        walk.headers = result as u64;
    }
    continue_walk(&ctx, caller, walk);
    0
}

/// Continues where the previous run stopped.
#[tracepoint]
pub(crate) fn sys_exit_recvmsg_next(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    let Some(walk) = WALKS.get_ptr_mut(caller.tid) else {
        return 0;
    };
    // SAFETY: as above.
    continue_walk(&ctx, caller, unsafe { &mut *walk });
    0
}

#[inline(always)]
fn continue_walk(ctx: &TracePointContext, caller: Caller, saved: &mut Walk) {
    let call = syscall::number(ctx);
    let mut walk = *saved;
    for _ in 0..STEPS {
        match walk.step() {
            Some(Step::Descriptor(fd)) => emit_fd_open_in_loop(caller, call, fd),
            Some(Step::Other) => {}
            None => {
                let _ = WALKS.remove(caller.tid);
                return;
            }
        }
    }
    *saved = walk;
    // SAFETY: the array holds programs of this type.
    unsafe { RECVMSG_NEXT.tail_call(ctx, 0) };
    // Reached only if there were too many tail calls.
    let _ = WALKS.remove(caller.tid);
    count_lost(Kind::FdOpen);
}

enum Step {
    Descriptor(u32),
    Other,
}

impl Walk {
    /// Steps to the next descriptor, control message or header; returns `None` at the end.
    #[inline(always)]
    fn step(&mut self) -> Option<Step> {
        if self.fd < self.fds_end {
            // SAFETY: the helper checks the address.
            let fd = unsafe { bpf_probe_read_user(self.fd as *const u32) };
            self.fd += 4;
            return Some(fd.map_or(Step::Other, Step::Descriptor));
        }
        // Control messages are aligned to 8 bytes.
        let at = (self.message_end + 7) & !7;
        if at + CONTROL_MESSAGE <= self.control_end {
            // SAFETY: the helper checks the address.
            let message = unsafe { bpf_probe_read_user(at as *const ControlMessage) };
            let Ok(message) = message else {
                count_lost(Kind::FdOpen);
                return None;
            };
            self.message_end = at + message.len;
            self.fd = at + CONTROL_MESSAGE;
            let has_fds = message.level == SOL_SOCKET
                && (message.kind == SCM_RIGHTS || message.kind == SCM_PIDFD);
            self.fds_end = if has_fds {
                self.message_end.min(self.control_end)
            } else {
                0
            };
            // A message shorter than its own header would cause an endless walk.
            return (message.len >= CONTROL_MESSAGE).then_some(Step::Other);
        }
        if self.headers == 0 {
            return None;
        }
        let next = control(self.header);
        self.headers -= 1;
        self.header += MMSGHDR;
        let Control { address, len } = next.unwrap_or(Control { address: 0, len: 0 });
        (self.message_end, self.control_end) = (address, address + len);
        Some(Step::Other)
    }
}

#[inline(always)]
fn control(header: u64) -> Option<Control> {
    // SAFETY: the helper checks the address.
    let control = unsafe { bpf_probe_read_user((header + CONTROL) as *const Control) }.ok()?;
    (control.address != 0).then_some(control)
}

#[inline(always)]
fn keep(ctx: &TracePointContext, purpose: Purpose, value: u64) {
    if let Some(caller) = caller() {
        pending::keep(caller.tid, purpose, syscall::number(ctx), value);
    }
}
