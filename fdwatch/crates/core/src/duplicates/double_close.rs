//! Double closes: a number that is closed again though it is not open. Of processes that detail is
//! wanted of, it is remembered what was closed, when and by whom, so that both closes can be told.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{FdEntry, InvalidClose, Model, Moment, TableId};

/// Closes that are remembered, of all processes.
const MAX: usize = 16_384;

/// A descriptor that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// What it was.
    pub slot: FdEntry,
    /// The thread that closed it; none if it was closed with others at once, by `close_range` or exec.
    pub tid: Option<u32>,
    /// When.
    pub at: Moment,
}

/// A number that was closed, and then closed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubleClose {
    /// Number of it, to know it again by.
    pub id: u64,
    /// The second close.
    pub again: InvalidClose,
    /// The first.
    pub first: Closing,
    /// What had the number before that one, if that was seen to be closed as well.
    pub before: Option<Closing>,
}

/// What was closed of late.
#[derive(Debug, Default)]
pub(super) struct Closings {
    /// Tables of processes that detail is wanted of.
    tables: FxHashSet<TableId>,
    /// The last of each number of a table, and the one before.
    last: FxHashMap<(TableId, u32), (Closing, Option<Closing>)>,
    oldest_first: VecDeque<(TableId, u32, Moment)>,
}

impl Closings {
    /// What is closed in the table is remembered from here on.
    pub(super) fn remember(&mut self, table: TableId) {
        self.tables.insert(table);
    }

    /// The table is gone.
    pub(super) fn forget(&mut self, table: TableId) {
        if !self.tables.is_empty() {
            self.tables.remove(&table);
        }
    }

    /// Whose thread the last close of the number was.
    pub(super) fn set_closer(&mut self, table: TableId, fd: u32, tid: u32) {
        if let Some((last, _)) = self.last.get_mut(&(table, fd)) {
            last.tid = Some(tid);
        }
    }

    pub(super) fn closed(&mut self, table: TableId, fd: u32, slot: &FdEntry, at: Moment) {
        if self.tables.is_empty() || !self.tables.contains(&table) {
            return;
        }
        let closing = Closing {
            slot: *slot,
            tid: None,
            at,
        };
        let before = self.last.get(&(table, fd)).map(|&(before, _)| before);
        self.last.insert((table, fd), (closing, before));
        self.oldest_first.push_back((table, fd, closing.at));
        while self.oldest_first.len() > MAX {
            if let Some((table, fd, at)) = self.oldest_first.pop_front()
                && self
                    .last
                    .get(&(table, fd))
                    .is_some_and(|(last, _)| last.at == at)
            {
                self.last.remove(&(table, fd));
            }
        }
    }

    /// What the stray close closed again.
    pub(super) fn of(
        &self,
        stray: &InvalidClose,
        model: &Model,
    ) -> Option<(Closing, Option<Closing>)> {
        let table = model.table(stray.table)?;
        self.last.get(&(table.id(), stray.fd)).copied()
    }
}
