//! The origin of a descriptor: the system call that opened it in its table, or how it came there
//! from another table.

use crate::model::{FdEntry, Provenance};

/// Returns the origin of a descriptor.
#[must_use]
pub fn origin(entry: &FdEntry, provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Inherited => "fork",
        Provenance::KeptAcrossExec { .. } => "exec-kept",
        Provenance::Unknown => "unknown",
        Provenance::Made => call_name(entry.call),
    }
}

/// Returns the call that opened the descriptor, in whichever table.
pub(super) fn made_by(entry: &FdEntry) -> &'static str {
    if entry.is_from_snapshot() {
        return "unknown";
    }
    call_name(entry.call)
}

/// Returns whether a call received it from another process.
pub(super) fn was_received(entry: &FdEntry) -> bool {
    let calls = [libc::SYS_recvmsg, libc::SYS_recvmmsg, libc::SYS_pidfd_getfd];
    !entry.is_from_snapshot() && calls.contains(&i64::from(entry.call))
}

/// Returns whether it is an accepted connection.
pub(super) fn was_accepted(entry: &FdEntry) -> bool {
    !entry.is_from_snapshot()
        && [libc::SYS_accept, libc::SYS_accept4].contains(&i64::from(entry.call))
}

macro_rules! calls {
    ($($(#[$cfg:meta])* $number:ident $name:literal,)*) => {
        /// Returns the name of a system call of this architecture.
        pub(crate) fn call_name(number: u16) -> &'static str {
            match i64::from(number) {
                $($(#[$cfg])* libc::$number => $name,)*
                _ => "unknown",
            }
        }
    };
}

calls! {
    SYS_openat "openat",
    SYS_openat2 "openat2",
    SYS_dup "dup",
    SYS_dup3 "dup3",
    SYS_fcntl "fcntl",
    SYS_accept "accept",
    SYS_accept4 "accept4",
    SYS_bpf "bpf",
    SYS_epoll_create1 "epoll_create1",
    SYS_eventfd2 "eventfd2",
    SYS_fanotify_init "fanotify_init",
    SYS_fsmount "fsmount",
    SYS_fsopen "fsopen",
    SYS_fspick "fspick",
    SYS_inotify_init1 "inotify_init1",
    SYS_io_uring_setup "io_uring_setup",
    SYS_landlock_create_ruleset "landlock_create_ruleset",
    SYS_memfd_create "memfd_create",
    SYS_memfd_secret "memfd_secret",
    SYS_mq_open "mq_open",
    SYS_open_by_handle_at "open_by_handle_at",
    SYS_open_tree "open_tree",
    SYS_perf_event_open "perf_event_open",
    SYS_pidfd_getfd "pidfd_getfd",
    SYS_pidfd_open "pidfd_open",
    SYS_pipe2 "pipe2",
    SYS_recvmsg "recvmsg",
    SYS_recvmmsg "recvmmsg",
    SYS_clone "clone",
    SYS_clone3 "clone3",
    SYS_seccomp "seccomp",
    SYS_signalfd4 "signalfd4",
    SYS_socket "socket",
    SYS_socketpair "socketpair",
    SYS_timerfd_create "timerfd_create",
    SYS_userfaultfd "userfaultfd",
    #[cfg(target_arch = "x86_64")]
    SYS_open "open",
    #[cfg(target_arch = "x86_64")]
    SYS_creat "creat",
    #[cfg(target_arch = "x86_64")]
    SYS_dup2 "dup2",
    #[cfg(target_arch = "x86_64")]
    SYS_epoll_create "epoll_create",
    #[cfg(target_arch = "x86_64")]
    SYS_eventfd "eventfd",
    #[cfg(target_arch = "x86_64")]
    SYS_inotify_init "inotify_init",
    #[cfg(target_arch = "x86_64")]
    SYS_pipe "pipe",
    #[cfg(target_arch = "x86_64")]
    SYS_signalfd "signalfd",
}
