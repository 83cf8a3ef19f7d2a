//! Errors of the probe, and advice for each.

use std::{error::Error, io};

use crate::permissions::{Lockdown, lockdown, missing_capabilities};
use fdwatch_core::plural::counted;
use thiserror::Error;

/// Error of the probe. [`ProbeError::help`] returns how to fix it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The process lacks the capabilities to load BPF programs.
    #[error("cannot load BPF programs: insufficient privileges, without {}", missing.join(" and "))]
    NotPrivileged {
        /// The missing capabilities.
        missing: Vec<&'static str>,
    },
    /// The limit of file descriptors is too low.
    #[error("cannot {what}: too many open files")]
    TooManyFiles {
        /// The operation, such as `load program sys_enter_close`.
        what: String,
    },
    /// The kernel has no BPF ring buffer.
    #[error("unsupported kernel: Linux {release}, fdwatch requires 5.8 or newer")]
    OldKernel {
        /// The output of `uname -r`.
        release: String,
    },
    /// The kernel's BTF cannot be read.
    #[error("cannot read the kernel's type information (BTF) from {path}: {reason}")]
    NoBtf {
        /// The file.
        path: &'static str,
        /// The error of reading it.
        reason: io::Error,
    },
    /// The kernel's BTF is malformed.
    #[error("cannot parse the kernel's type information (BTF): {reason}")]
    UnreadableBtf {
        /// The parser's error.
        reason: String,
    },
    /// The kernel differs from all known ones.
    #[error("unsupported kernel: {what}")]
    UnknownKernel {
        /// The difference.
        what: String,
    },
    /// tracefs cannot be mounted.
    #[error("cannot mount tracefs on /sys/kernel/tracing: {reason}")]
    NoTracefs {
        /// The error of mounting it.
        reason: io::Error,
    },
    /// tracefs is mounted, but this user may not read it.
    #[error("cannot read tracefs on {path}: {reason}")]
    UnreadableTracefs {
        /// Where it is mounted.
        path: &'static str,
        /// The error of reading it.
        reason: io::Error,
    },
    /// The kernel was built without the tracepoints.
    #[error("tracepoint not found: {name}")]
    NoTracepoint {
        /// The tracepoint.
        name: String,
    },
    /// The kernel does not let root read its memory.
    #[error("cannot read kernel memory: the kernel is locked down (mode {mode})")]
    Lockdown {
        /// The lockdown mode.
        mode: String,
    },
    /// A seccomp filter blocks a system call.
    #[error("cannot call {call}(): blocked by a seccomp filter, such as a container engine's")]
    Filtered {
        /// The blocked call.
        call: &'static str,
    },
    /// The kernel lets only `CAP_SYS_ADMIN` open perf events.
    #[error("cannot attach {what}: permission denied (kernel.perf_event_paranoid is {paranoid})")]
    Paranoid {
        /// The program and the tracepoint.
        what: String,
        /// The value of `kernel.perf_event_paranoid`.
        paranoid: i32,
    },
    /// Process IDs in this namespace are not the kernel's.
    #[error("cannot identify processes: fdwatch runs in its own pid namespace")]
    PidNamespace,
    /// The kernel rejects an operation.
    #[error("cannot {what}: {reason}")]
    Refused {
        /// The operation, such as `load program sys_enter_close`.
        what: String,
        /// The kernel's error.
        reason: String,
        /// What to do about it.
        help: &'static str,
    },
    /// The snapshot stopped before its end.
    #[error("cannot read the snapshot of all descriptors: {0}")]
    Snapshot(io::Error),
}

impl ProbeError {
    /// Returns how the user can fix it, if known.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NotPrivileged { .. } => Some(GRANT),
            Self::TooManyFiles { .. } => Some(
                "raise the limit: `ulimit -n 1024` in the shell, LimitNOFILE=1024 in a systemd unit",
            ),
            Self::NoBtf { reason, .. } if is_denied(reason) => Some(READ),
            Self::NoBtf { .. } => Some(
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, such as those of all major \
                 distributions are",
            ),
            Self::UnreadableBtf { .. } | Self::UnknownKernel { .. } => {
                Some("report this as a bug, with the output of `uname -a`")
            }
            Self::NoTracefs { .. } => {
                Some("as root, run `mount -t tracefs tracefs /sys/kernel/tracing`")
            }
            Self::UnreadableTracefs { .. } => Some(READ),
            Self::NoTracepoint { .. } => Some("use a kernel built with CONFIG_FTRACE_SYSCALLS=y"),
            Self::Lockdown { .. } => Some("boot with lockdown=integrity, or without lockdown"),
            Self::Filtered { .. } => Some(
                "allow bpf() and perf_event_open(), as packaging/docker/seccomp.json does, or run \
                 the container with --security-opt seccomp=unconfined",
            ),
            Self::Paranoid { .. } => {
                Some("grant CAP_SYS_ADMIN, or run `sysctl kernel.perf_event_paranoid=2`")
            }
            Self::PidNamespace => {
                Some("run fdwatch on the host, or run the container with --pid=host")
            }
            Self::Refused { help, .. } => Some(help),
            Self::OldKernel { .. } | Self::Snapshot(_) => None,
        }
    }

    /// An operation that the kernel rejects, with the whole chain of causes on one line.
    #[must_use]
    pub fn refused(what: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let mut reason = error.to_string();
        let mut errno = errno_of(error);
        let mut cause = error.source();
        while let Some(error) = cause {
            let next = error.to_string();
            if !reason.contains(&next) {
                reason = format!("{reason}: {next}");
            }
            errno = errno.or_else(|| errno_of(error));
            cause = error.source();
        }
        let what = what.into();
        if matches!(errno, Some(libc::EMFILE | libc::ENFILE)) {
            return Self::TooManyFiles { what };
        }
        // What aya writes before an empty log.
        let reason = reason.trim_end().trim_end_matches(". Verifier output:");
        Self::Refused {
            help: advice(errno, reason.lines().nth(1).is_some()),
            what,
            reason: shorten(reason),
        }
    }

    /// The message, and the help on a line of its own, for warnings.
    #[must_use]
    pub fn with_help(&self, consequence: &str) -> String {
        let help = self.help().map(|help| format!("\nhelp: {help}"));
        format!("{self}; {consequence}{}", help.unwrap_or_default())
    }

    /// A failed change of the control flags.
    pub(super) fn control(error: io::Error) -> Self {
        Self::refused("change what the BPF programs record", &error)
    }
}

const GRANT: &str = "run fdwatch as root, or grant the capabilities: `setcap \
    cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search=ep PATH-OF-FDWATCH`";

const READ: &str = "run fdwatch as root, or grant CAP_DAC_READ_SEARCH";

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn errno_of(error: &(dyn Error + 'static)) -> Option<i32> {
    error.downcast_ref::<io::Error>()?.raw_os_error()
}

/// Returns what to do about an operation that the kernel rejects.
fn advice(errno: Option<i32>, has_verifier_log: bool) -> &'static str {
    const BUG: &str = "report this as a bug, with this output and that of `uname -a`";
    let is_denied = matches!(errno, Some(libc::EPERM | libc::EACCES)) && !has_verifier_log;
    match lockdown() {
        // The verifier then knows no functions that read memory (`bpf_base_func_proto`, kernel/bpf/helpers.c).
        Lockdown::Unknown { .. } if is_denied || has_verifier_log => {
            "see whether the kernel is locked down: as root, `mount -t securityfs securityfs \
             /sys/kernel/security`, then `cat /sys/kernel/security/lockdown`; boot with \
             lockdown=integrity if it shows [confidentiality]"
        }
        _ if is_denied && missing_capabilities().is_empty() => {
            "allow it in the security module of the host (SELinux, AppArmor) or of the container engine"
        }
        _ if is_denied => GRANT,
        _ if errno == Some(libc::ENOMEM) => {
            "free memory, use a smaller --ring-size, or raise the limit of the control group"
        }
        _ => BUG,
    }
}

/// Keeps the beginning and the end: the verifier's log can have thousands of lines, and its verdict is
/// in the last ones.
fn shorten(reason: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<_> = reason.lines().collect();
    if lines.len() <= 2 * LINES {
        return reason.to_owned();
    }
    let (head, tail) = (&lines[..LINES], &lines[lines.len() - LINES..]);
    let omitted = lines.len() - 2 * LINES;
    format!(
        "{}\n... ({} omitted)\n{}",
        head.join("\n"),
        counted(omitted, "line"),
        tail.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reason_keeps_beginning_and_end() {
        let lines: Vec<_> = (0..100).map(|i| format!("line {i}")).collect();
        let short = shorten(&lines.join("\n"));
        assert!(short.starts_with("line 0\n"));
        assert!(short.contains("(76 lines omitted)"));
        assert!(short.ends_with("line 99"));
        assert_eq!(shorten("one"), "one");
    }
}
