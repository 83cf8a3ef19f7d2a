//! Says what a duplicate is: its cause, how much it matters, and what to do about it.
//!
//! Pure: what there is to know beyond the tables, such as a file's path, is handed in. How a
//! finding is shown is not known here.

mod advice;
mod origin;

use crate::{
    detail::Frame,
    duplicates::{Change, Closed, Duplicate, Rotation},
    model::{Access, FileType, Identity, Moment, Provenance, Slot, Table},
};

pub use self::origin::origin;

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
}

impl Cause {
    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reopened => "reopened",
            Self::Inherited => "inherited",
            Self::Duplicated => "duplicated",
            Self::Rotated => "rotated",
        }
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
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
    pub most_fds: Option<u64>,
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
    /// When it was closed, and was no longer part of it.
    pub closed: Option<Moment>,
    /// Whether the program that runs now is the one that closed it, as far as is known.
    pub is_closed_by_program: bool,
    /// Where in the program it was closed, if detail was wanted: from the inside out.
    pub closed_stack: Vec<Frame>,
    /// What it refers to, if that is not the finding's file.
    pub other_file: Option<Box<FileInfo>>,
}

impl Descriptor {
    /// The descriptor `fd`.
    #[must_use]
    pub fn new(fd: u32, slot: &Slot, provenance: Provenance) -> Self {
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
            asked_path: None,
            stack: Vec::new(),
            closed: None,
            is_closed_by_program: false,
            closed_stack: Vec::new(),
            other_file: None,
        }
    }

    fn closed(closed: &Closed, table: Option<&Table>) -> Self {
        Self {
            closed: Some(closed.at),
            is_closed_by_program: table.is_some_and(|it| it.is_same_program_since(closed.at)),
            ..Self::new(closed.fd, &closed.slot, closed.provenance)
        }
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
}

/// What is known of a duplicate beyond the tables.
#[derive(Clone, Debug)]
pub struct Context {
    /// The process.
    pub process: ProcessInfo,
    /// Path of the file, or what the kernel shows instead.
    pub path: Option<Vec<u8>>,
    /// Whether the path leads nowhere any more.
    pub deleted: bool,
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
            Some((fd, slot, table.provenance(slot)))
        })
        .collect();
    // One that is gone is judged by what it was.
    let is_gone = held.len() < 2;
    let closed = duplicate.closed.iter().filter(|_| is_gone);
    let (slots, provenances): (Vec<&Slot>, Vec<Provenance>) = held
        .iter()
        .map(|&(_, slot, provenance)| (slot, provenance))
        .chain(closed.map(|closed| (&closed.slot, closed.provenance)))
        .unzip();
    let file = slots.first().map_or_else(Slot::default, |slot| **slot);
    let cause = cause(&slots, &provenances);
    let unlinked = context.deleted || slots.iter().all(|slot| slot.was_unlinked());
    let nameless = slots.iter().any(|slot| slot.is_temporary())
        || context.path.as_deref().is_some_and(is_memory);
    let file = FileInfo {
        // What never had a name is not deleted.
        deleted: unlinked && !nameless,
        path: context.path,
        dev: file.dev,
        ino: file.ino,
        file_type: file.file_type(),
    };
    let severity = severity(
        &slots,
        &file,
        table.map_or(0, Table::len),
        context.process.most_fds,
        context.parent_holds_it
            && provenances
                .iter()
                .all(|&slot| slot == Provenance::Inherited),
    );
    Finding {
        id: duplicate.id,
        change: duplicate.change,
        process: context.process,
        fds: held
            .iter()
            .map(|&(fd, slot, provenance)| Descriptor::new(fd, slot, provenance))
            .collect(),
        closed: duplicate
            .closed
            .iter()
            .map(|closed| Descriptor::closed(closed, table))
            .collect(),
        more_closed: duplicate.more_closed,
        lifetime: duplicate
            .ended
            .filter(|_| duplicate.change == Change::Gone)
            .map(|ended| ended.since(duplicate.since)),
        times: duplicate.times,
        cause,
        severity,
        advice: advice::advice(cause, &slots, &file),
        file,
    }
}

/// The finding that a rotated file is: about what was rotated, and beside it what is at its path
/// now. `context` is about the first, `new` is the path of the second.
#[must_use]
pub fn diagnose_rotation(
    rotation: &Rotation<'_>,
    context: Context,
    new: Option<Vec<u8>>,
) -> Finding {
    let table = rotation.table;
    let written = |identity: Identity| -> Vec<_> {
        let Some(table) = table else {
            return Vec::new();
        };
        let slots = table.iter();
        slots
            .filter(|(_, slot)| slot.identity() == identity && slot.access().writes())
            .map(|(fd, slot)| Descriptor::new(fd, slot, table.provenance(slot)))
            .collect()
    };
    let file = |identity: Identity, path, deleted| FileInfo {
        path,
        dev: identity.dev,
        ino: identity.number,
        file_type: FileType::Regular,
        deleted,
    };
    let new_file = file(rotation.new, new, false);
    let old = written(rotation.old).into_iter();
    let new = written(rotation.new).into_iter();
    let new = new.map(|descriptor| Descriptor {
        other_file: Some(Box::new(new_file.clone())),
        ..descriptor
    });
    let file = file(rotation.old, context.path, context.deleted);
    Finding {
        id: rotation.id,
        change: rotation.change,
        process: context.process,
        fds: old.chain(new).collect(),
        closed: Vec::new(),
        more_closed: 0,
        lifetime: None,
        times: 1,
        cause: Cause::Rotated,
        severity: Severity::Warning,
        advice: advice::advice(Cause::Rotated, &[], &file),
        file,
    }
}

fn cause(slots: &[&Slot], provenances: &[Provenance]) -> Cause {
    if !has_two_descriptions(slots) {
        Cause::Duplicated
    } else if provenances.iter().any(|slot| slot.came_over_fork()) {
        Cause::Inherited
    } else {
        Cause::Reopened
    }
}

/// Whether a path is what the kernel shows for memory that is shared as a file: memfd_create and
/// System V's, mm/shmem.c and ipc/shm.c.
#[must_use]
pub fn is_memory(path: &[u8]) -> bool {
    path.starts_with(b"/memfd:") || path.starts_with(b"/SYSV")
}

fn has_two_descriptions(slots: &[&Slot]) -> bool {
    slots.windows(2).any(|pair| pair[0].file != pair[1].file)
}

fn severity(
    slots: &[&Slot],
    file: &FileInfo,
    open: usize,
    most_fds: Option<u64>,
    is_parents: bool,
) -> Severity {
    if is_parents {
        return Severity::Info;
    }
    let share = |count: usize, most: u64, percent: u64| count as u64 >= most * percent / 100;
    if most_fds.is_some_and(|most| share(open, most, 80) && share(slots.len(), most, 10)) {
        return Severity::Critical;
    }
    let written = slots.iter().any(|slot| slot.access().writes());
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
