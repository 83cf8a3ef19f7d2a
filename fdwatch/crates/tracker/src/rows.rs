//! Rows of processes: those with most descriptors, with duplicates, or near their limit. /proc is read
//! rarely, and for a few processes per call, so that the loop is not delayed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use fdwatch_events::TableReport;
use fdwatch_host::investigate::{self, SupervisordConfigs, table_report};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::live::Tracker;
use fdwatch_core::model::{FileType, Model, Moment, Process, Table};
use fdwatch_events::ProcessRow;
use fdwatch_host::proc;

/// Interval between two points of a curve, in nanoseconds.
const CURVE_INTERVAL: u64 = 5_000_000_000;

/// Maximum number of points of a curve: five minutes.
const CURVE_POINTS: usize = 60;

/// Maximum age of data from /proc before it is read again, in nanoseconds.
const STALE: u64 = 30_000_000_000;

/// Maximum number of processes read from /proc per call of [`Rows::show`].
const MAX_READ: usize = 16;

/// Minimum number of descriptors of processes whose limit is read.
const MIN_LARGE: usize = 64;

/// Share of the limit from which a process is near it, in percent.
const NEAR_LIMIT: u64 = 50;

/// Maximum number of processes read from /proc by the first call, which is before events are followed.
const MAX_READ_FIRST: usize = 256;

/// Time after a query during which data for its additional rows is still collected, in nanoseconds.
const QUERY_LIFETIME: u64 = 10_000_000_000;

/// Copy of a process's table at one moment. Tables are copy-on-write.
#[derive(Debug)]
pub struct TableCopy {
    /// The process, as the model knows it.
    pub process: Process,
    /// Its table.
    pub table: Table,
    /// The table of its parent, if it is not the same one.
    pub parents: Option<Table>,
    /// PIDs and descriptors on each of its pipes, by inode.
    pub pipe_ends: BTreeMap<u64, Vec<(u32, u32)>>,
}

impl TableCopy {
    /// Completes the table from /proc, which is read for each descriptor.
    pub fn report(self, supervisords: &Mutex<SupervisordConfigs>) -> TableReport {
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

/// Rows of processes that were shown recently.
#[derive(Default)]
pub struct Rows {
    known: FxHashMap<u32, Known>,
    /// Descriptor limits of processes with many descriptors: start time, limit, and when it was read.
    limits: FxHashMap<u32, (u64, Option<u64>, Moment)>,
    /// Time of the last points of the curves.
    counted: Moment,
    /// Limit of the last query, and when data for it is no longer collected.
    last_query: (usize, Moment),
}

struct Known {
    start_time: u64,
    uid: Option<u32>,
    unit: Option<String>,
    limit: Option<u64>,
    /// Its name in the model when /proc was read, and in /proc: a process can change it without an event.
    comm: Option<(Vec<u8>, Vec<u8>)>,
    /// When /proc was read; zero if it was not.
    read: Moment,
    curve: VecDeque<u32>,
}

/// Rows, and totals of the processes without one.
pub struct ProcessRows {
    /// Rows, most descriptors first.
    pub rows: Vec<ProcessRow>,
    /// Processes without a row.
    pub more_processes: usize,
    /// Descriptors of the processes without a row.
    pub more_descriptors: usize,
}

impl Rows {
    /// Returns up to `max` rows each of the processes with the most descriptors, with the most duplicates, and
    /// near their limit. Updates curves and data from /proc.
    pub fn show(&mut self, live: &Tracker, max: usize, now: Moment) -> ProcessRows {
        self.read_limits(&live.engine.model, now);
        let shown = self.rows(live, max);
        let (queried, until) = self.last_query;
        let more = (queried > max && now < until).then(|| self.rows(live, queried).rows);
        let followed = more.as_ref().unwrap_or(&shown.rows);
        let here: FxHashSet<u32> = followed.iter().map(|row| row.pid).collect();
        self.known.retain(|pid, _| here.contains(pid));
        let is_time = now.since(self.counted) >= CURVE_INTERVAL;
        let max_read = if self.counted == Moment(0) {
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
            if read < max_read && known.is_stale(row, now) {
                known.read(row, now);
                read += 1;
            }
            if is_time {
                if known.curve.len() >= CURVE_POINTS {
                    known.curve.pop_front();
                }
                let count = u32::try_from(row.descriptors).unwrap_or(u32::MAX);
                known.curve.push_back(count);
            }
        }
        self.fill(shown)
    }

    /// Reads descriptor limits of some processes with many descriptors.
    fn read_limits(&mut self, model: &Model, now: Moment) {
        self.limits
            .retain(|&pid, &mut (started, ..)| model.is_running(pid, started));
        let large = model
            .processes()
            .filter(|process| len(model, process.tgid) >= MIN_LARGE);
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

    /// Returns the share of its limit that a process uses, in thousandths, if it is near the limit.
    fn near(&self, pid: u32, len: usize) -> Option<u64> {
        let &(_, limit, _) = self.limits.get(&pid)?;
        let share = (len as u64).saturating_mul(1000) / limit?.max(1);
        (share >= NEAR_LIMIT * 10).then_some(share)
    }

    /// Returns up to `max` rows of each kind with the data collected so far. For some time after the query,
    /// [`Self::show`] collects data for as many rows.
    pub fn look_up(&mut self, live: &Tracker, max: usize, now: Moment) -> ProcessRows {
        self.last_query = (max, Moment(now.0.saturating_add(QUERY_LIFETIME)));
        self.fill(self.rows(live, max))
    }

    fn fill(&self, mut shown: ProcessRows) -> ProcessRows {
        for row in &mut shown.rows {
            let known = self.known.get(&row.pid);
            if let Some(known) = known.filter(|known| known.start_time == row.start_time) {
                row.uid = known.uid;
                row.unit.clone_from(&known.unit);
                row.limit = known.limit;
                if let Some((recorded, comm)) = &known.comm
                    && *recorded == row.comm
                {
                    row.comm.clone_from(comm);
                }
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
            comm: None,
            read: Moment(0),
            curve: VecDeque::new(),
        }
    }

    /// Returns whether /proc is to be read: at intervals, and after an exec, which sets the name.
    fn is_stale(&self, row: &ProcessRow, now: Moment) -> bool {
        let comm = self.comm.as_ref();
        self.read == Moment(0)
            || now.since(self.read) > STALE
            || comm.is_some_and(|(recorded, _)| *recorded != row.comm)
    }

    fn read(&mut self, row: &ProcessRow, now: Moment) {
        self.read = now;
        self.comm = None;
        if let Some(process) = proc::process(row.pid, self.start_time) {
            self.comm = Some((row.comm.clone(), process.comm));
            self.uid = process.uid;
            self.unit = process.workload.unit;
            self.limit = process.fd_limit;
        }
    }
}

impl Rows {
    fn rows(&self, live: &Tracker, max: usize) -> ProcessRows {
        let model = &live.engine.model;
        let duplicates = live.engine.duplicates.by_process();
        let mut all: Vec<(usize, &Process)> = model
            .processes()
            .map(|process| (len(model, process.tgid), process))
            .collect();
        let descriptors: usize = all.iter().map(|&(len, _)| len).sum();
        let processes = all.len();
        // Most descriptors first; of the rest, those with duplicates, and those near their limit.
        let largest = max.min(all.len());
        if largest < all.len() {
            all.select_nth_unstable_by_key(largest, |&(len, process)| (Reverse(len), process.tgid));
        }
        let (shown, rest) = all.split_at(largest);
        let mut shown = shown.to_vec();
        let most_duplicates = |&(_, process): &(usize, &Process)| {
            duplicates.get(&process.tgid).map(|&(_, more)| more as u64)
        };
        let near = |&(len, process): &(usize, &Process)| self.near(process.tgid, len);
        add(&mut shown, rest, max, most_duplicates);
        add(&mut shown, rest, max, near);
        shown.sort_unstable_by_key(|&(len, process)| (Reverse(len), process.tgid));
        shown.dedup_by_key(|(_, process)| process.tgid);
        let rows: Vec<_> = shown
            .into_iter()
            .map(|(len, process)| {
                let (files, more) = duplicates.get(&process.tgid).copied().unwrap_or_default();
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
        ProcessRows {
            more_processes: processes - rows.len(),
            more_descriptors: descriptors - rows.iter().map(|row| row.descriptors).sum::<usize>(),
            rows,
        }
    }
}

/// Adds the `max` processes of `rest` with the highest rank; processes without a rank are skipped.
fn add<'a>(
    shown: &mut Vec<(usize, &'a Process)>,
    rest: &[(usize, &'a Process)],
    max: usize,
    rank: impl Fn(&(usize, &'a Process)) -> Option<u64>,
) {
    let mut found: Vec<_> = rest.iter().filter_map(|it| Some((rank(it)?, it))).collect();
    found.sort_unstable_by_key(|&(rank, &(_, process))| (Reverse(rank), process.tgid));
    shown.extend(found.into_iter().take(max).map(|(_, it)| *it));
}

fn len(model: &Model, tgid: u32) -> usize {
    model.table_of(tgid).map_or(0, Table::len)
}

/// Copies the table of a process, and what is needed to report it.
pub fn table(live: &Tracker, pid: u32) -> Option<TableCopy> {
    let model = &live.engine.model;
    let process = model.process(pid)?.clone();
    let table = model.table_of(pid)?.clone();
    let parents = model.table_of(process.parent);
    let parents = parents.filter(|parents| parents.id() != table.id());
    let pipes = table.iter().map(|(_, entry)| entry);
    let pipes = pipes.filter(|entry| entry.file_type() == FileType::Pipe);
    let mut pipe_ends: BTreeMap<u64, Vec<(u32, u32)>> =
        pipes.map(|entry| (entry.ino, Vec::new())).collect();
    if !pipe_ends.is_empty() {
        for other in model.tables() {
            let Some(holder) = other.holders().first() else {
                continue;
            };
            for (fd, entry) in other.iter() {
                if entry.file_type() == FileType::Pipe
                    && let Some(ends) = pipe_ends.get_mut(&{ entry.ino })
                {
                    ends.push((holder.tgid, fd));
                }
            }
        }
    }
    Some(TableCopy {
        process,
        parents: parents.cloned(),
        table,
        pipe_ends,
    })
}
