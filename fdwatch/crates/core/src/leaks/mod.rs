//! Leaks of a command: descriptors that its processes left open when they ended, and that they let
//! pass into other programs.
//!
//! Pure. Follows the model as an [`Observer`], beside what is held twice, and knows by the records of
//! forks who has come of the command. Where a descriptor was made, and how a leak is shown, is not
//! known here.

mod fold;
pub mod ignore;

use fdwatch_common::{COMM_LEN, Event, Exit};
use rustc_hash::{FxHashMap, FxHashSet};

pub use self::fold::{Fold, Group, Told};
use crate::{
    diagnose::ProcessInfo,
    model::{FdEntry, Model, Moment, Observer, Program, Provenance, Table, TableId},
};

/// Leaks that wait to be taken; of more the number.
const MAX_WAITING: usize = 1 << 16;

/// Numbers below this are standard input, output and error: whoever makes them means to pass them on.
const STREAMS: u32 = 3;

/// What kind of leak it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The process that made it ended, and had it open still.
    AtExit,
    /// It was made without close-on-exec, and another program was run that has it now, beyond its
    /// standard streams.
    OverExec,
}

impl Kind {
    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtExit => "exit",
            Self::OverExec => "exec",
        }
    }
}

/// A descriptor that has leaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leak {
    /// How.
    pub kind: Kind,
    /// The process that had it.
    pub tgid: u32,
    /// Its number there.
    pub fd: u32,
    /// What it was.
    pub slot: FdEntry,
    /// How it came to be in the process's table.
    pub provenance: Provenance,
    /// When it leaked.
    pub at: Moment,
}

/// A process that has come of the command.
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
    /// By number; those that have ended too, until others have their number.
    members: FxHashMap<u32, Member>,
    running: usize,
    processes: u64,
    /// Whose they are.
    tables: FxHashMap<TableId, u32>,
    /// Made before this it was not by the command.
    began: Moment,
    waiting: Vec<Leak>,
    more: u64,
    /// Those that were told, by their making: a table that a thread took along has the same.
    told: FxHashSet<Moment>,
    /// Those that were made here and closed since these were last taken.
    closed: Vec<Moment>,
}

impl Leaks {
    /// Of the process `tgid` and all that will come of it. What it has now is not of its making.
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
            waiting: Vec::new(),
            more: 0,
            told: FxHashSet::default(),
            closed: Vec::new(),
        }
    }

    /// Takes in what a record says of processes: before the model does.
    pub fn before(&mut self, event: &Event<'_>) {
        match event {
            Event::Fork(fork) => {
                let (tgid, parent) = (fork.header.tgid, fork.parent_tgid);
                if tgid == parent {
                    return;
                }
                let Some(&of) = self.members.get(&parent).filter(|of| !of.has_ended) else {
                    // Another has the number now.
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

    /// Whether the process has come of the command.
    #[must_use]
    pub fn is_member(&self, tgid: u32) -> bool {
        self.members.contains_key(&tgid)
    }

    /// The program that the process runs, if it has come of the command.
    #[must_use]
    pub fn program_of(&self, tgid: u32) -> Option<Program> {
        let execs = self.members.get(&tgid)?.execs;
        Some(Program { tgid, execs })
    }

    /// What is known of the process.
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

    /// The processes that have not ended, in the order of their numbers.
    #[must_use]
    pub fn running(&self) -> Vec<u32> {
        let running = self.members.iter().filter(|(_, of)| !of.has_ended);
        let mut running: Vec<_> = running.map(|(&tgid, _)| tgid).collect();
        running.sort_unstable();
        running
    }

    /// Whether none has not ended.
    #[must_use]
    pub const fn have_all_ended(&self) -> bool {
        self.running == 0
    }

    /// The process is known to have ended, though that was not told.
    pub fn has_ended(&mut self, tgid: u32) {
        if let Some(member) = self.members.get_mut(&tgid)
            && !member.has_ended
        {
            member.has_ended = true;
            self.running -= 1;
        }
    }

    /// How many processes there were.
    #[must_use]
    pub const fn processes(&self) -> u64 {
        self.processes
    }

    /// The leaks since the last time.
    pub fn take(&mut self) -> Vec<Leak> {
        std::mem::take(&mut self.waiting)
    }

    /// How many more there were, of which nothing is known.
    #[must_use]
    pub const fn more(&self) -> u64 {
        self.more
    }

    /// When the descriptors were made that were closed since the last time by those who made them.
    pub fn take_closed(&mut self) -> Vec<Moment> {
        std::mem::take(&mut self.closed)
    }

    /// Whose the table is, if it is of one that has come of the command.
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
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(leak);
        } else {
            self.more += 1;
        }
    }

    fn is_made_by_command(&self, slot: &FdEntry) -> bool {
        !slot.is_from_snapshot() && { slot.born } > self.began
    }
}

impl Observer for Leaks {
    fn born(&mut self, table: &mut Table, _: u32, _: &FdEntry, replaced: Option<&FdEntry>) {
        if let Some(replaced) = replaced
            && table.provenance(replaced) == Provenance::Made
            && self.owner(table).is_some()
        {
            self.closed.push(replaced.born);
        }
    }

    fn died(&mut self, table: &mut Table, _: u32, slot: &FdEntry, _: Moment) {
        if !table.provenance(slot).came_over_fork() && self.owner(table).is_some() {
            self.closed.push(slot.born);
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
        let streams: Vec<u64> = streams.map(|slot| slot.file).collect();
        for (fd, slot) in table.iter().filter(|&(fd, _)| fd >= STREAMS) {
            if self.is_made_by_command(slot) && !streams.contains(&{ slot.file }) {
                self.leak(Leak {
                    kind: Kind::OverExec,
                    tgid,
                    fd,
                    slot: *slot,
                    provenance: table.provenance(slot),
                    at,
                });
            }
        }
    }

    fn gone(&mut self, table: &Table, at: Moment) {
        let Some(tgid) = self.tables.remove(&table.id()) else {
            return;
        };
        for (fd, slot) in table.iter().filter(|&(fd, _)| fd >= STREAMS) {
            let provenance = table.provenance(slot);
            if provenance == Provenance::Made
                && self.is_made_by_command(slot)
                && self.told.insert(slot.born)
            {
                self.leak(Leak {
                    kind: Kind::AtExit,
                    tgid,
                    fd,
                    slot: *slot,
                    provenance,
                    at,
                });
            }
        }
        if self.told.len() > MAX_WAITING {
            self.told.clear();
        }
    }
}

#[cfg(test)]
mod tests;
