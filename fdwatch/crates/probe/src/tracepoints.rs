//! Which tracepoints the programs are attached to, and whether these are as the programs expect. How
//! they are attached is not known here.

use std::{fs, path::Path};

use super::ProbeError;

/// A program, and the syscalls whose tracepoints it is attached to.
pub(super) struct Attachment {
    /// The program's name in the object.
    pub(super) program: &'static str,
    /// `sys_enter` or `sys_exit`.
    pub(super) side: &'static str,
    /// The syscalls. One that this kernel does not have is passed over.
    pub(super) calls: &'static [&'static str],
}

/// All programs on syscalls.
pub(super) const SYSCALLS: &[Attachment] = &[
    Attachment {
        program: "sys_enter_close",
        side: "sys_enter",
        calls: &["close"],
    },
    Attachment {
        program: "sys_exit_close_range",
        side: "sys_exit",
        calls: &["close_range"],
    },
    Attachment {
        program: "sys_exit_new_fd",
        side: "sys_exit",
        calls: RETURNING,
    },
    Attachment {
        program: "sys_enter_fcntl",
        side: "sys_enter",
        calls: &["fcntl"],
    },
    Attachment {
        program: "sys_exit_fcntl",
        side: "sys_exit",
        calls: &["fcntl"],
    },
    Attachment {
        program: "sys_enter_ioctl",
        side: "sys_enter",
        calls: &["ioctl"],
    },
    Attachment {
        program: "pipe_entered",
        side: "sys_enter",
        calls: &["pipe2", "pipe"],
    },
    Attachment {
        program: "socketpair_entered",
        side: "sys_enter",
        calls: &["socketpair"],
    },
    Attachment {
        program: "returned_pair",
        side: "sys_exit",
        calls: &["pipe2", "pipe", "socketpair"],
    },
    Attachment {
        program: "sys_enter_recvmsg",
        side: "sys_enter",
        calls: &["recvmsg"],
    },
    Attachment {
        program: "sys_enter_recvmmsg",
        side: "sys_enter",
        calls: &["recvmmsg"],
    },
    Attachment {
        program: "returned_messages",
        side: "sys_exit",
        calls: &["recvmsg", "recvmmsg"],
    },
    Attachment {
        program: "sys_enter_clone",
        side: "sys_enter",
        calls: &["clone"],
    },
    Attachment {
        program: "sys_enter_clone3",
        side: "sys_enter",
        calls: &["clone3"],
    },
    Attachment {
        program: "sys_exit_unshare",
        side: "sys_exit",
        calls: &["unshare"],
    },
];

/// Programs that tell by which path something is opened, while that is wanted.
pub(super) const PATHS: &[Attachment] = &[
    Attachment {
        program: "sys_enter_open_path",
        side: "sys_enter",
        calls: &["open", "creat"],
    },
    Attachment {
        program: "path_asked_at",
        side: "sys_enter",
        calls: &["openat", "openat2"],
    },
];

/// Programs that do nothing, for benchmarks.
pub(super) const FLOOR: &[Attachment] = &[
    Attachment {
        program: "floor_at_exit",
        side: "sys_exit",
        calls: &["openat"],
    },
    Attachment {
        program: "floor_at_entry",
        side: "sys_enter",
        calls: &["close"],
    },
];

/// The syscalls that return a new descriptor.
const RETURNING: &[&str] = &[
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
];

/// Programs that others go on in, and the maps where they find them.
pub(super) const CONTINUATIONS: [(&str, &str); 4] = [
    ("received_more", "RECEIVED"),
    ("more_bits", "MORE_BITS"),
    ("birth_in_detail", "BIRTH_IN_DETAIL"),
    ("death_in_detail", "DEATH_IN_DETAIL"),
];

/// The programs on raw tracepoints, named as these.
pub(super) const PROCESS_LIFE: [&str; 3] = [
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
];

/// Holds the tracepoint `name` against what the programs read: the number of the call at 8, its
/// result or its first argument at 16. Whether there is such a tracepoint at all is the answer.
pub(super) fn check(tracefs: &Path, name: &str) -> Result<bool, ProbeError> {
    let path = tracefs.join("events/syscalls").join(name).join("format");
    let Ok(format) = fs::read_to_string(path) else {
        return Ok(false);
    };
    if is_expected(&format) {
        return Ok(true);
    }
    Err(ProbeError::UnknownKernel {
        what: format!("the tracepoint {name} has another layout"),
    })
}

fn is_expected(format: &str) -> bool {
    let mut fields = format
        .lines()
        .filter_map(|line| line.trim().strip_prefix("field:"))
        .filter(|field| !field.split(';').next().unwrap_or("").contains(" common_"));
    let number = fields.next().unwrap_or("");
    number.contains(" __syscall_nr;")
        && number.contains("offset:8;")
        && number.contains("size:4;")
        && fields
            .next()
            .is_none_or(|first| first.contains("offset:16;") && first.contains("size:8;"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: sys_exit_openat
ID: 730
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;
";

    #[test]
    fn another_layout_is_noticed() {
        assert!(is_expected(FORMAT));
        assert!(!is_expected(&FORMAT.replace("offset:16", "offset:12")));
        assert!(!is_expected(&FORMAT.replace("offset:8", "offset:12")));
        assert!(!is_expected(&FORMAT.replace("__syscall_nr", "nr")));
        assert!(!is_expected(""));
    }
}
