//! Says what a duplicate is: its cause, how much it matters, and what to do about it.
//!
//! Pure: what there is to know beyond the tables, such as a file's path, is handed in. How a
//! finding is shown is not known here.

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

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Severity {
    /// Readers only, or one description.
    Info,
    /// Two descriptions and a writer among them, or a deleted file that takes space.
    #[default]
    Warning,
    /// It grows, and the process is about to run out of descriptors.
    Critical,
}

impl Severity {
    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The process a finding is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its number.
    pub pid: u32,
    /// When it was started: nanoseconds since boot; 0 if unknown.
    pub start_time: u64,
    /// The process it is a child of; 0 if unknown.
    pub ppid: u32,
    /// Its name: bytes of its own choice.
    pub comm: Vec<u8>,
    /// The program it runs, if that could be read.
    pub exe: Option<Vec<u8>>,
    /// What it was started with, if that could be read.
    pub cmdline: Option<Vec<Vec<u8>>>,
    /// How many descriptors it may have (`RLIMIT_NOFILE`, soft), if that could be read.
    pub fd_limit: Option<u64>,
    /// Its real user, if that could be read.
    pub uid: Option<u32>,
    /// The path of its control group, if that could be read.
    pub cgroup: Option<String>,
    /// What that tells.
    pub workload: Workload,
    /// Its root directory as fdwatch sees it, if that is another than fdwatch's own.
    pub root: Option<Vec<u8>>,
    /// It has mounts of its own, as in a container.
    pub has_own_mounts: bool,
    /// Its name as a supervisord's: group and process.
    pub supervisor: Option<(String, String)>,
}

/// A file's name, as the kernel shows it for a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its path, or what is shown instead.
    pub path: Vec<u8>,
    /// Whether that path does not lead to it any more.
    pub deleted: bool,
    /// The space the file takes, if it was deleted: bytes.
    pub pinned: Option<u64>,
}

/// The file a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its path, or what the kernel shows instead; none if that could not be read.
    pub path: Option<Vec<u8>>,
    /// The device, in the kernel's encoding.
    pub dev: u32,
    /// The inode.
    pub ino: u64,
    /// The type.
    pub file_type: FileType,
    /// It has no name any more.
    pub deleted: bool,
    /// The space it takes for as long as it is held, in bytes, if it has no name and that is known.
    pub pinned: Option<u64>,
    /// Its path as the process sees it, if that is another.
    pub process_path: Option<Vec<u8>>,
    /// A path by which it is found from the host for as long as the process is there, if `path` does not
    /// lead to it there.
    pub host_path: Option<Vec<u8>>,
}

impl FileInfo {
    /// A file that has a name, as everyone sees it.
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

    /// Adds the paths by which others see it than fdwatch. The kernel shows a path up to the root of
    /// whoever asks, or where that is not on the way, as in other mounts, up to theirs (`d_path`,
    /// fs/d_path.c).
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
    /// How it may be used.
    pub access: Access,
    /// Whether what it writes goes to the end.
    pub append: bool,
    /// Whether it closes on exec.
    pub cloexec: bool,
    /// Its open file description, as an address of the kernel: not to be shown.
    pub description: u64,
    /// How it came to be.
    pub origin: &'static str,
    /// When it was made, if that was seen.
    pub opened: Option<Moment>,
    /// The thread that made it, if that was seen.
    pub tid: Option<u32>,
    /// Whether the program that runs now is the one that made it, as far as is known.
    pub is_of_program: bool,
    /// The path it was asked for by, if detail was wanted.
    pub asked_path: Option<Vec<u8>>,
    /// Where in the program it was made, if detail was wanted: from the inside out.
    pub stack: Vec<Frame>,
    /// Its way to the process, if that did not make it itself, or runs another program since.
    pub chain: Vec<Link>,
    /// What the thread that made it had made shortly before.
    pub around: Vec<NearbyOpen>,
    /// What it is for, if it is a supervisord's and its configuration tells.
    pub role: Option<String>,
    /// When it was closed, and was no longer part of it.
    pub closed: Option<Moment>,
    /// The thread that closed it, if that was noted.
    pub closed_by: Option<u32>,
    /// Whether the program that runs now is the one that closed it, as far as is known.
    pub is_closed_by_program: bool,
    /// Where in the program it was closed, if detail was wanted: from the inside out.
    pub closed_stack: Vec<Frame>,
    /// What it refers to, if that is not the finding's file.
    pub other_file: Option<Box<FileInfo>>,
}

/// A process's descriptors.
#[derive(Clone, Debug)]
pub struct TableReport {
    /// The process.
    pub process: ProcessInfo,
    /// Its descriptors, in order, and what each refers to.
    pub fds: Vec<(Descriptor, FileInfo)>,
}

/// Another process that writes the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// That.
    pub process: ProcessInfo,
    /// By this descriptor.
    pub fd: Descriptor,
}

/// A close of a number that was not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedAgain {
    /// When.
    pub at: Moment,
    /// The thread.
    pub tid: u32,
    /// Where in the program: from the inside out.
    pub stack: Vec<Frame>,
}

/// What the thread that made a descriptor had made shortly before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearbyOpen {
    /// Its number.
    pub fd: u32,
    /// How it came to be.
    pub origin: &'static str,
    /// What it is.
    pub file_type: FileType,
    /// It is a connection that was accepted.
    pub is_connection: bool,
    /// How long before, in nanoseconds.
    pub before: u64,
    /// When it was closed, if it is.
    pub closed: Option<Moment>,
}

/// The table a descriptor is or was in, as far as its way there goes.
#[derive(Clone, Copy, Debug)]
pub struct FdHistory<'a> {
    /// How it came to be in its table.
    pub provenance: Provenance,
    /// The way of the table.
    pub lineage: &'a Lineage,
    /// Who has the table.
    pub process: &'a ProcessInfo,
}

impl Descriptor {
    /// The descriptor `fd`.
    #[must_use]
    pub fn new(fd: u32, slot: &FdEntry, way: FdHistory<'_>) -> Self {
        let provenance = way.provenance;
        let seen = !slot.is_from_snapshot();
        Self {
            fd,
            access: slot.access(),
            append: slot.appends(),
            cloexec: slot.closes_on_exec(),
            description: slot.file,
            origin: origin(slot, provenance),
            opened: seen.then_some(slot.born),
            tid: seen.then_some(slot.tid),
            is_of_program: matches!(provenance, Provenance::Made | Provenance::Inherited),
            chain: chain::chain(slot, way.lineage, way.process),
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

    /// One of a table.
    #[must_use]
    pub fn of(table: &Table, fd: u32, slot: &FdEntry, process: &ProcessInfo) -> Self {
        let way = FdHistory {
            provenance: table.provenance(slot),
            lineage: table.lineage(),
            process,
        };
        Self::new(fd, slot, way)
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

    /// Adds what was around it.
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

    /// The connection it was made for by all that was seen, and outlives: accepted by the same thread
    /// just before, and closed while it is not.
    #[must_use]
    pub fn outlives(&self) -> Option<&NearbyOpen> {
        let mut connections = self.around.iter().filter(|near| near.is_connection);
        let last = connections.next()?;
        let closed = last.closed?;
        self.closed.is_none_or(|own| own > closed).then_some(last)
    }
}

/// A duplicate worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Number of it, to know it again by.
    pub id: u64,
    /// What happened.
    pub change: Change,
    /// The process.
    pub process: ProcessInfo,
    /// The file.
    pub file: FileInfo,
    /// The descriptors that are held now, in order.
    pub fds: Vec<Descriptor>,
    /// Those that were closed since it was last told, in the order they were.
    pub closed: Vec<Descriptor>,
    /// How many more were closed, of which nothing is known.
    pub more_closed: u32,
    /// How long it lived, in nanoseconds, if it is gone.
    pub lifetime: Option<u64>,
    /// How often it came since it was last told.
    pub times: u32,
    /// Why it is.
    pub cause: Cause,
    /// How much it matters.
    pub severity: Severity,
    /// What to do about it.
    pub advice: &'static str,
    /// Other processes that write the file, each through a description of its own.
    pub others: Vec<Other>,
    /// The second close of what was closed already.
    pub closed_again: Option<ClosedAgain>,
    /// Whose log the file is, if it is a supervisord's and its configuration tells.
    pub shared_by: Vec<String>,
}

impl Finding {
    /// Why a process's file is told, and nothing more than that: no descriptor, and no advice.
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

/// What is known of a duplicate beyond the tables.
#[derive(Clone, Debug)]
pub struct Context {
    /// The process.
    pub process: ProcessInfo,
    /// What the kernel calls the file.
    pub name: Option<Name>,
    /// Whether the path leads to another file now.
    pub replaced: bool,
    /// Descriptors that the process's parent has under the same number, as the same description: where
    /// it was not seen how they came, they came from there.
    pub from_parent: Vec<u32>,
    /// Whether the process's parent is there and holds the same file twice: then the duplicate is the
    /// parent's, unless the process runs another program, or has added to it.
    pub parent_holds_it: bool,
}

/// The finding that a duplicate is.
#[must_use]
pub fn diagnose(duplicate: &Duplicate<'_>, context: Context) -> Finding {
    let table = duplicate.table;
    let held: Vec<_> = duplicate
        .fds
        .iter()
        .filter_map(|&fd| {
            let (table, slot) = (table?, table?.get(fd)?);
            let provenance = match table.provenance(slot) {
                Provenance::Unknown if context.from_parent.contains(&fd) => Provenance::Inherited,
                seen => seen,
            };
            Some((fd, slot, provenance))
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
    let slots: Vec<&FdEntry> = all.iter().map(|&(_, slot, _)| slot).collect();
    let provenances: Vec<Provenance> = all.iter().map(|&(_, _, provenance)| provenance).collect();
    let file = slots.first().map_or_else(FdEntry::default, |slot| **slot);
    let unlinked = context.name.as_ref().is_some_and(|name| name.deleted)
        || slots.iter().all(|slot| slot.was_unlinked());
    let nameless = slots.iter().any(|slot| slot.is_temporary())
        || context
            .name
            .as_ref()
            .is_some_and(|name| is_memory(&name.path));
    let mut file = FileInfo {
        process_path: None,
        host_path: None,
        // What never had a name is not deleted.
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
    } else if file.deleted && slots.len() < 2 {
        Cause::Deleted
    } else {
        cause(&slots, &provenances, &numbers)
    };
    let severity = severity(
        cause,
        &slots,
        &file,
        table.map_or(0, Table::len),
        context.process.fd_limit,
        context.parent_holds_it
            && provenances
                .iter()
                .all(|&slot| slot == Provenance::Inherited),
    );
    Finding {
        id: duplicate.id,
        change: duplicate.change,
        process: context.process,
        advice: advice::advice(
            cause,
            &slots,
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

/// Whether a path is what the kernel shows for memory that is shared as a file: memfd_create and
/// System V's, mm/shmem.c and ipc/shm.c.
#[must_use]
pub fn is_memory(path: &[u8]) -> bool {
    path.starts_with(b"/memfd:") || path.starts_with(b"/SYSV")
}

/// Space that a reader of a rotated file may hold without that being worth a warning: bytes.
const MUCH: u64 = 1 << 20;

/// And anyone of a file that is deleted, as files are that only their program is to know.
const VERY_MUCH: u64 = 1 << 30;

fn severity(
    cause: Cause,
    slots: &[&FdEntry],
    file: &FileInfo,
    open: usize,
    fd_limit: Option<u64>,
    is_parents: bool,
) -> Severity {
    if is_parents {
        return Severity::Info;
    }
    let share = |count: usize, most: u64, percent: u64| count as u64 >= most * percent / 100;
    if fd_limit.is_some_and(|most| share(open, most, 80) && share(slots.len(), most, 10)) {
        return Severity::Critical;
    }
    let written = slots.iter().any(|slot| slot.access().writes());
    if slots.len() < 2 && file.deleted {
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
        && ((written && has_two_descriptions(slots)) || file.deleted)
    {
        Severity::Warning
    } else {
        Severity::Info
    }
}

#[cfg(test)]
mod tests;
