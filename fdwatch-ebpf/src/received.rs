//! Calls that write what they made to the caller's memory: pairs of descriptors, those that come
//! over a socket, and the pidfd of a new process.

use aya_ebpf::{
    helpers::bpf_probe_read_user,
    macros::{map, tracepoint},
    maps::{HashMap, ProgramArray},
    programs::TracePointContext,
};
use fdwatch_common::Kind;

use crate::{
    detail::tell_stack,
    kernel::{Caller, File, caller, current_table, followed_caller},
    open::{birth_of, birth_of_many},
    pending::{self, By},
    ring::count_lost,
    syscall,
};

/// Entries of pipe and pipe2.
#[tracepoint]
fn pipe_entered(ctx: TracePointContext) -> u32 {
    leave(&ctx, By::Pair, syscall::argument(&ctx, 0));
    0
}

/// Entry of socketpair.
#[tracepoint]
fn socketpair_entered(ctx: TracePointContext) -> u32 {
    leave(&ctx, By::Pair, syscall::argument(&ctx, 3));
    0
}

/// Exits of both.
#[tracepoint]
fn returned_pair(ctx: TracePointContext) -> u32 {
    let Some(caller) = followed_caller() else {
        return 0;
    };
    let Some(left) = pending::take(caller.tid, By::Pair) else {
        return 0;
    };
    if syscall::result(&ctx) < 0 {
        return 0;
    }
    let call = syscall::number(&ctx);
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(left.value as *const [u32; 2]) } {
        Ok([one, other]) => {
            if caller.is_in_detail() {
                tell_stack(&ctx, caller, one);
            }
            birth_of(caller, call, one);
            birth_of(caller, call, other);
        }
        Err(_) => count_lost(Kind::FdOpen),
    }
    0
}

/// include/uapi/linux/sched.h
const CLONE_PIDFD: u64 = 0x1000;

/// Entry of clone.
#[tracepoint]
fn sys_enter_clone(ctx: TracePointContext) -> u32 {
    if syscall::argument(&ctx, 0) & CLONE_PIDFD != 0 {
        leave(&ctx, By::Clone, syscall::argument(&ctx, 2));
    }
    0
}

/// Entry of clone3. The caller has just written its arguments, so that they can be read.
#[tracepoint]
fn sys_enter_clone3(ctx: TracePointContext) -> u32 {
    let arguments = syscall::argument(&ctx, 0) as *const [u64; 2];
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(arguments) } {
        Ok([flags, pidfd]) if flags & CLONE_PIDFD != 0 => leave(&ctx, By::Clone, pidfd),
        _ => {}
    }
    0
}

/// A process was made: tells of its pidfd if that was asked for. The kernel has written it by then
/// (`copy_process`, kernel/fork.c), and the exit may be far, as that of vfork is.
#[inline(always)]
pub(crate) fn pidfd_of_child() {
    let Some(caller) = caller() else { return };
    let Some(left) = pending::take(caller.tid, By::Clone) else {
        return;
    };
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(left.value as *const u32) } {
        Ok(pidfd) => birth_of(caller, left.call as u16, pidfd),
        Err(_) => count_lost(Kind::FdOpen),
    }
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

/// From one `struct mmsghdr` to the next.
const NEXT_HEADER: u64 = 64;

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

/// Where the look for descriptors in what a call has received has come to.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Walk {
    /// The next `struct user_msghdr`.
    header: u64,
    /// How many of them there are.
    headers: u64,
    /// The control messages of the one before.
    control: u64,
    control_end: u64,
    /// The next descriptor, and the end of those in its message.
    fd: u64,
    fds_end: u64,
    /// The end of that message.
    message_end: u64,
}

/// By thread: it was entered with room for descriptors, on a socket that they may come over.
#[map]
static RECEIVING: HashMap<u32, Walk> = HashMap::with_max_entries(16_384, 0);

/// Where [`received_more`] is, for the walk to go on in it.
#[map]
static RECEIVED: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Steps of the walk in one run of a program: the verifier walks through each. There may be 33 more
/// runs (`MAX_TAIL_CALL_CNT`, include/linux/bpf.h).
const STEPS: u32 = 24;

/// Entry of recvmsg: only of interest if there is room for control messages with a descriptor.
#[tracepoint]
fn sys_enter_recvmsg(ctx: TracePointContext) -> u32 {
    enter(&ctx, 1);
    0
}

/// Entry of recvmmsg: the first message tells for all, since programs prepare them alike.
#[tracepoint]
fn sys_enter_recvmmsg(ctx: TracePointContext) -> u32 {
    enter(&ctx, 0);
    0
}

/// `headers`: how many, if that is known already.
#[inline(always)]
fn enter(ctx: &TracePointContext, headers: u64) {
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
    if RECEIVING.insert(caller.tid, walk, 0).is_err() {
        count_lost(Kind::FdOpen);
    }
}

/// Exits of both: the kernel has set the length of what it wrote.
#[tracepoint]
fn returned_messages(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    let Some(walk) = RECEIVING.get_ptr_mut(caller.tid) else {
        return 0;
    };
    let result = syscall::result(&ctx);
    if result < 0 {
        let _ = RECEIVING.remove(caller.tid);
        return 0;
    }
    // SAFETY: the map gives pointers to its values, which outlive the program's run, and no other
    // program writes to this thread's.
    let walk = unsafe { &mut *walk };
    if walk.headers == 0 {
        walk.headers = result as u64;
    }
    go_on(&ctx, caller, walk);
    0
}

/// Goes on where the one before has left off.
#[tracepoint]
fn received_more(ctx: TracePointContext) -> u32 {
    let Some(caller) = caller() else { return 0 };
    let Some(walk) = RECEIVING.get_ptr_mut(caller.tid) else {
        return 0;
    };
    // SAFETY: as above.
    go_on(&ctx, caller, unsafe { &mut *walk });
    0
}

#[inline(always)]
fn go_on(ctx: &TracePointContext, caller: Caller, left: &mut Walk) {
    let call = syscall::number(ctx);
    let mut walk = *left;
    for _ in 0..STEPS {
        match walk.step() {
            Some(Step::Descriptor(fd)) => birth_of_many(caller, call, fd),
            Some(Step::Other) => {}
            None => {
                let _ = RECEIVING.remove(caller.tid);
                return;
            }
        }
    }
    *left = walk;
    // SAFETY: the array is of programs of this kind.
    unsafe { RECEIVED.tail_call(ctx, 0) };
    // Here only if it has been called too often.
    let _ = RECEIVING.remove(caller.tid);
    count_lost(Kind::FdOpen);
}

enum Step {
    Descriptor(u32),
    Other,
}

impl Walk {
    /// To the next descriptor, control message, or message; none, if that was all.
    #[inline(always)]
    fn step(&mut self) -> Option<Step> {
        if self.fd < self.fds_end {
            // SAFETY: the helper checks the address.
            let fd = unsafe { bpf_probe_read_user(self.fd as *const u32) };
            self.fd += 4;
            return Some(fd.map_or(Step::Other, Step::Descriptor));
        }
        // The next control message begins at a multiple of eight.
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
            // One that says it is shorter than it is would be come to again and again.
            return (message.len >= CONTROL_MESSAGE).then_some(Step::Other);
        }
        if self.headers == 0 {
            return None;
        }
        let next = control(self.header);
        self.headers -= 1;
        self.header += NEXT_HEADER;
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
fn leave(ctx: &TracePointContext, by: By, value: u64) {
    if let Some(caller) = caller() {
        pending::leave(caller.tid, by, syscall::number(ctx), value);
    }
}
