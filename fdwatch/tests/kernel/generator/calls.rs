//! The calls, with their weights.

use std::mem;

use super::{actor::Actor, guests, none};
use crate::messages::{self, receive, receive_into, receive_several, send};

type Call = fn(&mut Actor);

/// Calls of guests, with their weights.
const SIMPLE: &[(u32, Call)] = &[
    (60, close),
    (20, open),
    (6, open_otherwise),
    (10, dup),
    (14, dup2),
    (6, dup3),
    (10, fcntl_dupfd),
    (10, set_flag),
    (6, set_flag_by_ioctl),
    (1, close_range),
    (2, close_range_on_exec),
    (6, pipe),
    (5, socketpair),
    (3, accept),
    (10, make_other),
    (4, make_rare),
    (2, pidfd),
    (6, message),
    (2, messages_at_once),
];

/// Calls of actors only.
const FOR_ACTORS: &[(u32, Call)] = &[
    (300, simple),
    (4, guests::make),
    (4, guests::make_short_lived),
    (1, unshare),
];

pub(super) fn random_call(actor: &mut Actor) {
    choose(actor, FOR_ACTORS)(actor);
}

fn simple(actor: &mut Actor) {
    choose(actor, SIMPLE)(actor);
}

pub(super) fn random_simple_call(actor: &mut Actor) {
    simple(actor);
}

fn choose(actor: &mut Actor, calls: &[(u32, Call)]) -> Call {
    let sum = calls.iter().map(|&(weight, _)| weight).sum();
    let mut at = actor.random.below(sum);
    for &(weight, call) in calls {
        if at < weight {
            return call;
        }
        at -= weight;
    }
    unreachable!("the number is below the sum of the weights");
}

/// Makes a call that returns a descriptor.
macro_rules! make {
    ($actor:ident, $call:expr) => {{
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_lossless,
            reason = "descriptors and error codes are of any integer type"
        )]
        // SAFETY: pointers are null or valid until the call returns; no code relies on the descriptors of
        // these processes.
        let fd = unsafe { $call } as i64 as i32;
        $actor.made(fd);
        fd
    }};
}

fn close(actor: &mut Actor) {
    let fd = actor.some_fd();
    actor.called();
    // SAFETY: no code relies on the descriptor.
    unsafe { libc::close(fd) };
}

fn open(actor: &mut Actor) {
    let file = &actor.shared.places.files[actor.random.below(8) as usize];
    let flags = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR][actor.random.below(3) as usize]
        | actor.random.maybe(libc::O_CLOEXEC)
        | actor.random.maybe(libc::O_APPEND)
        | libc::O_CREAT;
    make!(actor, libc::open(file.as_ptr(), flags, 0o600));
}

fn open_otherwise(actor: &mut Actor) {
    let places = &actor.shared.places;
    let file = places.files[0].as_ptr();
    let directory = places.directory.as_ptr();
    let cloexec = actor.random.maybe(libc::O_CLOEXEC);
    match actor.random.below(6) {
        0 => make!(actor, libc::creat(file, 0o600)),
        1 => make!(actor, libc::open(file, libc::O_PATH | cloexec)),
        2 => make!(
            actor,
            libc::open(directory, libc::O_TMPFILE | libc::O_RDWR | cloexec, 0o600)
        ),
        3 => make!(actor, libc::open(directory, libc::O_DIRECTORY | cloexec)),
        4 => make!(actor, libc::open(c"/no/such/file".as_ptr(), cloexec)),
        _ => {
            // `struct open_how`, include/uapi/linux/openat2.h, since 5.6.
            let how = [(libc::O_RDWR | libc::O_CREAT | cloexec) as u64, 0o600, 0];
            make!(
                actor,
                libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, file, &raw const how, 24)
            )
        }
    };
}

fn dup(actor: &mut Actor) {
    let fd = actor.some_fd();
    make!(actor, libc::dup(fd));
}

fn dup2(actor: &mut Actor) {
    let (fd, to) = (actor.some_fd(), actor.some_fd());
    make!(actor, libc::dup2(fd, to));
}

fn dup3(actor: &mut Actor) {
    let (fd, to) = (actor.some_fd(), actor.some_fd());
    let flags = actor.random.maybe(libc::O_CLOEXEC);
    make!(actor, libc::dup3(fd, to, flags));
}

fn fcntl_dupfd(actor: &mut Actor) {
    let (fd, from) = (actor.some_fd(), actor.some_fd());
    let command = if actor.random.one_in(2) {
        libc::F_DUPFD
    } else {
        libc::F_DUPFD_CLOEXEC
    };
    make!(actor, libc::fcntl(fd, command, from));
}

fn set_flag(actor: &mut Actor) {
    let fd = actor.some_fd();
    let flag = actor.random.maybe(libc::FD_CLOEXEC);
    actor.called();
    // SAFETY: the call takes no pointers.
    unsafe { libc::fcntl(fd, libc::F_SETFD, flag) };
}

fn set_flag_by_ioctl(actor: &mut Actor) {
    let fd = actor.some_fd();
    let request = if actor.random.one_in(2) {
        libc::FIOCLEX
    } else {
        libc::FIONCLEX
    };
    actor.called();
    // SAFETY: the call takes no pointers.
    unsafe { libc::ioctl(fd, request) };
}

/// include/uapi/linux/close_range.h
const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

fn close_range(actor: &mut Actor) {
    range(actor, 0);
}

fn close_range_on_exec(actor: &mut Actor) {
    range(actor, CLOSE_RANGE_CLOEXEC);
}

pub(super) fn close_range_unshared(actor: &mut Actor) {
    let flags = CLOSE_RANGE_UNSHARE
        | if actor.random.one_in(2) {
            CLOSE_RANGE_CLOEXEC
        } else {
            0
        };
    range(actor, flags);
}

fn range(actor: &mut Actor, flags: u32) {
    let first = actor.some_fd();
    let last = if actor.random.one_in(4) {
        i32::MAX
    } else {
        first.saturating_add(actor.random.below(40) as i32)
    };
    actor.called();
    // SAFETY: the call takes no pointers. Since 5.9.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

fn pipe(actor: &mut Actor) {
    let mut ends = [-1; 2];
    let flags = actor.random.maybe(libc::O_CLOEXEC) | actor.random.maybe(libc::O_NONBLOCK);
    // SAFETY: the array has room for two.
    unsafe { libc::pipe2(ends.as_mut_ptr(), flags) };
    actor.made(ends[0]);
    actor.made(ends[1]);
}

fn sockets(actor: &mut Actor) -> [i32; 2] {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_STREAM | actor.random.maybe(libc::SOCK_CLOEXEC);
    // SAFETY: the array has room for two.
    unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    actor.made(ends[0]);
    actor.made(ends[1]);
    ends
}

fn socketpair(actor: &mut Actor) {
    sockets(actor);
}

/// Makes a listener, a connection to it, and the accepted socket. None may block: another thread may replace
/// any of these descriptors.
fn accept(actor: &mut Actor) {
    const KIND: i32 = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
    let listener = make!(actor, libc::socket(libc::AF_UNIX, KIND, 0));
    // SAFETY: zeroes are a valid address.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as _;
    let mut len = size_of::<libc::sa_family_t>() as libc::socklen_t;
    let at = (&raw mut address).cast();
    // SAFETY: the address and its length live until the calls return.
    unsafe {
        // Only the family: the kernel chooses a name.
        libc::bind(listener, at, len);
        libc::listen(listener, 1);
        len = size_of_val(&address) as _;
        libc::getsockname(listener, at, &raw mut len);
    }
    let client = make!(actor, libc::socket(libc::AF_UNIX, KIND, 0));
    // SAFETY: as above.
    unsafe { libc::connect(client, at, len) };
    if actor.random.one_in(2) {
        make!(actor, libc::accept(listener, none(), none()));
    } else {
        make!(
            actor,
            libc::accept4(listener, none(), none(), libc::SOCK_CLOEXEC)
        );
    }
}

fn make_other(actor: &mut Actor) {
    let cloexec = actor.random.maybe(libc::O_CLOEXEC);
    match actor.random.below(6) {
        0 => make!(actor, libc::eventfd(0, cloexec)),
        1 => make!(actor, libc::epoll_create1(cloexec)),
        2 => make!(actor, libc::timerfd_create(libc::CLOCK_MONOTONIC, cloexec)),
        3 => make!(actor, libc::inotify_init1(cloexec)),
        4 => make!(
            actor,
            libc::memfd_create(c"memory".as_ptr(), u32::from(cloexec != 0))
        ),
        _ => {
            // Creates one, or changes that of the other number.
            let fd = if actor.random.one_in(2) {
                -1
            } else {
                actor.some_fd()
            };
            let signals = 0u64;
            make!(
                actor,
                libc::syscall(libc::SYS_signalfd4, fd, &raw const signals, 8, cloexec)
            )
        }
    };
}

/// Makes a call that some kernels lack or forbid.
fn make_rare(actor: &mut Actor) {
    let places = &actor.shared.places;
    let directory = places.directory.as_ptr();
    match actor.random.below(10) {
        0 => make!(actor, libc::fanotify_init(libc::FAN_CLOEXEC, 0)),
        1 => make!(
            actor,
            libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK)
        ),
        2 => {
            // `struct perf_event_attr`: a CPU's clock, as a software event. Not one of a task: with the first
            // and after the last of these the kernel patches its scheduler, which emulated SMP machines do
            // not always survive (an unexpected `int3`).
            let mut attributes = [0u32; 32];
            attributes[0] = 1;
            attributes[1] = size_of_val(&attributes) as u32;
            make!(
                actor,
                libc::syscall(
                    libc::SYS_perf_event_open,
                    &raw const attributes,
                    -1,
                    0,
                    -1,
                    8
                )
            )
        }
        3 => {
            // `union bpf_attr`, for an array of one element.
            let attributes = [2u32, 4, 4, 1, 0, 0, 0, 0];
            make!(
                actor,
                libc::syscall(libc::SYS_bpf, 0, &raw const attributes, 32)
            )
        }
        4 => by_handle(actor),
        5 => make!(
            actor,
            libc::syscall(
                libc::SYS_open_tree,
                libc::AT_FDCWD,
                directory,
                actor.random.maybe(1) | libc::O_CLOEXEC
            )
        ),
        6 => {
            let fs = make!(actor, libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 1));
            const FSCONFIG_CMD_CREATE: i32 = 6;
            // SAFETY: all pointers are null.
            unsafe { libc::syscall(libc::SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0) };
            make!(actor, libc::syscall(libc::SYS_fsmount, fs, 1, 0))
        }
        7 => {
            // `struct landlock_ruleset_attr`, with file reads.
            let attributes = 4u64;
            make!(
                actor,
                libc::syscall(
                    libc::SYS_landlock_create_ruleset,
                    &raw const attributes,
                    8,
                    0
                )
            )
        }
        8 => {
            const QUEUE: &std::ffi::CStr = c"/fdwatch-test";
            let flags = libc::O_RDWR | libc::O_CREAT;
            let queue = make!(actor, libc::mq_open(QUEUE.as_ptr(), flags, 0o600, 0));
            // SAFETY: the name lives until the call returns.
            unsafe { libc::mq_unlink(QUEUE.as_ptr()) };
            queue
        }
        _ => {
            // `struct io_uring_params`
            let mut parameters = [0u32; 30];
            make!(
                actor,
                libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters)
            )
        }
    };
}

/// `struct file_handle`, with room for the largest.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    handle: [u8; 128],
}

fn by_handle(actor: &mut Actor) -> i32 {
    let file = actor.shared.places.files[0].as_ptr();
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        handle: [0; _],
    };
    let mut mount = 0;
    // SAFETY: all pointees live until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            file,
            &raw mut handle,
            &raw mut mount,
            0,
        );
    }
    let at = make!(
        actor,
        libc::open(actor.shared.places.directory.as_ptr(), libc::O_RDONLY)
    );
    make!(
        actor,
        libc::syscall(
            libc::SYS_open_by_handle_at,
            at,
            &raw const handle,
            libc::O_RDONLY
        )
    )
}

fn pidfd(actor: &mut Actor) {
    let own = std::process::id();
    let pidfd = make!(actor, libc::syscall(libc::SYS_pidfd_open, own, 0));
    let fd = actor.some_fd();
    make!(actor, libc::syscall(libc::SYS_pidfd_getfd, pidfd, fd, 0));
}

fn message(actor: &mut Actor) {
    let [from, to] = sockets(actor);
    let many = if actor.random.one_in(8) {
        messages::MAX
    } else {
        4
    };
    let mut fds = [0; messages::MAX];
    let fds = &mut fds[..actor.random.below(many as u32) as usize + 1];
    for fd in &mut *fds {
        *fd = actor.some_fd();
    }
    actor.called();
    if send(from, fds).is_err() {
        // Some of them are not open.
        fds.fill(from);
        let _ = send(from, fds);
    }
    let cloexec = actor.random.maybe(libc::MSG_CMSG_CLOEXEC);
    actor.called();
    let _ = match actor.random.below(4) {
        0 => receive(to, cloexec | libc::MSG_PEEK),
        1 => receive_into(to, cloexec, actor.random.below(40) as usize),
        _ => receive(to, cloexec),
    };
}

fn messages_at_once(actor: &mut Actor) {
    let [from, to] = sockets(actor);
    for _ in 0..actor.random.below(5) {
        let _ = send(from, &[from, to]);
    }
    actor.called();
    let _ = receive_several(to, actor.random.maybe(libc::MSG_CMSG_CLOEXEC));
}

fn unshare(actor: &mut Actor) {
    if actor.random.one_in(2) {
        close_range_unshared(actor);
        return;
    }
    actor.called();
    // SAFETY: the call takes no pointers.
    unsafe { libc::unshare(libc::CLONE_FILES) };
}
