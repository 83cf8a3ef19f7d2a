//! Errors of the probe, and advice for each.

use std::{error::Error, io};

use fdwatch_core::plural::counted;
use thiserror::Error;

/// Error of the probe. [`ProbeError::help`] returns how to fix it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The process lacks the capabilities to load BPF programs.
    #[error("cannot load BPF programs: insufficient privileges")]
    NotPrivileged,
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
    },
    /// The snapshot stopped before its end.
    #[error("cannot read the snapshot of all descriptors: {0}")]
    Snapshot(io::Error),
}

impl ProbeError {
    /// Returns how the user can fix it, if known.
    #[must_use]
    pub const fn help(&self) -> Option<&'static str> {
        match self {
            Self::NotPrivileged => Some("run fdwatch as root"),
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
            Self::OldKernel { .. } | Self::Refused { .. } | Self::Snapshot(_) => None,
        }
    }

    /// An operation that the kernel rejects, with the whole chain of causes on one line.
    pub(super) fn refused(what: impl Into<String>, error: &dyn Error) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let next = error.to_string();
            if !reason.contains(&next) {
                reason = format!("{reason}: {next}");
            }
            cause = error.source();
        }
        Self::Refused {
            what: what.into(),
            reason: shorten(&reason),
        }
    }

    /// A failed change of the control flags.
    pub(super) fn control(error: io::Error) -> Self {
        Self::refused("change what the BPF programs record", &error)
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
