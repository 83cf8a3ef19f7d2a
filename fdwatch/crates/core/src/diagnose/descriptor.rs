//! A descriptor of a finding, and how it came to its process.

use super::{
    chain::{self, Link},
    file::FileInfo,
    origin::{self, origin},
    process::ProcessInfo,
};
use crate::{
    detail::Frame,
    duplicates::{Closed, RecentOpen},
    model::{Access, FdEntry, FileType, Lineage, Moment, Provenance, Table},
};

/// A descriptor of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub fd: u32,
    /// The access mode.
    pub access: Access,
    /// Whether writes append.
    pub append: bool,
    /// Whether close-on-exec is set.
    pub cloexec: bool,
    /// Kernel address of its description; not for display.
    pub description: u64,
    /// How it came into the table.
    pub origin: &'static str,
    /// When it was opened, if that was seen.
    pub opened: Option<Moment>,
    /// The thread that opened it, if that was seen.
    pub tid: Option<u32>,
    /// Whether the process still runs the program that opened it, as far as known.
    pub is_same_program: bool,
    /// The requested path, from detail.
    pub asked_path: Option<Vec<u8>>,
    /// The stack where it was opened, from detail; innermost first.
    pub stack: Vec<Frame>,
    /// The steps by which it came to the process, if another process or program opened it.
    pub chain: Vec<Link>,
    /// Descriptors that the same thread opened shortly before.
    pub recent_opens: Vec<NearbyOpen>,
    /// Its role according to the configuration of supervisord.
    pub role: Option<String>,
    /// When it was closed.
    pub closed: Option<Moment>,
    /// The thread that closed it, if known.
    pub closed_by: Option<u32>,
    /// Whether the process still runs the program that closed it, as far as known.
    pub is_closed_by_same_program: bool,
    /// The stack where it was closed, from detail; innermost first.
    pub closed_stack: Vec<Frame>,
    /// What it refers to, if that is not the finding's file.
    pub other_file: Option<Box<FileInfo>>,
}

/// A descriptor that the same thread opened shortly before another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearbyOpen {
    /// Its number.
    pub fd: u32,
    /// The call that opened it.
    pub origin: &'static str,
    /// The type of its file.
    pub file_type: FileType,
    /// Whether it is an accepted connection.
    pub is_connection: bool,
    /// How long before, in nanoseconds.
    pub before: u64,
    /// When it was closed, if it was.
    pub closed: Option<Moment>,
}

/// How a descriptor came to its process.
#[derive(Clone, Copy, Debug)]
pub struct FdHistory<'a> {
    /// How it came into its table.
    pub provenance: Provenance,
    /// The lineage of the table.
    pub lineage: &'a Lineage,
    /// The process that has the table.
    pub process: &'a ProcessInfo,
}

impl Descriptor {
    /// Creates the descriptor `fd` with this entry.
    #[must_use]
    pub fn new(fd: u32, entry: &FdEntry, history: FdHistory<'_>) -> Self {
        let provenance = history.provenance;
        let seen = !entry.is_from_snapshot();
        Self {
            fd,
            access: entry.access(),
            append: entry.appends(),
            cloexec: entry.closes_on_exec(),
            description: entry.file,
            origin: origin(entry, provenance),
            opened: seen.then_some(entry.opened),
            tid: seen.then_some(entry.tid),
            is_same_program: matches!(provenance, Provenance::Made | Provenance::Inherited),
            chain: chain::chain(entry, history.lineage, history.process),
            recent_opens: Vec::new(),
            role: None,
            asked_path: None,
            stack: Vec::new(),
            closed: None,
            closed_by: None,
            is_closed_by_same_program: false,
            closed_stack: Vec::new(),
            other_file: None,
        }
    }

    /// Creates a descriptor of a table.
    #[must_use]
    pub fn of(table: &Table, fd: u32, entry: &FdEntry, process: &ProcessInfo) -> Self {
        let history = FdHistory {
            provenance: table.provenance(entry),
            lineage: table.lineage(),
            process,
        };
        Self::new(fd, entry, history)
    }

    pub(super) fn closed(closed: &Closed, table: Option<&Table>, process: &ProcessInfo) -> Self {
        let history = FdHistory {
            provenance: closed.provenance,
            lineage: &closed.lineage,
            process,
        };
        Self {
            closed: Some(closed.at),
            is_closed_by_same_program: table.is_some_and(|it| it.is_same_program_since(closed.at)),
            ..Self::new(closed.fd, &closed.entry, history)
        }
    }

    /// Adds its recent opens.
    pub(super) fn add_recent_opens(&mut self, recent_opens: &[RecentOpen]) {
        let own = recent_opens
            .iter()
            .filter(|near| near.of == self.fd && Some(near.of_opened) == self.opened);
        self.recent_opens.extend(own.map(|near| NearbyOpen {
            fd: near.fd,
            origin: origin::made_by(&near.entry),
            file_type: near.entry.file_type(),
            is_connection: origin::was_accepted(&near.entry),
            before: near.of_opened.since(near.entry.opened),
            closed: near.closed,
        }));
    }

    /// Returns the connection it was apparently opened for, if it is still open although the
    /// connection was closed: accepted just before by the same thread, and closed since.
    #[must_use]
    pub fn outlives(&self) -> Option<&NearbyOpen> {
        let mut connections = self.recent_opens.iter().filter(|near| near.is_connection);
        let last = connections.next()?;
        let closed = last.closed?;
        self.closed.is_none_or(|own| own > closed).then_some(last)
    }
}
