//! A leaked descriptor.

use crate::model::{FdEntry, Moment, Provenance};

/// The kind of a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeakKind {
    /// Still open when the process that opened it ended.
    AtExit,
    /// Opened without close-on-exec and inherited by another program, other than as a standard stream.
    AcrossExec,
}

impl LeakKind {
    /// Returns the name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtExit => "exit",
            Self::AcrossExec => "exec",
        }
    }
}

/// A leaked descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leak {
    /// How it leaked.
    pub kind: LeakKind,
    /// The process that had it.
    pub tgid: u32,
    /// Its number there.
    pub fd: u32,
    /// Its entry.
    pub entry: FdEntry,
    /// How it came into the process's table.
    pub provenance: Provenance,
    /// When it leaked.
    pub at: Moment,
}
