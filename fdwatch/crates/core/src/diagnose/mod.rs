//! Diagnoses duplicates and leaks: cause, severity, and what to do.
//!
//! Pure: facts from outside the tables, such as a file's path, are passed in.

mod advice;
mod cause;
mod census;
mod chain;
mod cross_process;
mod origin;
mod role;
mod story;

use crate::{
    detail::Frame,
    duplicates::{Change, Closed, Duplicate, RecentOpen},
    model::{Access, FdEntry, FileType, Lineage, Moment, Provenance, Table},
    workload::Workload,
};

use self::cause::{cause, has_two_descriptions};
pub(crate) use self::origin::call_name;
pub use self::{
    advice::remedies,
    cause::Cause,
    census::Census,
    chain::Link,
    cross_process::{diagnose_double_close, diagnose_rotation, diagnose_shared},
    origin::origin,
    role::LogUse,
    story::{Sentence, Sharer, numbers, story},
};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Severity {
    /// Only readers, or a single description.
    Info,
    /// Several descriptions with a writer among them, or a deleted file that occupies space.
    #[default]
    Warning,
    /// The process is about to run out of descriptors.
    Critical,
}

impl Severity {
    /// Returns the name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The process of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its number.
    pub pid: u32,
    /// When it was started: nanoseconds since boot; 0 if unknown.
    pub start_time: u64,
    /// Its parent; 0 if unknown.
    pub ppid: u32,
    /// Its name: bytes of its own choice.
    pub comm: Vec<u8>,
    /// Path of its executable, if readable.
    pub exe: Option<Vec<u8>>,
    /// Its command line, if readable.
    pub cmdline: Option<Vec<Vec<u8>>>,
    /// Its limit of open descriptors (soft `RLIMIT_NOFILE`), if readable.
    pub fd_limit: Option<u64>,
    /// Its real user ID, if readable.
    pub uid: Option<u32>,
    /// The path of its cgroup, if readable.
    pub cgroup: Option<String>,
    /// The workload that the cgroup identifies.
    pub workload: Workload,
    /// Its root directory as seen by fdwatch, if it differs from fdwatch's own.
    pub root: Option<Vec<u8>>,
    /// Whether it has its own mount namespace, as in a container.
    pub has_own_mounts: bool,
    /// Its group and process name in the configuration of supervisord.
    pub supervisor: Option<(String, String)>,
}

/// The name of a file as the kernel shows it for a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its path, or the kernel's name for it.
    pub path: Vec<u8>,
    /// Whether the file is no longer at that path.
    pub deleted: bool,
    /// The space a deleted file occupies, in bytes.
    pub pinned: Option<u64>,
}

/// The file of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its path, or the kernel's name for it; none if it could not be read.
    pub path: Option<Vec<u8>>,
    /// The device, in the kernel's encoding.
    pub dev: u32,
    /// The inode.
    pub ino: u64,
    /// The type.
    pub file_type: FileType,
    /// Whether it has no name any more.
    pub deleted: bool,
    /// The space a deleted file occupies while it is open, in bytes, if known.
    pub pinned: Option<u64>,
    /// Its path as seen by the process, if different.
    pub process_path: Option<Vec<u8>>,
    /// A path by which the host reaches it while the process is running, if `path` does not.
    pub host_path: Option<Vec<u8>>,
}

impl FileInfo {
    /// Creates a file that has a name and looks the same to everyone.
    #[must_use]
    pub fn new(path: Option<Vec<u8>>, dev: u32, ino: u64, file_type: FileType) -> Self {
        Self {
            path,
            dev,
            ino,
            file_type,
            deleted: false,
            pinned: None,
            process_path: None,
            host_path: None,
        }
    }

    /// Sets the paths by which others see it. The kernel shows a path relative to the reader's
    /// root, or, in another mount namespace, relative to that one's root (`d_path`, fs/d_path.c).
    fn add_views(&mut self, process: &ProcessInfo) {
        let Some(path) = self.path.as_deref().filter(|path| path.starts_with(b"/")) else {
            return;
        };
        if process.has_own_mounts {
            let mut host = format!("/proc/{}/root", process.pid).into_bytes();
            host.extend(path);
            self.host_path = Some(host);
        } else if let Some(root) = &process.root
            && let Some(rest) = path.strip_prefix(&root[..])
            && rest.starts_with(b"/")
        {
            self.process_path = Some(rest.to_vec());
        }
    }
}

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
    pub is_of_program: bool,
    /// The requested path, from detail.
    pub asked_path: Option<Vec<u8>>,
    /// The stack where it was opened, from detail; innermost first.
    pub stack: Vec<Frame>,
    /// Its way to the process, if another process or program opened it.
    pub chain: Vec<Link>,
    /// Descriptors that the same thread opened shortly before.
    pub around: Vec<NearbyOpen>,
    /// Its role according to the configuration of supervisord.
    pub role: Option<String>,
    /// When it was closed.
    pub closed: Option<Moment>,
    /// The thread that closed it, if known.
    pub closed_by: Option<u32>,
    /// Whether the process still runs the program that closed it, as far as known.
    pub is_closed_by_program: bool,
    /// The stack where it was closed, from detail; innermost first.
    pub closed_stack: Vec<Frame>,
    /// What it refers to, if that is not the finding's file.
    pub other_file: Option<Box<FileInfo>>,
}

/// The descriptors of a process.
#[derive(Clone, Debug)]
pub struct TableReport {
    /// The process.
    pub process: ProcessInfo,
    /// Its descriptors in order, with their files.
    pub fds: Vec<(Descriptor, FileInfo)>,
}

/// Another process that writes the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The process.
    pub process: ProcessInfo,
    /// Its descriptor.
    pub fd: Descriptor,
}

/// A close of a number that was not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedAgain {
    /// When it was closed.
    pub at: Moment,
    /// The closing thread.
    pub tid: u32,
    /// The stack, innermost first.
    pub stack: Vec<Frame>,
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
    pub fn new(fd: u32, entry: &FdEntry, way: FdHistory<'_>) -> Self {
        let provenance = way.provenance;
        let seen = !entry.is_from_snapshot();
        Self {
            fd,
            access: entry.access(),
            append: entry.appends(),
            cloexec: entry.closes_on_exec(),
            description: entry.file,
            origin: origin(entry, provenance),
            opened: seen.then_some(entry.born),
            tid: seen.then_some(entry.tid),
            is_of_program: matches!(provenance, Provenance::Made | Provenance::Inherited),
            chain: chain::chain(entry, way.lineage, way.process),
            around: Vec::new(),
            role: None,
            asked_path: None,
            stack: Vec::new(),
            closed: None,
            closed_by: None,
            is_closed_by_program: false,
            closed_stack: Vec::new(),
            other_file: None,
        }
    }

    /// Creates a descriptor of a table.
    #[must_use]
    pub fn of(table: &Table, fd: u32, entry: &FdEntry, process: &ProcessInfo) -> Self {
        let way = FdHistory {
            provenance: table.provenance(entry),
            lineage: table.lineage(),
            process,
        };
        Self::new(fd, entry, way)
    }

    fn closed(closed: &Closed, table: Option<&Table>, process: &ProcessInfo) -> Self {
        let way = FdHistory {
            provenance: closed.provenance,
            lineage: &closed.lineage,
            process,
        };
        Self {
            closed: Some(closed.at),
            is_closed_by_program: table.is_some_and(|it| it.is_same_program_since(closed.at)),
            ..Self::new(closed.fd, &closed.slot, way)
        }
    }

    /// Adds its recent opens.
    fn add_around(&mut self, around: &[RecentOpen]) {
        let own = around
            .iter()
            .filter(|near| near.of == self.fd && Some(near.of_born) == self.opened);
        self.around.extend(own.map(|near| NearbyOpen {
            fd: near.fd,
            origin: origin::made_by(&near.slot),
            file_type: near.slot.file_type(),
            is_connection: origin::was_accepted(&near.slot),
            before: near.of_born.since(near.slot.born),
            closed: near.closed,
        }));
    }

    /// Returns the connection it was apparently opened for, if it is still open although the
    /// connection was closed: accepted just before by the same thread, and closed since.
    #[must_use]
    pub fn outlives(&self) -> Option<&NearbyOpen> {
        let mut connections = self.around.iter().filter(|near| near.is_connection);
        let last = connections.next()?;
        let closed = last.closed?;
        self.closed.is_none_or(|own| own > closed).then_some(last)
    }
}

/// A problem to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its ID.
    pub id: u64,
    /// What happened to it.
    pub change: Change,
    /// The process.
    pub process: ProcessInfo,
    /// The file.
    pub file: FileInfo,
    /// The open descriptors, in order.
    pub fds: Vec<Descriptor>,
    /// Descriptors closed since the last report, in order of closing.
    pub closed: Vec<Descriptor>,
    /// Number of further closed descriptors.
    pub more_closed: u32,
    /// How long it existed, in nanoseconds, if it is gone.
    pub lifetime: Option<u64>,
    /// How often it appeared since the last report.
    pub times: u32,
    /// Its cause.
    pub cause: Cause,
    /// Its severity.
    pub severity: Severity,
    /// What to do about it.
    pub advice: &'static str,
    /// Other processes that write the file through descriptions of their own.
    pub others: Vec<Other>,
    /// The second close, of a double close.
    pub closed_again: Option<ClosedAgain>,
    /// Processes whose log the file is, according to the configuration of supervisord.
    pub shared_by: Vec<String>,
}

impl Finding {
    /// Creates a finding without descriptors and advice.
    #[must_use]
    pub fn new(
        id: u64,
        change: Change,
        process: ProcessInfo,
        file: FileInfo,
        cause: Cause,
        severity: Severity,
    ) -> Self {
        Self {
            id,
            change,
            process,
            file,
            fds: Vec::new(),
            closed: Vec::new(),
            more_closed: 0,
            lifetime: None,
            times: 1,
            cause,
            severity,
            advice: "",
            others: Vec::new(),
            closed_again: None,
            shared_by: Vec::new(),
        }
    }
}

/// Facts about a duplicate from outside the tables.
#[derive(Clone, Debug)]
pub struct Context {
    /// The process.
    pub process: ProcessInfo,
    /// The kernel's name for the file.
    pub name: Option<Name>,
    /// Whether another file is at the path now.
    pub replaced: bool,
    /// Descriptors that the parent has under the same number and with the same description. Those
    /// of unknown provenance are attributed to it.
    pub from_parent: Vec<u32>,
    /// Whether the parent has the file open more than once as well. Then the duplicate is the
    /// parent's, unless the process runs another program or has added to it.
    pub parent_holds_it: bool,
}

/// Diagnoses a duplicate.
#[must_use]
pub fn diagnose(duplicate: &Duplicate<'_>, context: Context) -> Finding {
    let table = duplicate.table;
    let held: Vec<_> = duplicate
        .fds
        .iter()
        .filter_map(|&fd| {
            let (table, entry) = (table?, table?.get(fd)?);
            let provenance = match table.provenance(entry) {
                Provenance::Unknown if context.from_parent.contains(&fd) => Provenance::Inherited,
                seen => seen,
            };
            Some((fd, entry, provenance))
        })
        .collect();
    // One that is gone is judged by what it was.
    let is_gone = duplicate.change == Change::Gone;
    let closed = duplicate.closed.iter().filter(|_| is_gone);
    let all: Vec<_> = held
        .into_iter()
        .chain(closed.map(|closed| (closed.fd, &closed.slot, closed.provenance)))
        .collect();
    let numbers: Vec<u32> = all.iter().map(|&(fd, ..)| fd).collect();
    let entries: Vec<&FdEntry> = all.iter().map(|&(_, entry, _)| entry).collect();
    let provenances: Vec<Provenance> = all.iter().map(|&(_, _, provenance)| provenance).collect();
    let file = entries
        .first()
        .map_or_else(FdEntry::default, |entry| **entry);
    let unlinked = context.name.as_ref().is_some_and(|name| name.deleted)
        || entries.iter().all(|entry| entry.was_unlinked());
    let nameless = entries.iter().any(|entry| entry.is_temporary())
        || context
            .name
            .as_ref()
            .is_some_and(|name| is_memory(&name.path));
    let mut file = FileInfo {
        process_path: None,
        host_path: None,
        // A file that never had a name is not deleted.
        deleted: unlinked && !nameless,
        pinned: context
            .name
            .as_ref()
            .and_then(|name| name.pinned)
            .filter(|_| !nameless),
        path: context.name.map(|name| name.path),
        dev: file.dev,
        ino: file.ino,
        file_type: file.file_type(),
    };
    file.add_views(&context.process);
    let mut fds: Vec<_> = duplicate
        .fds
        .iter()
        .filter_map(|&fd| {
            let table = table?;
            let mut descriptor = Descriptor::of(table, fd, table.get(fd)?, &context.process);
            if descriptor.origin == "unknown" && context.from_parent.contains(&fd) {
                descriptor.origin = "fork";
            }
            Some(descriptor)
        })
        .collect();
    let mut closed: Vec<_> = duplicate
        .closed
        .iter()
        .map(|closed| Descriptor::closed(closed, table, &context.process))
        .collect();
    for descriptor in fds.iter_mut().chain(&mut closed) {
        descriptor.add_around(duplicate.around);
    }
    let cause = if file.deleted && context.replaced {
        Cause::Rotated
    } else if file.deleted && entries.len() < 2 {
        Cause::Deleted
    } else {
        cause(&entries, &provenances, &numbers)
    };
    let severity = severity(
        cause,
        &entries,
        &file,
        table.map_or(0, Table::len),
        context.process.fd_limit,
        context.parent_holds_it
            && provenances
                .iter()
                .all(|&entry| entry == Provenance::Inherited),
    );
    Finding {
        id: duplicate.id,
        change: duplicate.change,
        process: context.process,
        advice: advice::advice(
            cause,
            &entries,
            &file,
            fds.iter().any(|fd| fd.outlives().is_some()),
        ),
        fds,
        closed,
        more_closed: duplicate.more_closed,
        lifetime: duplicate
            .ended
            .filter(|_| duplicate.change == Change::Gone)
            .map(|ended| ended.since(duplicate.since)),
        times: duplicate.times,
        cause,
        severity,
        others: Vec::new(),
        closed_again: None,
        shared_by: Vec::new(),
        file,
    }
}

/// Returns whether a path is the kernel's name for shared memory: of memfd_create (mm/shmem.c) or
/// System V (ipc/shm.c).
#[must_use]
pub fn is_memory(path: &[u8]) -> bool {
    path.starts_with(b"/memfd:") || path.starts_with(b"/SYSV")
}

/// Space of a rotated file that warrants a warning even for readers: bytes.
const MUCH: u64 = 1 << 20;

/// Space of any other deleted file that warrants a warning, as programs delete their private files:
/// bytes.
const VERY_MUCH: u64 = 1 << 30;

fn severity(
    cause: Cause,
    entries: &[&FdEntry],
    file: &FileInfo,
    open: usize,
    fd_limit: Option<u64>,
    is_parents: bool,
) -> Severity {
    if is_parents {
        return Severity::Info;
    }
    let share = |count: usize, most: u64, percent: u64| count as u64 >= most * percent / 100;
    if fd_limit.is_some_and(|most| share(open, most, 80) && share(entries.len(), most, 10)) {
        return Severity::Critical;
    }
    let written = entries.iter().any(|entry| entry.access().writes());
    if entries.len() < 2 && file.deleted {
        let is_large = |least| file.pinned.is_some_and(|bytes| bytes >= least);
        let is_written = written && cause == Cause::Rotated;
        let least = if cause == Cause::Rotated {
            MUCH
        } else {
            VERY_MUCH
        };
        return if is_written || is_large(least) {
            Severity::Warning
        } else {
            Severity::Info
        };
    }
    if file.file_type == FileType::Regular
        && ((written && has_two_descriptions(entries)) || file.deleted)
    {
        Severity::Warning
    } else {
        Severity::Info
    }
}

#[cfg(test)]
mod tests;
