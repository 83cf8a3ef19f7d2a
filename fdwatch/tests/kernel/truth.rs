//! The kernel's state, from /proc and kcmp, and how the model differs from it.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    os::unix::fs::MetadataExt as _,
};

use fdwatch_core::model::{Access, FdEntry, Model, Table};

/// A descriptor, as /proc shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Row {
    ino: u64,
    access: &'static str,
    closes_on_exec: bool,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cloexec = if self.closes_on_exec { " cloexec" } else { "" };
        write!(f, "inode {} {}{cloexec}", self.ino, self.access)
    }
}

/// A task and its descriptors.
struct Task {
    tgid: u32,
    tid: u32,
    /// Parent of a process; for a thread, its own process.
    beside: u32,
    rows: BTreeMap<u32, Row>,
}

/// A difference between model and kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Process and table.
    pub(crate) tgid: u32,
    pub(crate) table: u64,
    /// Descriptor, if the difference concerns one.
    pub(crate) fd: Option<u32>,
    /// Whether no snapshot can repair it, because the task has no descriptors.
    pub(crate) is_hidden: bool,
    what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The tasks of a process and all its descendants, which must be at rest.
pub(crate) struct Truth {
    tasks: Vec<Task>,
}

impl Truth {
    /// Reads the current state.
    pub(crate) fn of(pid: u32) -> Self {
        let mut truth = Self { tasks: Vec::new() };
        truth.add(pid, pid);
        truth
    }

    fn add(&mut self, tgid: u32, parent: u32) {
        for task in fs::read_dir(format!("/proc/{tgid}/task")).unwrap() {
            let tid: u32 = number(&task.unwrap());
            if !has_ended(tid) {
                let beside = if tid == tgid { parent } else { tgid };
                // All tasks that share a table have the same descriptors.
                let rows = if tid != tgid && !has_ended(tgid) && share_table(tid, tgid) {
                    BTreeMap::new()
                } else {
                    rows(tid)
                };
                self.tasks.push(Task {
                    tgid,
                    tid,
                    beside,
                    rows,
                });
            }
            let children = fs::read_to_string(format!("/proc/{tgid}/task/{tid}/children"));
            for child in children.unwrap_or_default().split_whitespace() {
                self.add(child.parse().unwrap(), tgid);
            }
        }
    }

    /// Returns the number of descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        self.tasks.iter().map(|task| task.rows.len()).sum()
    }

    /// Returns the differences from the model.
    pub(crate) fn differences_from(&self, model: &Model) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut files = Vec::new();
        for task in &self.tasks {
            let &Task {
                tgid, tid, beside, ..
            } = task;
            let table = model.table_of_thread(tgid, tid);
            let mut differ = |fd, is_hidden, what: String| {
                differences.push(Difference {
                    tgid,
                    table: table.map_or(0, Table::address),
                    fd,
                    is_hidden,
                    what: format!("process {tgid}, thread {tid}: {what}"),
                });
            };
            let Some(table) = table else {
                if !task.rows.is_empty() {
                    differ(None, false, "the model has no table".to_owned());
                }
                continue;
            };
            if tid != beside && !has_ended(beside) {
                let others = model.table_of(beside).map(Table::address);
                let share = others == Some(table.address());
                if share != share_table(tid, beside) {
                    differ(
                        None,
                        share && task.rows.is_empty(),
                        format!("in the model it shares {beside}'s table: {share}"),
                    );
                    continue;
                }
                if share && tid != tgid {
                    continue;
                }
            }
            let has: BTreeMap<u32, Row> = table.iter().map(row).collect();
            let fds: BTreeSet<u32> = task.rows.keys().chain(has.keys()).copied().collect();
            for fd in fds {
                let (shown, has) = (task.rows.get(&fd), has.get(&fd));
                if shown != has {
                    differ(
                        Some(fd),
                        false,
                        format!("{fd} is {shown:?}, in the model {has:?}"),
                    );
                }
            }
            files.extend(table.iter().map(|(fd, entry)| File {
                ino: entry.ino,
                description: entry.file,
                tid,
                fd,
                tgid,
                table: table.address(),
            }));
        }
        if differences.is_empty() {
            compare_descriptions(files, &mut differences);
        }
        differences
    }
}

/// Converts a descriptor of the model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct File {
    ino: u64,
    description: u64,
    tid: u32,
    fd: u32,
    tgid: u32,
    table: u64,
}

/// Checks which descriptors of one inode have one description: the model and kcmp must agree on each pair.
fn compare_descriptions(mut files: Vec<File>, differences: &mut Vec<Difference>) {
    let mut differ = |one: File, other: File, what: &str| {
        differences.push(Difference {
            tgid: other.tgid,
            table: other.table,
            fd: Some(other.fd),
            is_hidden: false,
            what: format!(
                "{} of {} and {} of {} are {what}",
                one.fd, one.tid, other.fd, other.tid
            ),
        });
    };
    files.sort_unstable();
    for on_inode in files.chunk_by(|one, other| one.ino == other.ino) {
        let mut descriptions = Vec::new();
        for same in on_inode.chunk_by(|one, other| one.description == other.description) {
            for &other in &same[1..] {
                if compare_files(same[0], other) != Ordering::Equal {
                    differ(same[0], other, "two descriptions, in the model one");
                }
            }
            descriptions.push(same[0]);
        }
        descriptions.sort_by(|&one, &other| compare_files(one, other));
        for pair in descriptions.windows(2) {
            if compare_files(pair[0], pair[1]) == Ordering::Equal {
                differ(pair[0], pair[1], "one description, in the model two");
            }
        }
    }
}

fn row((fd, entry): (u32, &FdEntry)) -> (u32, Row) {
    let row = Row {
        ino: entry.ino,
        access: entry.access().name(),
        closes_on_exec: entry.closes_on_exec(),
    };
    (fd, row)
}

/// Reads the descriptors of a task.
fn rows(tid: u32) -> BTreeMap<u32, Row> {
    let entries = fs::read_dir(format!("/proc/{tid}/fd")).unwrap();
    let rows = entries.map(|entry| {
        let fd = number(&entry.unwrap());
        let ino = fs::metadata(format!("/proc/{tid}/fd/{fd}")).unwrap().ino();
        let info = fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        let access = match flags & (libc::O_ACCMODE | libc::O_PATH) {
            libc::O_RDONLY => Access::Read,
            libc::O_WRONLY => Access::Write,
            libc::O_RDWR => Access::ReadWrite,
            _ => Access::Path,
        };
        let row = Row {
            ino,
            access: access.name(),
            closes_on_exec: flags & libc::O_CLOEXEC != 0,
        };
        (fd, row)
    });
    rows.collect()
}

fn number(entry: &fs::DirEntry) -> u32 {
    entry.file_name().to_str().unwrap().parse().unwrap()
}

/// `include/linux/sched.h`.
const PF_EXITING: u32 = 4;

/// Returns whether the task has released its descriptors or is about to.
fn has_ended(tid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{tid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit(") ").next().unwrap().split(' ');
    let (state, flags) = (fields.next(), fields.nth(5));
    let Some(flags) = flags.and_then(|flags| flags.parse::<u32>().ok()) else {
        return true;
    };
    matches!(state, Some("Z" | "X")) || flags & PF_EXITING != 0
}

/// `include/uapi/linux/kcmp.h`.
const KCMP_FILE: i32 = 0;
const KCMP_FILES: i32 = 2;

/// Returns whether two tasks share one table.
pub(crate) fn share_table(one: u32, other: u32) -> bool {
    // SAFETY: the call only compares.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, 0, 0) == 0 }
}

/// Compares two open file descriptions, in an order that the kernel defines.
fn compare_files(one: File, other: File) -> Ordering {
    // SAFETY: the call only compares.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            one.tid,
            other.tid,
            KCMP_FILE,
            one.fd,
            other.fd,
        )
    };
    match order {
        0 => Ordering::Equal,
        1 => Ordering::Less,
        2 => Ordering::Greater,
        _ => panic!("kcmp fails: {}", std::io::Error::last_os_error()),
    }
}
