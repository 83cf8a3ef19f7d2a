//! Makes findings of duplicates: asks /proc for what the tables do not have, remembers it for as
//! long as a duplicate is there, and keeps to what is wanted.

use std::{fs, os::unix::fs::MetadataExt as _};

use rustc_hash::FxHashMap;

use crate::{
    detail::{Detail, Details, Frame},
    diagnose::{Context, Descriptor, Finding, ProcessInfo, diagnose, diagnose_rotation, is_memory},
    duplicates::{Change, Duplicate, Path, Rotation},
    filter::Filter,
    model::{Identity, Model, Slot, Table},
    proc,
    symbols::Symbols,
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
}

/// A duplicate that is there.
#[derive(Debug)]
struct Known {
    /// Whether it was told.
    shown: bool,
    process: ProcessInfo,
    path: Option<Vec<u8>>,
    deleted: bool,
}

impl Investigator {
    /// One that keeps to what `filter` wants.
    #[must_use]
    pub fn new(filter: Filter, source: Source) -> Self {
        Self {
            filter,
            source,
            known: FxHashMap::default(),
        }
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
        let mut finding = diagnose(duplicate, context);
        let wanted = self.filter.wants(&finding);
        let shown = wanted || was_shown;
        if finding.change == Change::Changed && !was_shown {
            // What was not wanted before is new to the reader.
            finding.change = Change::Found;
        }
        if finding.change != Change::Gone {
            let known = Known {
                shown,
                process: finding.process.clone(),
                path: finding.file.path.clone(),
                deleted: finding.file.deleted,
            };
            self.known.insert(duplicate.id, known);
        }
        shown.then_some(finding)
    }
}

impl Investigator {
    fn context(&self, duplicate: &Duplicate<'_>, model: &Model, known: Option<Known>) -> Context {
        let name = duplicate
            .table
            .filter(|_| self.source == Source::Live)
            .and_then(|table| name_of(table, duplicate.fds));
        let process = match self.source {
            Source::Live => process(duplicate.tgid, model),
            Source::Recording => known_process(duplicate.tgid, model),
        };
        let parent_holds_it = holds_twice(model, process.ppid, duplicate.identity);
        let (process, path, deleted) = match (known, name) {
            // It may have been renamed or deleted since it was found.
            (Some(known), name) => match name {
                Some(name) => (process, Some(name.path), name.deleted),
                None => (keep(known.process, process), known.path, known.deleted),
            },
            (None, Some(name)) => (process, Some(name.path), name.deleted),
            (None, None) => (process, None, false),
        };
        Context {
            process,
            path,
            deleted,
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
        let (process, path, deleted) = match (known, old) {
            (_, Some(name)) => (process, Some(name.path), name.deleted),
            (Some(known), None) => (keep(known.process, process), known.path, known.deleted),
            (None, None) => (process, None, false),
        };
        let context = Context {
            process,
            path,
            deleted,
            parent_holds_it: false,
        };
        let finding = diagnose_rotation(rotation, context, new.map(|name| name.path));
        if finding.change == Change::Gone {
            return Some(finding);
        }
        if !self.filter.wants(&finding) {
            return None;
        }
        let known = Known {
            shown: true,
            process: finding.process.clone(),
            path: finding.file.path.clone(),
            deleted: finding.file.deleted,
        };
        self.known.insert(rotation.id, known);
        Some(finding)
    }
}

/// Adds to a finding what is known in detail of how its descriptors were made.
pub(crate) fn add_detail(finding: &mut Finding, details: &Details, symbols: &mut Symbols) {
    let pid = finding.process.pid;
    add_detail_by(finding, details, &mut |descriptor, detail| {
        symbols.frames(pid, detail, descriptor.is_of_program)
    });
}

/// The same, with `frames` that finds what stands where.
pub(crate) fn add_detail_by(
    finding: &mut Finding,
    details: &Details,
    frames: &mut impl FnMut(&Descriptor, &Detail) -> Vec<Frame>,
) {
    for descriptor in finding.fds.iter_mut().chain(&mut finding.closed) {
        let Some(detail) = descriptor.opened.and_then(|made| details.of(made)) else {
            continue;
        };
        descriptor.asked_path = detail.path.as_deref().map(<[u8]>::to_vec);
        descriptor.stack = frames(descriptor, detail);
    }
}

/// The path of a process's descriptor, if that is still what the table says, and it has one.
pub(crate) fn path_of(pid: u32, fd: u32, slot: &Slot) -> Option<Path> {
    let name = proc::name(pid, fd).filter(|name| !is_memory(&name.path))?;
    is_same_file(pid, fd, slot).then_some(Path {
        bytes: name.path,
        deleted: name.deleted,
    })
}

fn path_of_file(table: Option<&Table>, identity: Identity) -> Option<proc::Name> {
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
fn name_of(table: &Table, fds: &[u32]) -> Option<proc::Name> {
    let pid = table.holders().first()?.tid;
    fds.iter().find_map(|&fd| {
        let slot = table.get(fd)?;
        let name = proc::name(pid, fd)?;
        is_same_file(pid, fd, slot).then_some(name)
    })
}

/// The number may have been closed and given away since: the file is the same if its inode is, as
/// far as the device can be compared at all (that of a subvolume or an overlay is shown as another).
fn is_same_file(pid: u32, fd: u32, slot: &Slot) -> bool {
    let Ok(metadata) = fs::metadata(format!("/proc/{pid}/fd/{fd}")) else {
        return false;
    };
    proc::kernel_device(metadata.dev()) != slot.dev || metadata.ino() == slot.ino
}

/// What is known of the process `tgid`: what /proc says, or if it has ended, what the model does.
pub(crate) fn process(tgid: u32, model: &Model) -> ProcessInfo {
    let known = model.process_or_ended(tgid);
    let start_time = known.map_or(0, |known| known.start_time);
    proc::process(tgid, start_time).unwrap_or_else(|| known_process(tgid, model))
}

fn known_process(tgid: u32, model: &Model) -> ProcessInfo {
    let known = model.process_or_ended(tgid);
    ProcessInfo {
        pid: tgid,
        start_time: known.map_or(0, |known| known.start_time),
        ppid: known.map_or(0, |known| known.parent),
        comm: known.map_or_else(Vec::new, |known| known.name().to_vec()),
        ..ProcessInfo::default()
    }
}

fn holds_twice(model: &Model, tgid: u32, identity: Identity) -> bool {
    let table = model.table_of(tgid);
    table.is_some_and(|table| table.on_file(identity).nth(1).is_some())
}
