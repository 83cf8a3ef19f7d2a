//! Why the kernel cannot be asked, and what mends it.

use std::{error::Error, io};

use fdwatch_core::plural::counted;
use thiserror::Error;

/// The probe cannot do its work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// BPF programs need more rights than this process has.
    #[error("not enough privileges to load BPF programs: run fdwatch as root")]
    NotPrivileged,
    /// The kernel is older than the ring buffer.
    #[error("Linux {release} is too old: fdwatch needs 5.8 or newer")]
    OldKernel {
        /// What `uname -r` says.
        release: String,
    },
    /// The kernel does not describe its types.
    #[error(
        "this kernel has no BTF ({path} cannot be read: {source}): run one built with \
         CONFIG_DEBUG_INFO_BTF=y, as those of all large distributions are"
    )]
    NoBtf {
        /// Where it was looked for.
        path: &'static str,
        /// What reading it said.
        source: io::Error,
    },
    /// The kernel's description of its types makes no sense.
    #[error("this kernel's BTF cannot be understood: {reason}")]
    UnreadableBtf {
        /// What is wrong with it.
        reason: String,
    },
    /// Something is not as in any kernel known.
    #[error("fdwatch does not know this kernel ({what}): please report it, with `uname -a`")]
    UnknownKernel {
        /// What is not as expected.
        what: String,
    },
    /// There is nowhere to find the tracepoints.
    #[error(
        "there is no tracefs, and it cannot be mounted ({source}): as root, run \
         `mount -t tracefs tracefs /sys/kernel/tracing`"
    )]
    NoTracefs {
        /// What mounting it said.
        source: io::Error,
    },
    /// The kernel was built without the tracepoints.
    #[error("this kernel has no tracepoint {name}: it needs CONFIG_FTRACE_SYSCALLS=y")]
    NoTracepoint {
        /// The tracepoint.
        name: String,
    },
    /// The kernel does not let root read its memory.
    #[error(
        "the kernel is locked down (mode {mode}), which forbids BPF programs to read kernel \
         memory: boot with lockdown=integrity or less"
    )]
    Lockdown {
        /// The mode it is in.
        mode: String,
    },
    /// A seccomp filter stands before the kernel.
    #[error(
        "a seccomp filter, such as a container engine's, forbids {call}(): it must allow bpf() and \
         perf_event_open(), as packaging/docker/seccomp.json does, or run the container with \
         --security-opt seccomp=unconfined"
    )]
    Filtered {
        /// The call that it forbids.
        call: &'static str,
    },
    /// The kernel counts processes differently from what is seen here.
    #[error(
        "fdwatch runs in a pid namespace of its own and would mistake one process for another: \
         run it on the host, or the container with --pid=host"
    )]
    PidNamespace,
    /// The kernel refuses a program, or what it needs.
    #[error("the kernel refuses {what}: {reason}")]
    Refused {
        /// What it refuses.
        what: String,
        /// What it says.
        reason: String,
    },
    /// The snapshot broke off.
    #[error("the snapshot of all descriptors failed: {0}")]
    Snapshot(#[source] io::Error),
}

impl ProbeError {
    /// Of what is asked of the programs while they run.
    pub(super) fn asking(error: io::Error) -> Self {
        Self::refused("to be asked for more or less than before", &error)
    }

    /// Of what aya says, the whole chain of causes on one line.
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
}

/// The verifier's log can be thousands of lines, and its verdict is in the last ones.
fn shorten(reason: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<_> = reason.lines().collect();
    if lines.len() <= 2 * LINES {
        return reason.to_owned();
    }
    let (head, tail) = (&lines[..LINES], &lines[lines.len() - LINES..]);
    let left_out = lines.len() - 2 * LINES;
    format!(
        "{}\n... ({} left out)\n{}",
        head.join("\n"),
        counted(left_out, "line"),
        tail.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_keeps_its_beginning_and_its_end() {
        let lines: Vec<_> = (0..100).map(|i| format!("line {i}")).collect();
        let short = shorten(&lines.join("\n"));
        assert!(short.starts_with("line 0\n"));
        assert!(short.contains("(76 lines left out)"));
        assert!(short.ends_with("line 99"));
        assert_eq!(shorten("one"), "one");
    }
}
