//! Groups similar leaks, with counts. Bounded.

use std::fmt::Write as _;

use rustc_hash::{FxHashMap, FxHashSet};

use super::leak::LeakKind;
use crate::{
    diagnose::{Descriptor, FileInfo, ProcessInfo},
    model::{Access, FileType, Moment},
};

/// Maximum number of groups; further leaks are counted.
const MAX_GROUPS: usize = 1000;

/// Maximum number of paths and programs listed per group, besides the first.
const MAX_LISTED: usize = 8;

/// A leak with everything known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakReport {
    /// How it leaked.
    pub kind: LeakKind,
    /// The process that opened it, if known; otherwise, the one that had it.
    pub process: ProcessInfo,
    /// The process that has it after running another program, if it leaked that way.
    pub into: Option<ProcessInfo>,
    /// What it refers to. The path is the requested one.
    pub file: FileInfo,
    /// The leaked descriptor.
    pub descriptor: Descriptor,
    /// When it leaked.
    pub at: Moment,
}

/// Names of shells.
const SHELLS: [&[u8]; 9] = [
    b"ash", b"bash", b"busybox", b"dash", b"ksh", b"ksh93", b"mksh", b"sh", b"zsh",
];

/// Lowest number of the descriptors that shells use internally.
const FIRST_SHELL_FD: u32 = 10;

impl LeakReport {
    /// Returns whether the leak is the script that a shell is running. The shell keeps the script
    /// open by design, and the script cannot close it.
    #[must_use]
    pub fn is_script_of_shell(&self) -> bool {
        let exe = self.process.exe.as_ref().unwrap_or(&self.process.comm);
        let name = exe.rsplit(|&byte| byte == b'/').next().unwrap_or(exe);
        let Descriptor {
            fd,
            access,
            cloexec,
            ..
        } = self.descriptor;
        SHELLS.contains(&name)
            && self.kind == LeakKind::AtExit
            && self.file.file_type == FileType::Regular
            && (access, cloexec) == (Access::Read, true)
            && fd >= FIRST_SHELL_FD
    }
}

/// Similar leaks: opened at the same place, of the same type, by the same program.
#[derive(Clone, Debug)]
pub struct LeakGroup {
    /// The first leak.
    pub first: LeakReport,
    /// Number of leaks.
    pub count: u64,
    /// Number of processes.
    pub processes: u64,
    /// Some of the other paths.
    pub other_paths: Vec<Vec<u8>>,
    /// Some of the processes that have them now, if they leaked that way.
    pub into: Vec<ProcessInfo>,
    seen: FxHashSet<u32>,
}

/// Groups of leaks, in order of their first leak.
#[derive(Debug, Default)]
pub struct LeakGroups {
    groups: Vec<LeakGroup>,
    by_key: FxHashMap<String, usize>,
    more: u64,
}

impl LeakGroups {
    /// Adds a leak.
    pub fn add(&mut self, leak: LeakReport) {
        let key = key(&leak);
        if let Some(&i) = self.by_key.get(&key) {
            self.groups[i].add(leak);
        } else if self.groups.len() < MAX_GROUPS {
            self.by_key.insert(key, self.groups.len());
            self.groups.push(LeakGroup {
                count: 1,
                processes: 1,
                other_paths: Vec::new(),
                into: leak.into.iter().cloned().collect(),
                seen: FxHashSet::from_iter([leak.process.pid]),
                first: leak,
            });
        } else {
            self.more += 1;
        }
    }

    /// Returns the groups.
    #[must_use]
    pub fn groups(&self) -> &[LeakGroup] {
        &self.groups
    }

    /// Returns the number of leaks that exceed the maximum number of groups.
    #[must_use]
    pub const fn more(&self) -> u64 {
        self.more
    }

    /// Returns the number of leaks of a kind.
    #[must_use]
    pub fn count(&self, kind: LeakKind) -> u64 {
        let groups = self.groups.iter().filter(|group| group.first.kind == kind);
        groups.map(|group| group.count).sum()
    }
}

impl LeakGroup {
    fn add(&mut self, leak: LeakReport) {
        self.count += 1;
        if self.seen.insert(leak.process.pid) {
            self.processes += 1;
        }
        if let Some(path) = leak.file.path
            && self.first.file.path.as_ref() != Some(&path)
            && self.other_paths.len() < MAX_LISTED
            && !self.other_paths.contains(&path)
        {
            self.other_paths.push(path);
        }
        if let Some(into) = leak.into
            && self.into.len() < MAX_LISTED
            && self.into.iter().all(|known| known.pid != into.pid)
        {
            self.into.push(into);
        }
    }
}

/// Returns the key that similar leaks share. It has symbols, as addresses differ between processes.
fn key(leak: &LeakReport) -> String {
    let LeakReport {
        kind,
        process,
        file,
        descriptor,
        ..
    } = leak;
    let comm = String::from_utf8_lossy(&process.comm);
    let mut key = format!(
        "{}\0{comm}\0{}\0{}\0{}",
        kind.name(),
        file.file_type.name(),
        descriptor.access.name(),
        descriptor.origin
    );
    let mut is_anywhere = false;
    for frame in &descriptor.stack {
        let _ = match &frame.place {
            Some(place) => {
                is_anywhere = true;
                write!(key, "\0{}+{}", place.symbol, place.offset)
            }
            None => write!(key, "\0?"),
        };
    }
    if !is_anywhere {
        let path = file.path.as_deref().unwrap_or_default();
        let _ = write!(
            key,
            "\0{}\0{}",
            String::from_utf8_lossy(path),
            descriptor.fd
        );
    }
    key
}
