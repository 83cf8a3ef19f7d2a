//! Leaks of a command: descriptors that its processes left open when they ended, or passed to other
//! programs.
//!
//! No I/O. Follows the model as an [`Observer`], and identifies the command's processes by fork
//! records.

mod groups;
pub mod ignore;
mod leak;

use fdwatch_common::{COMM_LEN, Event, Exit};
use rustc_hash::{FxHashMap, FxHashSet};

pub use self::{
    groups::{LeakGroup, LeakGroups, LeakReport},
    leak::{Leak, LeakKind},
};
use crate::{
    diagnose::ProcessInfo,
    model::{FdEntry, Model, Moment, Observer, Program, Provenance, Table, TableId},
};

/// Maximum number of leaks that wait to be taken; further ones are counted.
const MAX_PENDING: usize = 1 << 16;

/// Numbers below this are standard input, output and error, which are passed on deliberately.
const STREAMS: u32 = 3;

/// A process of the command.
#[derive(Clone, Copy, Debug)]
struct Member {
    start_time: u64,
    parent: u32,
    comm: [u8; COMM_LEN],
    execs: u32,
    has_ended: bool,
}

/// The leaks of a command.
#[derive(Debug)]
pub struct Leaks {
    /// Processes by number. Those that have ended stay until their number is reused.
    members: FxHashMap<u32, Member>,
    running: usize,
    processes: u64,
    /// The processes that own these tables.
    tables: FxHashMap<TableId, u32>,
    /// Descriptors opened before this are not the command's.
    began: Moment,
    pending: Vec<Leak>,
    more: u64,
    /// Descriptors reported at exit, by the moment of opening: a thread's copy of the table
    /// contains the same ones.
    reported: FxHashSet<Moment>,
    /// Moments of opening of descriptors that were closed since the last call of
    /// [`Self::take_closed`].
    closed: Vec<Moment>,
}

impl Leaks {
    /// Follows the process `tgid` and all its descendants. Descriptors that it has now are not
    /// leaks.
    #[must_use]
    pub fn of(tgid: u32, model: &Model) -> Self {
        let first = model.process(tgid);
        let member = Member {
            start_time: first.map_or(0, |first| first.start_time),
            parent: first.map_or(0, |first| first.parent),
            comm: first.map_or_else(Default::default, |first| first.comm),
            execs: 0,
            has_ended: false,
        };
        let table = model.table_of(tgid).map(|table| (table.id(), tgid));
        Self {
            members: FxHashMap::from_iter([(tgid, member)]),
            running: 1,
            processes: 1,
            tables: table.into_iter().collect(),
            began: model.now(),
            pending: Vec::new(),
            more: 0,
            reported: FxHashSet::default(),
            closed: Vec::new(),
        }
    }

    /// Processes a record before the model does.
    pub fn apply(&mut self, event: &Event<'_>) {
        match event {
            Event::Fork(fork) => {
                let (tgid, parent) = (fork.header.tgid, fork.parent_tgid);
                if tgid == parent {
                    return;
                }
                let Some(&of) = self.members.get(&parent).filter(|of| !of.has_ended) else {
                    // The number belongs to another process now.
                    self.members.remove(&tgid);
                    return;
                };
                let member = Member {
                    start_time: fork.start_time,
                    parent,
                    execs: 0,
                    ..of
                };
                let before = self.members.insert(tgid, member);
                self.processes += 1;
                self.running += usize::from(before.is_none_or(|before| before.has_ended));
            }
            Event::Exec(exec) => {
                if let Some(member) = self.members.get_mut(&exec.header.tgid) {
                    member.execs += 1;
                    member.comm = exec.comm;
                }
            }
            Event::Exit(exit) if exit.has(Exit::LAST_THREAD) => {
                if let Some(member) = self.members.get_mut(&exit.header.tgid)
                    && !member.has_ended
                {
                    member.has_ended = true;
                    self.running -= 1;
                }
            }
            _ => {}
        }
    }

    /// Returns whether the process belongs to the command.
    #[must_use]
    pub fn is_member(&self, tgid: u32) -> bool {
        self.members.contains_key(&tgid)
    }

    /// Returns the program that the process runs, if it belongs to the command.
    #[must_use]
    pub fn program_of(&self, tgid: u32) -> Option<Program> {
        let execs = self.members.get(&tgid)?.execs;
        Some(Program { tgid, execs })
    }

    /// Returns the known facts about the process.
    #[must_use]
    pub fn process(&self, tgid: u32) -> ProcessInfo {
        let Some(member) = self.members.get(&tgid) else {
            return ProcessInfo {
                pid: tgid,
                ..ProcessInfo::default()
            };
        };
        let end = member.comm.iter().position(|&byte| byte == 0);
        ProcessInfo {
            pid: tgid,
            start_time: member.start_time,
            ppid: member.parent,
            comm: member.comm[..end.unwrap_or(COMM_LEN)].to_vec(),
            ..ProcessInfo::default()
        }
    }

    /// Returns the running processes, in order of their numbers.
    #[must_use]
    pub fn running(&self) -> Vec<u32> {
        let running = self.members.iter().filter(|(_, of)| !of.has_ended);
        let mut running: Vec<_> = running.map(|(&tgid, _)| tgid).collect();
        running.sort_unstable();
        running
    }

    /// Returns whether all processes have ended.
    #[must_use]
    pub const fn have_all_ended(&self) -> bool {
        self.running == 0
    }

    /// Records that the process has ended, although there was no event.
    pub fn mark_ended(&mut self, tgid: u32) {
        if let Some(member) = self.members.get_mut(&tgid)
            && !member.has_ended
        {
            member.has_ended = true;
            self.running -= 1;
        }
    }

    /// Returns the number of processes so far.
    #[must_use]
    pub const fn processes(&self) -> u64 {
        self.processes
    }

    /// Returns the leaks since the last call.
    pub fn take(&mut self) -> Vec<Leak> {
        std::mem::take(&mut self.pending)
    }

    /// Returns the number of leaks that were only counted.
    #[must_use]
    pub const fn more(&self) -> u64 {
        self.more
    }

    /// Returns the moments of opening of the descriptors that their openers have closed since the
    /// last call.
    pub fn take_closed(&mut self) -> Vec<Moment> {
        std::mem::take(&mut self.closed)
    }

    /// Returns the process that owns the table, if it belongs to the command.
    fn owner(&mut self, table: &Table) -> Option<u32> {
        if let Some(&owner) = self.tables.get(&table.id()) {
            return Some(owner);
        }
        let owner = table.holders().first()?.tgid;
        if !self.is_member(owner) {
            return None;
        }
        self.tables.insert(table.id(), owner);
        Some(owner)
    }

    fn leak(&mut self, leak: Leak) {
        if self.pending.len() < MAX_PENDING {
            self.pending.push(leak);
        } else {
            self.more += 1;
        }
    }

    fn is_made_by_command(&self, entry: &FdEntry) -> bool {
        !entry.is_from_snapshot() && { entry.opened } > self.began
    }
}

impl Observer for Leaks {
    fn opened(&mut self, table: &mut Table, _: u32, _: &FdEntry, replaced: Option<&FdEntry>) {
        if let Some(replaced) = replaced
            && table.provenance(replaced) == Provenance::Made
            && self.owner(table).is_some()
        {
            self.closed.push(replaced.opened);
        }
    }

    fn closed(&mut self, table: &mut Table, _: u32, entry: &FdEntry, _: Moment) {
        if !table.provenance(entry).is_inherited() && self.owner(table).is_some() {
            self.closed.push(entry.opened);
        }
    }

    fn forked(&mut self, table: &Table, _: Moment) {
        self.owner(table);
    }

    fn execed(&mut self, table: &Table, at: Moment) {
        let Some(tgid) = self.owner(table) else {
            return;
        };
        let streams = (0..STREAMS).filter_map(|fd| table.get(fd));
        let streams: Vec<u64> = streams.map(|entry| entry.file).collect();
        for (fd, entry) in table.iter().filter(|&(fd, _)| fd >= STREAMS) {
            if self.is_made_by_command(entry) && !streams.contains(&{ entry.file }) {
                self.leak(Leak {
                    kind: LeakKind::AcrossExec,
                    tgid,
                    fd,
                    entry: *entry,
                    provenance: table.provenance(entry),
                    at,
                });
            }
        }
    }

    fn table_dropped(&mut self, table: &Table, at: Moment) {
        let Some(tgid) = self.tables.remove(&table.id()) else {
            return;
        };
        for (fd, entry) in table.iter().filter(|&(fd, _)| fd >= STREAMS) {
            let provenance = table.provenance(entry);
            if provenance == Provenance::Made
                && self.is_made_by_command(entry)
                && self.reported.insert(entry.opened)
            {
                self.leak(Leak {
                    kind: LeakKind::AtExit,
                    tgid,
                    fd,
                    entry: *entry,
                    provenance,
                    at,
                });
            }
        }
        if self.reported.len() > MAX_PENDING {
            self.reported.clear();
        }
    }
}

#[cfg(test)]
mod tests;
