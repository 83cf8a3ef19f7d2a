//! Events during a snapshot that make parts of it obsolete.
//!
//! The snapshot and the events share the ring, but a descriptor is read a moment before its record
//! is written, and an event can come in between. Every event is seen, so an event always overrides
//! the snapshot's record of the same number.

use rustc_hash::{FxHashMap, FxHashSet};

/// Events since the snapshot began.
#[derive(Debug, Default)]
pub(super) struct Window {
    tables: FxHashMap<u64, Seen>,
    /// Processes, and threads with their own tables, that have exited.
    exited: FxHashSet<u32>,
    /// Tables that were incomplete when it began; all, if it is the first.
    incomplete: Option<FxHashSet<u64>>,
    /// Tables that were copied from incomplete ones. Their tasks may have numbers that the snapshot
    /// has already passed.
    pub(super) copied: FxHashSet<u64>,
    /// Whether the records of the current task are valid.
    pub(super) at_live_task: bool,
}

/// Events in one table.
#[derive(Clone, Debug, Default)]
struct Seen {
    closed: FxHashSet<u32>,
    /// Bitmaps of open descriptors, each with the number of its first bit.
    bitmaps: Vec<(u32, Vec<u64>)>,
    /// No descriptor from this number on was open.
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

    /// Returns whether this is the first snapshot.
    pub(super) const fn is_first(&self) -> bool {
        self.incomplete.is_none()
    }

    /// Notes that the table `to` was copied from `from`.
    pub(super) fn derive(&mut self, from: u64, to: u64) {
        let incomplete = self.incomplete.as_ref();
        if incomplete.is_none_or(|incomplete| incomplete.contains(&from))
            || self.copied.contains(&from)
        {
            self.copied.insert(to);
        } else {
            self.copied.remove(&to);
        }
    }

    pub(super) fn close(&mut self, table: u64, fd: u32) {
        self.tables.entry(table).or_default().closed.insert(fd);
    }

    pub(super) fn keep_only(&mut self, table: u64, first: u32, open: &[u64]) {
        let seen = self.tables.entry(table).or_default();
        seen.bitmaps.push((first, open.to_vec()));
    }

    pub(super) fn close_from(&mut self, table: u64, end: u32) {
        self.tables.entry(table).or_default().end = Some(end);
    }

    pub(super) fn set_closes_on_exec(&mut self, table: u64, fd: u32, closes: bool) {
        let seen = self.tables.entry(table).or_default();
        seen.cloexec.insert(fd, closes);
    }

    /// Drops the flags seen so far: all flags of the table follow.
    pub(super) fn forget_cloexec(&mut self, table: u64) {
        if let Some(seen) = self.tables.get_mut(&table) {
            seen.cloexec.clear();
        }
    }

    /// Drops the events of descriptors below `end`, which the exec event covers; none of them
    /// closes on exec.
    pub(super) fn exec(&mut self, table: u64, end: u32) {
        if let Some(seen) = self.tables.get_mut(&table) {
            seen.closed.retain(|&fd| fd >= end);
            seen.cloexec.clear();
        }
    }

    /// Drops the events of the table: another one is at its address now.
    pub(super) fn forget(&mut self, table: u64) {
        self.tables.remove(&table);
    }

    /// Copies the events of a table to a copy of it that the same task made.
    pub(super) fn copy(&mut self, from: u64, to: u64) {
        match self.tables.get(&from).cloned() {
            Some(seen) => drop(self.tables.insert(to, seen)),
            None => self.forget(to),
        }
    }

    pub(super) fn created(&mut self, number: u32) {
        self.exited.remove(&number);
    }

    pub(super) fn exit(&mut self, number: u32) {
        self.exited.insert(number);
    }

    pub(super) fn has_exited(&self, tid: u32, tgid: u32) -> bool {
        self.exited.contains(&tid) || self.exited.contains(&tgid)
    }

    /// Returns the flag's value, if an event has set it.
    pub(super) fn closes_on_exec(&self, table: u64, fd: u32) -> Option<bool> {
        self.tables.get(&table)?.cloexec.get(&fd).copied()
    }

    /// Returns whether an event has closed the descriptor.
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
