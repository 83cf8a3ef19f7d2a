//! Why there is a duplicate: decided by the history of its descriptors, and nothing else.

use super::origin::was_received;
use crate::model::{FdEntry, Provenance};

/// Why there is a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The process opened the file again without having closed it.
    Reopened,
    /// Part of it, or all, came over fork.
    Inherited,
    /// All descriptors are one description, dup'ed.
    Duplicated,
    /// A file was renamed or deleted, is still held, and its path was opened anew.
    Rotated,
    /// A file was deleted, and is still held.
    Deleted,
    /// Part of it came from another process, over a socket or by `pidfd_getfd`.
    Received,
    /// Part of it was kept over exec into another program, for want of `O_CLOEXEC`.
    ExecLeak,
    /// It is the log of several programs of a supervisord, by its configuration.
    SharedConfig,
    /// Several processes of one service write it, each through a description of its own.
    SharedFile,
    /// A descriptor was closed a second time, after its number had been given away.
    DoubleClose,
}

impl Cause {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Reopened,
        Self::Inherited,
        Self::Duplicated,
        Self::Rotated,
        Self::Deleted,
        Self::Received,
        Self::ExecLeak,
        Self::SharedConfig,
        Self::SharedFile,
        Self::DoubleClose,
    ];

    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reopened => "reopened",
            Self::Inherited => "inherited",
            Self::Duplicated => "duplicated",
            Self::Rotated => "rotated",
            Self::Deleted => "deleted",
            Self::Received => "received",
            Self::ExecLeak => "exec-leak",
            Self::SharedConfig => "shared-config",
            Self::SharedFile => "shared-file",
            Self::DoubleClose => "double-close",
        }
    }
}

/// The last of the descriptors that a program is given rather than leaked: standard error.
const LAST_STANDARD: u32 = 2;

/// The cause of a duplicate, of whose descriptors there is each the entry, how it came to its table,
/// and its number.
///
/// The rules, the first that holds: some came from another process (`received`); all are one
/// description (`duplicated`); one beyond standard error was there before the program that runs now
/// (`exec-leak`); some came over fork (`inherited`); else it was opened again (`reopened`).
pub(super) fn cause(entries: &[&FdEntry], provenances: &[Provenance], numbers: &[u32]) -> Cause {
    let made = |(entry, provenance): (&&FdEntry, &Provenance)| {
        *provenance == Provenance::Made && was_received(entry)
    };
    let leaked = |(provenance, fd): (&Provenance, &u32)| {
        matches!(provenance, Provenance::KeptOverExec { .. }) && *fd > LAST_STANDARD
    };
    if entries.iter().zip(provenances).any(made) {
        Cause::Received
    } else if !has_two_descriptions(entries) {
        Cause::Duplicated
    } else if provenances.iter().zip(numbers).any(leaked) {
        Cause::ExecLeak
    } else if provenances.iter().any(|entry| entry.came_over_fork()) {
        Cause::Inherited
    } else {
        Cause::Reopened
    }
}

pub(super) fn has_two_descriptions(entries: &[&FdEntry]) -> bool {
    entries.windows(2).any(|pair| pair[0].file != pair[1].file)
}
