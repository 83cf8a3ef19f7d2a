//! What is asked of live tables: the processes with the most descriptors, and what /proc adds to each,
//! read seldom, and of few; and one process's table.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use fdwatch_events::TableReport;
use fdwatch_host::investigate::{self, Supervisords, table_report};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::live::Live;
use fdwatch_core::model::{FileType, Model, Moment, Process, Table};
use fdwatch_events::ProcessRow;
use fdwatch_host::proc;

/// How often descriptors are counted for the curves: nanoseconds.
const EVERY: u64 = 5_000_000_000;

/// Counts of one curve: five minutes of them.
const CURVE: usize = 60;

/// What /proc says is read again after this long: nanoseconds.
const STALE: u64 = 30_000_000_000;

/// Processes whose /proc is read in one go, for the loop not to be held up.
const MAX_READ: usize = 16;

/// A process with fewer descriptors is not near its limit, for what is shown.
const LARGE: usize = 64;

/// Those that use this share of what they may have are near it: percent.
const NEAR: u64 = 50;
/// At the start, before events are followed, more of them.
const MAX_READ_FIRST: usize = 256;

/// Who asks for rows is taken to do so again within this time: nanoseconds.
const ASKED: u64 = 10_000_000_000;

/// A process's table, as it was at one moment: a copy that costs little.
#[derive(Debug)]
pub struct TableAnswer {
    /// What the model knows of the process.
    pub process: fdwatch_core::model::Process,
    /// Its table.
    pub table: Table,
    /// Its parent's, if that is another.
    pub parents: Option<Table>,
    /// Who else has an end of each of its pipes, by inode: processes and their descriptors.
    pub pipe_ends: BTreeMap<u64, Vec<(u32, u32)>>,
}

impl TableAnswer {
    /// With what /proc adds, which takes its time for each descriptor.
    pub fn report(self, supervisords: &Mutex<Supervisords>) -> TableReport {
        let Self {
            process,
            table,
            parents,
            pipe_ends,
        } = self;
        let info = investigate::process_of(process.tgid, Some(&process));
        let mut supervisords = supervisords.lock().unwrap_or_else(PoisonError::into_inner);
        table_report(
            info,
            Some(&table),
            parents.as_ref(),
            &mut supervisords,
            |pipe| pipe_ends.get(&{ pipe.ino }).cloned().unwrap_or_default(),
        )
    }
}

/// The rows of the processes that were shown of late.
#[derive(Default)]
pub struct Rows {
    known: FxHashMap<u32, Known>,
    /// What processes with many descriptors may have: when they were started, how many, and when that
    /// was read.
    limits: FxHashMap<u32, (u64, Option<u64>, Moment)>,
    counted: Moment,
    /// How many were asked for of late, and until when these are kept an eye on.
    asked: (usize, Moment),
}

struct Known {
    start_time: u64,
    uid: Option<u32>,
    unit: Option<String>,
    limit: Option<u64>,
    /// When that was read; never, if it is zero.
    read: Moment,
    curve: VecDeque<u32>,
}

/// Rows, and what they leave out.
pub struct Shown {
    pub rows: Vec<ProcessRow>,
    pub more_processes: usize,
    pub more_descriptors: usize,
}

impl Rows {
    /// The `most` processes with the most descriptors, and as many with the most duplicates.
    pub fn show(&mut self, live: &Live, most: usize, now: Moment) -> Shown {
        self.read_limits(&live.engine.model, now);
        let shown = self.rows(live, most);
        let (asked, until) = self.asked;
        let more = (asked > most && now < until).then(|| self.rows(live, asked).rows);
        let followed = more.as_ref().unwrap_or(&shown.rows);
        let here: FxHashSet<u32> = followed.iter().map(|row| row.pid).collect();
        self.known.retain(|pid, _| here.contains(pid));
        let is_time = now.since(self.counted) >= EVERY;
        let most_read = if self.counted == Moment(0) {
            MAX_READ_FIRST
        } else {
            MAX_READ
        };
        if is_time {
            self.counted = now;
        }
        let mut read = 0;
        for row in followed {
            let known = self.known.entry(row.pid).or_insert_with(|| Known::new(row));
            if known.start_time != row.start_time {
                *known = Known::new(row);
            }
            if read < most_read && (known.read == Moment(0) || now.since(known.read) > STALE) {
                known.read(row.pid, now);
                read += 1;
            }
            if is_time {
                if known.curve.len() >= CURVE {
                    known.curve.pop_front();
                }
                let count = u32::try_from(row.descriptors).unwrap_or(u32::MAX);
                known.curve.push_back(count);
            }
        }
        self.fill(shown)
    }

    /// Reads what some of the processes with many descriptors may have.
    fn read_limits(&mut self, model: &Model, now: Moment) {
        self.limits
            .retain(|&pid, &mut (started, ..)| model.is_there(pid, started));
        let large = model
            .processes()
            .filter(|process| len(model, process.tgid) >= LARGE);
        let mut read = 0;
        for process in large {
            let known = self.limits.get(&process.tgid);
            if read < MAX_READ && known.is_none_or(|&(.., at)| now.since(at) > STALE) {
                let limit = (process.start_time, proc::fd_limit(process.tgid), now);
                self.limits.insert(process.tgid, limit);
                read += 1;
            }
        }
    }

    /// Whether a process uses a good part of what it may have, and which: thousandths.
    fn near(&self, pid: u32, len: usize) -> Option<u64> {
        let &(_, limit, _) = self.limits.get(&pid)?;
        let share = (len as u64).saturating_mul(1000) / limit?.max(1);
        (share >= NEAR * 10).then_some(share)
    }

    /// As many rows as are wanted, with what is known of them. More becomes known of those that are asked
    /// for again and again.
    pub fn look_up(&mut self, live: &Live, most: usize, now: Moment) -> Shown {
        self.asked = (most, Moment(now.0.saturating_add(ASKED)));
        self.fill(self.rows(live, most))
    }

    fn fill(&self, mut shown: Shown) -> Shown {
        for row in &mut shown.rows {
            let known = self.known.get(&row.pid);
            if let Some(known) = known.filter(|known| known.start_time == row.start_time) {
                row.uid = known.uid;
                row.unit.clone_from(&known.unit);
                row.limit = known.limit;
                row.curve = known.curve.iter().copied().collect();
            }
        }
        shown
    }
}

impl Known {
    const fn new(row: &ProcessRow) -> Self {
        Self {
            start_time: row.start_time,
            uid: None,
            unit: None,
            limit: None,
            read: Moment(0),
            curve: VecDeque::new(),
        }
    }

    fn read(&mut self, pid: u32, now: Moment) {
        self.read = now;
        if let Some(process) = proc::process(pid, self.start_time) {
            self.uid = process.uid;
            self.unit = process.workload.unit;
            self.limit = process.fd_limit;
        }
    }
}

impl Rows {
    fn rows(&self, live: &Live, most: usize) -> Shown {
        let model = &live.engine.model;
        let twice = live.engine.duplicates.by_process();
        let mut all: Vec<(usize, &Process)> = model
            .processes()
            .map(|process| (len(model, process.tgid), process))
            .collect();
        let descriptors: usize = all.iter().map(|&(len, _)| len).sum();
        let processes = all.len();
        // Those with the most; of the rest, those with duplicates, and those near their limit.
        let largest = most.min(all.len());
        if largest < all.len() {
            all.select_nth_unstable_by_key(largest, |&(len, process)| (Reverse(len), process.tgid));
        }
        let (shown, rest) = all.split_at(largest);
        let mut shown = shown.to_vec();
        let twice_more = |&(_, process): &(usize, &Process)| {
            twice.get(&process.tgid).map(|&(_, more)| more as u64)
        };
        let near = |&(len, process): &(usize, &Process)| self.near(process.tgid, len);
        add(&mut shown, rest, most, twice_more);
        add(&mut shown, rest, most, near);
        shown.sort_unstable_by_key(|&(len, process)| (Reverse(len), process.tgid));
        shown.dedup_by_key(|(_, process)| process.tgid);
        let rows: Vec<_> = shown
            .into_iter()
            .map(|(len, process)| {
                let (files, more) = twice.get(&process.tgid).copied().unwrap_or_default();
                ProcessRow {
                    pid: process.tgid,
                    start_time: process.start_time,
                    ppid: process.parent,
                    comm: process.name().to_vec(),
                    descriptors: len,
                    duplicate_files: files,
                    duplicate_descriptors: more,
                    ..ProcessRow::default()
                }
            })
            .collect();
        Shown {
            more_processes: processes - rows.len(),
            more_descriptors: descriptors - rows.iter().map(|row| row.descriptors).sum::<usize>(),
            rows,
        }
    }
}

/// Adds the `most` of the rest of whom the most can be said.
fn add<'a>(
    shown: &mut Vec<(usize, &'a Process)>,
    rest: &[(usize, &'a Process)],
    most: usize,
    how: impl Fn(&(usize, &'a Process)) -> Option<u64>,
) {
    let mut found: Vec<_> = rest.iter().filter_map(|it| Some((how(it)?, it))).collect();
    found.sort_unstable_by_key(|&(much, &(_, process))| (Reverse(much), process.tgid));
    shown.extend(found.into_iter().take(most).map(|(_, it)| *it));
}

fn len(model: &Model, tgid: u32) -> usize {
    model.table_of(tgid).map_or(0, Table::len)
}

/// The table of a process, and what else is needed to show it.
pub fn table(live: &Live, pid: u32) -> Option<TableAnswer> {
    let model = &live.engine.model;
    let process = model.process(pid)?.clone();
    let table = model.table_of(pid)?.clone();
    let parents = model.table_of(process.parent);
    let parents = parents.filter(|parents| parents.id() != table.id());
    let own = table.iter().map(|(_, slot)| slot);
    let own = own.filter(|slot| slot.file_type() == FileType::Pipe);
    let mut pipe_ends: BTreeMap<u64, Vec<(u32, u32)>> =
        own.map(|slot| (slot.ino, Vec::new())).collect();
    if !pipe_ends.is_empty() {
        for other in model.tables() {
            let Some(holder) = other.holders().first() else {
                continue;
            };
            for (fd, slot) in other.iter() {
                if slot.file_type() == FileType::Pipe
                    && let Some(ends) = pipe_ends.get_mut(&{ slot.ino })
                {
                    ends.push((holder.tgid, fd));
                }
            }
        }
    }
    Some(TableAnswer {
        process,
        parents: parents.cloned(),
        table,
        pipe_ends,
    })
}
