//! What is asked of live tables: the processes with the most descriptors, and what /proc adds to each,
//! read seldom, and of few; and one process's table.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::live::Live;
use crate::{
    agent::{shared::TableAnswer, view::ProcessRow},
    model::{FileType, Model, Moment, Process, Table},
    proc,
};

/// How often descriptors are counted for the curves: nanoseconds.
const EVERY: u64 = 5_000_000_000;

/// Counts of one curve: five minutes of them.
const CURVE: usize = 60;

/// What /proc says is read again after this long: nanoseconds.
const STALE: u64 = 30_000_000_000;

/// Processes whose /proc is read in one go, for the loop not to be held up.
const MOST_READ: usize = 16;

/// At the start, before events are followed, more of them.
const MOST_READ_FIRST: usize = 256;

/// Who asks for rows is taken to do so again within this time: nanoseconds.
const ASKED: u64 = 10_000_000_000;

/// The rows of the processes that were shown of late.
#[derive(Default)]
pub(super) struct Rows {
    known: FxHashMap<u32, Known>,
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
pub(super) struct Shown {
    pub(super) rows: Vec<ProcessRow>,
    pub(super) more_processes: usize,
    pub(super) more_descriptors: usize,
}

impl Rows {
    /// The `most` processes with the most descriptors, and as many with the most duplicates.
    pub(super) fn show(&mut self, live: &Live, most: usize, now: Moment) -> Shown {
        let shown = rows(live, most);
        let (asked, until) = self.asked;
        let more = (asked > most && now < until).then(|| rows(live, asked).rows);
        let followed = more.as_ref().unwrap_or(&shown.rows);
        let here: FxHashSet<u32> = followed.iter().map(|row| row.pid).collect();
        self.known.retain(|pid, _| here.contains(pid));
        let is_time = now.since(self.counted) >= EVERY;
        let most_read = if self.counted == Moment(0) {
            MOST_READ_FIRST
        } else {
            MOST_READ
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

    /// As many rows as are wanted, with what is known of them. More becomes known of those that are asked
    /// for again and again.
    pub(super) fn look_up(&mut self, live: &Live, most: usize, now: Moment) -> Shown {
        self.asked = (most, Moment(now.0.saturating_add(ASKED)));
        self.fill(rows(live, most))
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
            self.unit = process.who.unit;
            self.limit = process.most_fds;
        }
    }
}

fn rows(live: &Live, most: usize) -> Shown {
    let model = &live.engine.model;
    let twice = live.engine.duplicates.by_process();
    let mut all: Vec<(usize, &Process)> = model
        .processes()
        .map(|process| (len(model, process.tgid), process))
        .collect();
    let descriptors: usize = all.iter().map(|&(len, _)| len).sum();
    let processes = all.len();
    // The first are the largest, in order; of the rest those with duplicates are of interest.
    let largest = most.min(all.len());
    if largest < all.len() {
        all.select_nth_unstable_by_key(largest, |&(len, process)| (Reverse(len), process.tgid));
    }
    let (shown, rest) = all.split_at(largest);
    let mut with_most: Vec<_> = rest
        .iter()
        .filter_map(|&(len, process)| Some((twice.get(&process.tgid)?.1, len, process)))
        .collect();
    with_most.sort_unstable_by_key(|&(more, _, process)| (Reverse(more), process.tgid));
    let with_most = with_most.iter().take(most);
    let mut shown: Vec<_> = shown
        .iter()
        .copied()
        .chain(with_most.map(|&(_, len, process)| (len, process)))
        .collect();
    shown.sort_unstable_by_key(|&(len, process)| (Reverse(len), process.tgid));
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

fn len(model: &Model, tgid: u32) -> usize {
    model.table_of(tgid).map_or(0, Table::len)
}

/// The table of a process, and what else is needed to show it.
pub(super) fn table(live: &Live, pid: u32) -> Option<TableAnswer> {
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
