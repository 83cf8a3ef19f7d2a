//! Makes findings of duplicates: asks /proc for what the tables do not have, remembers it for as long
//! as a duplicate is there, and keeps to what is wanted. What of it is told, and how, is not known
//! here.

mod cross_process;
mod supervisord;
mod table;

use std::{fs, os::unix::fs::MetadataExt as _};

use rustc_hash::{FxHashMap, FxHashSet};

pub use self::{
    cross_process::pinned,
    supervisord::Supervisords,
    table::{pipe_ends, table_report},
};
use crate::{proc, symbols::Symbols};
use fdwatch_core::{
    detail::{Detail, Details, Frame},
    diagnose::{Context, Finding, Name, ProcessInfo, diagnose, diagnose_rotation, is_memory},
    duplicates::{Change, Duplicate, Path, Rotation},
    filter::Filter,
    model::{FdEntry, Identity, Model, Process, Table},
};

/// Whether /proc can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// What is told happens here and now.
    Live,
    /// It was recorded: there is only what the tables have.
    Recording,
}

/// Makes findings of duplicates.
#[derive(Debug)]
pub struct Investigator {
    filter: Filter,
    source: Source,
    known: FxHashMap<u64, Known>,
    supervisords: Supervisords,
    /// Processes that were told to grow.
    growing: FxHashSet<u32>,
    /// Files that several processes write, as they were told.
    shared: FxHashMap<u64, Finding>,
}

/// A duplicate that is there.
#[derive(Debug)]
struct Known {
    /// Whether it was told.
    shown: bool,
    process: ProcessInfo,
    name: Option<Name>,
}

impl Known {
    fn of(finding: &Finding, name: Option<Name>, shown: bool) -> Self {
        Self {
            shown,
            process: finding.process.clone(),
            name,
        }
    }
}

impl Investigator {
    /// One that keeps to what `filter` wants.
    #[must_use]
    pub fn new(filter: Filter, source: Source) -> Self {
        Self {
            filter,
            source,
            known: FxHashMap::default(),
            supervisords: Supervisords::default(),
            growing: FxHashSet::default(),
            shared: FxHashMap::default(),
        }
    }

    /// Other findings are wanted from here on.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
    }

    /// What is to be told of `duplicate`, if anything.
    pub fn finding(&mut self, duplicate: &Duplicate<'_>, model: &Model) -> Option<Finding> {
        if !self.filter.wants_process(duplicate.tgid) {
            return None;
        }
        let known = self.known.remove(&duplicate.id);
        let was_known = known.is_some();
        let was_shown = known.as_ref().is_some_and(|known| known.shown);
        if was_known && !was_shown && duplicate.change == Change::Gone {
            return None;
        }
        let context = self.context(duplicate, model, known);
        let name = context.name.clone();
        let mut finding = diagnose(duplicate, context);
        self.add_uses(&mut finding);
        // One alone is told of a deleted file, and that is known for certain only now.
        let is_one = finding.fds.len() + finding.closed.len() < 2;
        let wanted = self.filter.wants(&finding) && (finding.file.deleted || !is_one);
        let shown = wanted || was_shown;
        if finding.change == Change::Changed && !was_shown {
            // What was not wanted before is new to the reader.
            finding.change = Change::Found;
        }
        if finding.change != Change::Gone {
            let known = Known::of(&finding, name, shown);
            self.known.insert(duplicate.id, known);
        }
        shown.then_some(finding)
    }
}

impl Investigator {
    /// What there is to say of what may be held but once.
    pub fn plain(&mut self, duplicate: &Duplicate<'_>, model: &Model) -> Finding {
        let context = self.context(duplicate, model, None);
        let mut finding = diagnose(duplicate, context);
        self.add_uses(&mut finding);
        finding
    }

    /// Says what the descriptors are for, if they are a supervisord's.
    fn add_uses(&mut self, finding: &mut Finding) {
        if let Some(path) = finding.file.path.as_deref()
            && self.source == Source::Live
        {
            let uses = self.supervisords.uses(&finding.process, path);
            finding.add_uses(&uses);
        }
    }

    fn context(&self, duplicate: &Duplicate<'_>, model: &Model, known: Option<Known>) -> Context {
        let name = duplicate
            .table
            .filter(|_| self.source == Source::Live)
            .and_then(|table| name_of(table, duplicate.fds));
        let process = match self.source {
            Source::Live => process(duplicate.tgid, model),
            Source::Recording => known_process(duplicate.tgid, model),
        };
        let process_parent = process.ppid;
        let parent_holds_it = holds_twice(model, process.ppid, duplicate.identity);
        let (process, name) = match (known, name) {
            // It may have been renamed or deleted since it was found.
            (Some(known), None) => (keep(known.process, process), known.name),
            (_, name) => (process, name),
        };
        Context {
            replaced: self.source == Source::Live
                && name.as_ref().is_some_and(|name| {
                    name.deleted && proc::leads_somewhere(process.pid, &name.path)
                }),
            process,
            name,
            from_parent: from_parent(duplicate, model, process_parent),
            parent_holds_it,
        }
    }

    /// What is to be told of `rotation`, if anything.
    pub fn rotation(&mut self, rotation: &Rotation<'_>, model: &Model) -> Option<Finding> {
        if !self.filter.wants_process(rotation.tgid) {
            return None;
        }
        let known = self.known.remove(&rotation.id);
        if known.is_none() && rotation.change == Change::Gone {
            return None;
        }
        let old = path_of_file(rotation.table, rotation.old);
        let new = path_of_file(rotation.table, rotation.new);
        let process = process(rotation.tgid, model);
        let (process, name) = match (known, old) {
            (Some(known), None) => (keep(known.process, process), known.name),
            (_, old) => (process, old),
        };
        let context = Context {
            process,
            name,
            replaced: true,
            from_parent: Vec::new(),
            parent_holds_it: false,
        };
        let name = context.name.clone();
        let finding = diagnose_rotation(rotation, context, new.map(|name| name.path));
        if finding.change == Change::Gone {
            return Some(finding);
        }
        if !self.filter.wants(&finding) {
            return None;
        }
        let known = Known::of(&finding, name, true);
        self.known.insert(rotation.id, known);
        Some(finding)
    }
}

/// Adds to a finding what is known in detail of how its descriptors were made and closed.
pub fn add_detail(finding: &mut Finding, details: &Details, symbols: &mut Symbols) {
    let pid = finding.process.pid;
    if let Some(again) = &mut finding.closed_again
        && let Some(detail) = details.of_close(again.at)
    {
        again.stack = symbols.frames(pid, detail, true);
    }
    add_detail_by(finding, details, &mut |detail, is_same_program| {
        symbols.frames(pid, detail, is_same_program)
    });
}

/// The same, with `frames` that finds what stands where, and is told whether the process runs the
/// same program still.
pub fn add_detail_by(
    finding: &mut Finding,
    details: &Details,
    frames: &mut impl FnMut(&Detail, bool) -> Vec<Frame>,
) {
    for descriptor in finding.fds.iter_mut().chain(&mut finding.closed) {
        if let Some(detail) = descriptor.opened.and_then(|made| details.of(made)) {
            descriptor.asked_path = detail.path.as_deref().map(<[u8]>::to_vec);
            descriptor.stack = frames(detail, descriptor.is_of_program);
        }
        if let Some(detail) = descriptor.closed.and_then(|at| details.of_close(at)) {
            descriptor.closed_stack = frames(detail, descriptor.is_closed_by_program);
        }
    }
}

/// The path of a process's descriptor, if that is still what the table says, and it has one.
pub fn path_of(pid: u32, fd: u32, slot: &FdEntry) -> Option<Path> {
    let name = proc::name(pid, fd).filter(|name| !is_memory(&name.path))?;
    is_same_file(pid, fd, slot).then_some(Path {
        bytes: name.path,
        deleted: name.deleted,
    })
}

fn path_of_file(table: Option<&Table>, identity: Identity) -> Option<Name> {
    let table = table?;
    let fds: Vec<_> = table.on_file(identity).collect();
    name_of(table, &fds)
}

/// What was known of a process is better than what is left of it after it has ended; but it may have
/// run another program before that.
fn keep(known: ProcessInfo, now: ProcessInfo) -> ProcessInfo {
    if now.exe.is_some() {
        return now;
    }
    if now.comm.is_empty() || now.comm == known.comm {
        known
    } else {
        now
    }
}

/// The name of what the descriptors `fds` are all on.
fn name_of(table: &Table, fds: &[u32]) -> Option<Name> {
    let pid = table.holders().first()?.tid;
    fds.iter().find_map(|&fd| {
        let slot = table.get(fd)?;
        let name = proc::name(pid, fd)?;
        is_same_file(pid, fd, slot).then_some(name)
    })
}

/// The number may have been closed and given away since: the file is the same if its inode is, as
/// far as the device can be compared at all (that of a subvolume or an overlay is shown as another).
fn is_same_file(pid: u32, fd: u32, slot: &FdEntry) -> bool {
    let Ok(metadata) = fs::metadata(format!("/proc/{pid}/fd/{fd}")) else {
        return false;
    };
    fdwatch_core::device::kernel_device(metadata.dev()) != slot.dev || metadata.ino() == slot.ino
}

/// What is known of the process `tgid`: what /proc says, or if it has ended, what the model does.
pub fn process(tgid: u32, model: &Model) -> ProcessInfo {
    process_of(tgid, model.process_or_ended(tgid))
}

/// The same, of what the model knows of it.
pub fn process_of(tgid: u32, known: Option<&Process>) -> ProcessInfo {
    let start_time = known.map_or(0, |known| known.start_time);
    proc::process(tgid, start_time).unwrap_or_else(|| info_of(tgid, known))
}

fn known_process(tgid: u32, model: &Model) -> ProcessInfo {
    info_of(tgid, model.process_or_ended(tgid))
}

fn info_of(tgid: u32, known: Option<&Process>) -> ProcessInfo {
    ProcessInfo {
        pid: tgid,
        start_time: known.map_or(0, |known| known.start_time),
        ppid: known.map_or(0, |known| known.parent),
        comm: known.map_or_else(Vec::new, |known| known.name().to_vec()),
        ..ProcessInfo::default()
    }
}

/// The descriptors that the parent has as well, under the same numbers.
fn from_parent(duplicate: &Duplicate<'_>, model: &Model, parent: u32) -> Vec<u32> {
    let (Some(own), Some(parents)) = (duplicate.table, model.table_of(parent)) else {
        return Vec::new();
    };
    let fds = duplicate.fds.iter().copied();
    fds.filter(|&fd| {
        let (own, parents) = (own.get(fd), parents.get(fd));
        own.zip(parents)
            .is_some_and(|(own, parents)| own.file == parents.file)
    })
    .collect()
}

fn holds_twice(model: &Model, tgid: u32, identity: Identity) -> bool {
    let table = model.table_of(tgid);
    table.is_some_and(|table| table.on_file(identity).nth(1).is_some())
}
