//! The table of BPF programs. The loader attaches all entries; the BPF crate checks at compile time
//! that each has a function.

/// A program on tracepoints of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyscallProgram {
    /// The name of its function.
    pub name: &'static str,
    /// `sys_enter` or `sys_exit`: prefix of the tracepoints, and of `name`.
    pub side: &'static str,
    /// The system calls. Those that the kernel lacks are skipped.
    pub calls: &'static [&'static str],
}

/// A program that continues others by a tail call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailCall {
    /// The name of its function.
    pub name: &'static str,
    /// The program array that contains it at index 0.
    pub map: &'static str,
}

/// Expands `$callback!` with the whole table.
#[macro_export]
macro_rules! programs {
    ($callback:ident) => {
        $callback! {
            syscalls {
                sys_enter_close: sys_enter ["close"],
                sys_exit_close_range: sys_exit ["close_range"],
                sys_exit_new_fd: sys_exit [
                    "openat",
                    "open",
                    "openat2",
                    "creat",
                    "dup",
                    "dup2",
                    "dup3",
                    "accept",
                    "accept4",
                    "bpf",
                    "epoll_create",
                    "epoll_create1",
                    "eventfd",
                    "eventfd2",
                    "fanotify_init",
                    "fsmount",
                    "fsopen",
                    "fspick",
                    "inotify_init",
                    "inotify_init1",
                    "io_uring_setup",
                    "landlock_create_ruleset",
                    "memfd_create",
                    "memfd_secret",
                    "mq_open",
                    "open_by_handle_at",
                    "open_tree",
                    "perf_event_open",
                    "pidfd_getfd",
                    "pidfd_open",
                    "seccomp",
                    "signalfd",
                    "signalfd4",
                    "socket",
                    "timerfd_create",
                    "userfaultfd",
                ],
                sys_enter_fcntl: sys_enter ["fcntl"],
                sys_exit_fcntl: sys_exit ["fcntl"],
                sys_enter_ioctl: sys_enter ["ioctl"],
                sys_enter_pipe: sys_enter ["pipe2", "pipe"],
                sys_enter_socketpair: sys_enter ["socketpair"],
                sys_exit_fd_pair: sys_exit ["pipe2", "pipe", "socketpair"],
                sys_enter_recvmsg: sys_enter ["recvmsg"],
                sys_enter_recvmmsg: sys_enter ["recvmmsg"],
                sys_exit_recvmsg: sys_exit ["recvmsg", "recvmmsg"],
                sys_enter_clone: sys_enter ["clone"],
                sys_enter_clone3: sys_enter ["clone3"],
                sys_exit_unshare: sys_exit ["unshare"],
            }
            paths {
                sys_enter_open_path: sys_enter ["open", "creat"],
                sys_enter_openat_path: sys_enter ["openat", "openat2"],
            }
            noop {
                sys_exit_noop: sys_exit ["openat"],
                sys_enter_noop: sys_enter ["close"],
            }
            tail_calls {
                sys_exit_recvmsg_next: RECVMSG_NEXT,
                sys_exit_table_bits_next: TABLE_BITS_NEXT,
                sys_exit_new_fd_detail: NEW_FD_DETAIL,
                sys_enter_close_detail: CLOSE_DETAIL,
            }
            raw_tracepoints {
                sched_process_fork,
                sched_process_exec,
                sched_process_exit,
            }
            iterators {
                snapshot,
            }
        }
    };
}

macro_rules! syscall_programs {
    ($($name:ident: $side:ident [$($call:literal),* $(,)?],)*) => {
        &[$(SyscallProgram {
            name: {
                assert!(
                    starts_with(stringify!($name), stringify!($side)),
                    "a program is named after its tracepoints"
                );
                stringify!($name)
            },
            side: stringify!($side),
            calls: &[$($call),*],
        }),*]
    };
}

macro_rules! tables {
    (
        syscalls { $($syscalls:tt)* }
        paths { $($paths:tt)* }
        noop { $($noop:tt)* }
        tail_calls { $($tail_call:ident: $map:ident,)* }
        raw_tracepoints { $($raw:ident,)* }
        iterators { $iterator:ident, }
    ) => {
        /// Programs that record changes of descriptors.
        pub const SYSCALLS: &[SyscallProgram] = syscall_programs! { $($syscalls)* };

        /// Programs that record path arguments. Attached only while detail is enabled.
        pub const PATHS: &[SyscallProgram] = syscall_programs! { $($paths)* };

        /// Programs that do nothing, for benchmarks.
        pub const NOOP: &[SyscallProgram] = syscall_programs! { $($noop)* };

        /// Programs that continue others by tail calls.
        pub const TAIL_CALLS: &[TailCall] = &[$(TailCall {
            name: stringify!($tail_call),
            map: stringify!($map),
        }),*];

        /// Programs on raw tracepoints, named after their tracepoints.
        pub const RAW_TRACEPOINTS: &[&str] = &[$(stringify!($raw)),*];

        /// The program of the `task_file` iterator.
        pub const SNAPSHOT: &str = stringify!($iterator);
    };
}

programs!(tables);

const fn starts_with(name: &str, prefix: &str) -> bool {
    let (name, prefix) = (name.as_bytes(), prefix.as_bytes());
    let mut index = 0;
    while index < prefix.len() {
        if index >= name.len() || name[index] != prefix[index] {
            return false;
        }
        index += 1;
    }
    true
}
