//! What happens while a snapshot is taken, and makes parts of it old news.
//!
//! The snapshot and the events share the ring, but a descriptor is looked at a moment before its
//! record is written, and an event may come in between. Since every event is seen, a number that an
//! event was about is known better from that: a snapshot's record of it is passed over.

use rustc_hash::{FxHashMap, FxHashSet};

/// What was seen since the snapshot began.
#[derive(Debug, Default)]
pub(super) struct Window {
    tables: FxHashMap<u64, Seen>,
    /// Processes, and threads with tables of their own.
    exited: FxHashSet<u32>,
    /// Tables that are not complete when it begins; all, if it is the first.
    incomplete: Option<FxHashSet<u64>>,
    /// Tables that were copied from such as were not complete, and that tasks may have whose
    /// numbers the snapshot has passed already.
    pub(super) made: FxHashSet<u64>,
    /// Whether the task that the snapshot is at is one to listen to.
    pub(super) at_live_task: bool,
}

/// What was seen of a table.
#[derive(Clone, Debug, Default)]
struct Seen {
    closed: FxHashSet<u32>,
    /// From which number on, and which of those that follow were open.
    bitmaps: Vec<(u32, Vec<u64>)>,
    /// From which number on none was open.
    end: Option<u32>,
    cloexec: FxHashMap<u32, bool>,
}

impl Window {
    pub(super) fn new(incomplete: Option<FxHashSet<u64>>) -> Self {
        Self {
            incomplete,
            ..Self::default()
        }
    }

    /// Whether nothing was there to be known before.
    pub(super) const fn is_first(&self) -> bool {
        self.incomplete.is_none()
    }

    /// A table has what another had.
    pub(super) fn derive(&mut self, from: u64, to: u64) {
        let incomplete = self.incomplete.as_ref();
        if incomplete.is_none_or(|incomplete| incomplete.contains(&from))
            || self.made.contains(&from)
        {
            self.made.insert(to);
        } else {
            self.made.remove(&to);
        }
    }

    pub(super) fn close(&mut self, table: u64, fd: u32) {
        self.tables.entry(table).or_default().closed.insert(fd);
    }

    pub(super) fn keep_only(&mut self, table: u64, first: u32, open: &[u64]) {
        let seen = self.tables.entry(table).or_default();
        seen.bitmaps.push((first, open.to_vec()));
    }

    pub(super) fn end_at(&mut self, table: u64, end: u32) {
        self.tables.entry(table).or_default().end = Some(end);
    }

    pub(super) fn set_closes_on_exec(&mut self, table: u64, fd: u32, closes: bool) {
        let seen = self.tables.entry(table).or_default();
        seen.cloexec.insert(fd, closes);
    }

    /// All flags of the table are told anew.
    pub(super) fn forget_cloexec(&mut self, table: u64) {
        if let Some(seen) = self.tables.get_mut(&table) {
            seen.cloexec.clear();
        }
    }

    /// What is open below `end` is told anew, and none of it closes on exec.
    pub(super) fn exec(&mut self, table: u64, end: u32) {
        if let Some(seen) = self.tables.get_mut(&table) {
            seen.closed.retain(|&fd| fd >= end);
            seen.cloexec.clear();
        }
    }

    /// Another table is at the address of one that was there.
    pub(super) fn forget(&mut self, table: u64) {
        self.tables.remove(&table);
    }

    /// A table is a copy of another, from the same task.
    pub(super) fn copy(&mut self, from: u64, to: u64) {
        match self.tables.get(&from).cloned() {
            Some(seen) => drop(self.tables.insert(to, seen)),
            None => self.forget(to),
        }
    }

    pub(super) fn make(&mut self, number: u32) {
        self.exited.remove(&number);
    }

    pub(super) fn exit(&mut self, number: u32) {
        self.exited.insert(number);
    }

    pub(super) fn has_exited(&self, tid: u32, tgid: u32) -> bool {
        self.exited.contains(&tid) || self.exited.contains(&tgid)
    }

    /// What the descriptor's flag was set to, if it was.
    pub(super) fn closes_on_exec(&self, table: u64, fd: u32) -> Option<bool> {
        self.tables.get(&table)?.cloexec.get(&fd).copied()
    }

    /// Whether an event has ended the descriptor.
    pub(super) fn was_closed(&self, table: u64, fd: u32) -> bool {
        let Some(seen) = self.tables.get(&table) else {
            return false;
        };
        seen.closed.contains(&fd)
            || seen.end.is_some_and(|end| fd >= end)
            || seen.bitmaps.iter().any(|(first, open)| {
                let at = fd.checked_sub(*first).map(|at| at as usize);
                at.and_then(|at| Some(open.get(at / 64)? >> (at % 64) & 1 == 0))
                    .unwrap_or(false)
            })
    }
}
