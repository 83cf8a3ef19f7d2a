//! The investigator: creates findings of duplicates and rotations, and caches what /proc showed of them
//! while they exist.

use fdwatch_core::{
    diagnose::{Context, Finding, Name, ProcessInfo, diagnose, diagnose_rotation},
    duplicates::{Change, Duplicate, Rotation},
    filter::Filter,
    model::{Identity, Model, Process},
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    lookup::{file_name, name_of, process, recorded_process},
    supervisord::SupervisordConfigs,
};
use crate::proc;

/// Processes that are remembered until the next second.
const MAX_PROCESSES: usize = 1024;

/// The source of the events that are investigated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This host, now: /proc can be read.
    Live,
    /// A recording: only the tables are available.
    Recording,
}

/// Creates findings, and caches the details of existing ones.
#[derive(Debug)]
pub struct Investigator {
    pub(super) filter: Filter,
    pub(super) source: Source,
    known: FxHashMap<u64, KnownDuplicate>,
    supervisords: SupervisordConfigs,
    /// Processes that were read lately, with the names that the model had for them then.
    processes: FxHashMap<u32, (ProcessInfo, Vec<u8>)>,
    /// Processes that were reported as growing.
    pub(super) growing: FxHashSet<u32>,
    /// The reported findings about files that several processes write, by id.
    pub(super) shared: FxHashMap<u64, Finding>,
}

/// An existing duplicate.
#[derive(Debug)]
struct KnownDuplicate {
    /// Whether it was reported.
    reported: bool,
    process: ProcessInfo,
    name: Option<Name>,
}

impl KnownDuplicate {
    fn of(finding: &Finding, name: Option<Name>, reported: bool) -> Self {
        Self {
            reported,
            process: finding.process.clone(),
            name,
        }
    }
}

impl Investigator {
    /// Creates an investigator for the findings that `filter` accepts.
    #[must_use]
    pub fn new(filter: Filter, source: Source) -> Self {
        Self {
            filter,
            source,
            known: FxHashMap::default(),
            supervisords: SupervisordConfigs::default(),
            processes: FxHashMap::default(),
            growing: FxHashSet::default(),
            shared: FxHashMap::default(),
        }
    }

    /// Changes the filter of findings.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
    }

    /// Forgets what /proc showed of processes. Called once a second: a process with many findings is read
    /// once in that time, not for each.
    pub fn forget_processes(&mut self) {
        self.processes.clear();
    }

    /// Returns the process `tgid`, read lately.
    pub(super) fn process(&mut self, tgid: u32, model: &Model) -> ProcessInfo {
        let known = model.process_or_ended(tgid);
        let name = known.map_or(&[][..], Process::name);
        if self.source == Source::Recording {
            return recorded_process(tgid, model);
        }
        if let Some((process, named)) = self.processes.get(&tgid)
            && known.is_some_and(|known| [0, process.start_time].contains(&known.start_time))
            && named == name
        {
            return process.clone();
        }
        let process = process(tgid, model);
        if self.processes.len() >= MAX_PROCESSES {
            self.processes.clear();
        }
        self.processes
            .insert(tgid, (process.clone(), name.to_vec()));
        process
    }

    /// Returns the finding to report for `duplicate`, if any.
    pub fn finding(&mut self, duplicate: &Duplicate<'_>, model: &Model) -> Option<Finding> {
        if !self.filter.wants_process(duplicate.tgid) {
            return None;
        }
        let known = self.known.remove(&duplicate.id);
        let was_known = known.is_some();
        let was_reported = known.as_ref().is_some_and(|known| known.reported);
        if was_known && !was_reported && duplicate.change == Change::Gone {
            return None;
        }
        let context = self.context(duplicate, model, known);
        let name = context.name.clone();
        let mut finding = diagnose(duplicate, context);
        self.add_uses(&mut finding);
        // A single descriptor is reported only for a deleted file, which /proc has just confirmed.
        let is_single = finding.open() + finding.closed.len() < 2;
        let wanted = self.filter.wants(&finding) && (finding.file.deleted || !is_single);
        let reported = wanted || was_reported;
        if finding.change == Change::Changed && !was_reported {
            // It was not reported before, so it is new to the reader.
            finding.change = Change::Found;
        }
        if finding.change != Change::Gone {
            let known = KnownDuplicate::of(&finding, name, reported);
            self.known.insert(duplicate.id, known);
        }
        reported.then_some(finding)
    }

    /// Returns the finding of `duplicate` unfiltered, even for a single descriptor.
    pub fn plain(&mut self, duplicate: &Duplicate<'_>, model: &Model) -> Finding {
        let context = self.context(duplicate, model, None);
        let mut finding = diagnose(duplicate, context);
        self.add_uses(&mut finding);
        finding
    }

    /// Adds the purposes of the descriptors, if the process is supervisord.
    fn add_uses(&mut self, finding: &mut Finding) {
        if let Some(path) = finding.file.path.as_deref()
            && self.source == Source::Live
        {
            let uses = self.supervisords.uses(&finding.process, path);
            finding.add_uses(&uses);
        }
    }

    fn context(
        &mut self,
        duplicate: &Duplicate<'_>,
        model: &Model,
        known: Option<KnownDuplicate>,
    ) -> Context {
        let name = duplicate
            .table
            .filter(|_| self.source == Source::Live)
            .and_then(|table| name_of(table, duplicate.fds));
        let process = self.process(duplicate.tgid, model);
        let process_parent = process.ppid;
        let parent_holds_it = has_duplicate(model, process.ppid, duplicate.identity);
        let (process, name) = match (known, name) {
            // The file may have been renamed or deleted since it was found.
            (Some(known), None) => (newer_process(known.process, process), known.name),
            (_, name) => (process, name),
        };
        Context {
            replaced: self.source == Source::Live
                && name
                    .as_ref()
                    .is_some_and(|name| name.deleted && proc::path_exists(process.pid, &name.path)),
            process,
            name,
            from_parent: from_parent(duplicate, model, process_parent),
            parent_holds_it,
        }
    }

    /// Returns the finding to report for `rotation`, if any.
    pub fn rotation(&mut self, rotation: &Rotation<'_>, model: &Model) -> Option<Finding> {
        if !self.filter.wants_process(rotation.tgid) {
            return None;
        }
        let known = self.known.remove(&rotation.id);
        if known.is_none() && rotation.change == Change::Gone {
            return None;
        }
        let old = file_name(rotation.table, rotation.old);
        let new = file_name(rotation.table, rotation.new);
        let process = self.process(rotation.tgid, model);
        let (process, name) = match (known, old) {
            (Some(known), None) => (newer_process(known.process, process), known.name),
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
        let known = KnownDuplicate::of(&finding, name, true);
        self.known.insert(rotation.id, known);
        Some(finding)
    }
}

/// Returns the current facts about a process, or the earlier ones if it has exited, unless it executed
/// another program before that.
fn newer_process(known: ProcessInfo, now: ProcessInfo) -> ProcessInfo {
    if now.exe.is_some() {
        return now;
    }
    if now.comm.is_empty() || now.comm == known.comm {
        known
    } else {
        now
    }
}

/// Returns the descriptors that the parent has under the same numbers.
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

/// Returns whether the process `tgid` has the file open on several descriptors.
fn has_duplicate(model: &Model, tgid: u32, identity: Identity) -> bool {
    let table = model.table_of(tgid);
    table.is_some_and(|table| table.on_file(identity).nth(1).is_some())
}
