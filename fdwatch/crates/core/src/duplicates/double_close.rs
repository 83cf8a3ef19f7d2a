//! Double closes: a number that is closed again when it is not open. Closes of processes with
//! detail are remembered with time and thread, so that both closes can be reported.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{FdEntry, InvalidClose, Model, Moment, TableId};

/// Maximum number of remembered closes, over all processes.
const MAX: usize = 16_384;

/// A close of an open descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Its entry.
    pub entry: FdEntry,
    /// The closing thread; none if it was closed along with others, by `close_range` or exec.
    pub tid: Option<u32>,
    /// When it was closed.
    pub at: Moment,
}

/// A number that was closed, and then closed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubleClose {
    /// Its ID.
    pub id: u64,
    /// The second close.
    pub again: InvalidClose,
    /// The first close.
    pub first: Closing,
    /// The close before the first, of the number's previous descriptor, if known.
    pub before: Option<Closing>,
}

/// Recent closes.
#[derive(Debug, Default)]
pub(super) struct Closings {
    /// Tables of processes with detail.
    tables: FxHashSet<TableId>,
    /// The last close of each number of a table, and the one before.
    last: FxHashMap<(TableId, u32), (Closing, Option<Closing>)>,
    by_age: VecDeque<(TableId, u32, Moment)>,
}

impl Closings {
    /// Remembers closes in the table from now on.
    pub(super) fn remember(&mut self, table: TableId) {
        self.tables.insert(table);
    }

    /// Forgets a table that is gone.
    pub(super) fn forget(&mut self, table: TableId) {
        if !self.tables.is_empty() {
            self.tables.remove(&table);
        }
    }

    /// Sets the thread of the last close of the number.
    pub(super) fn set_closer(&mut self, table: TableId, fd: u32, tid: u32) {
        if let Some((last, _)) = self.last.get_mut(&(table, fd)) {
            last.tid = Some(tid);
        }
    }

    pub(super) fn closed(&mut self, table: TableId, fd: u32, entry: &FdEntry, at: Moment) {
        if self.tables.is_empty() || !self.tables.contains(&table) {
            return;
        }
        let closing = Closing {
            entry: *entry,
            tid: None,
            at,
        };
        let before = self.last.get(&(table, fd)).map(|&(before, _)| before);
        self.last.insert((table, fd), (closing, before));
        self.by_age.push_back((table, fd, closing.at));
        while self.by_age.len() > MAX {
            if let Some((table, fd, at)) = self.by_age.pop_front()
                && self
                    .last
                    .get(&(table, fd))
                    .is_some_and(|(last, _)| last.at == at)
            {
                self.last.remove(&(table, fd));
            }
        }
    }

    /// Returns the last two closes of the number that was closed again.
    pub(super) fn last_two(
        &self,
        again: &InvalidClose,
        model: &Model,
    ) -> Option<(Closing, Option<Closing>)> {
        let table = model.table(again.table)?;
        self.last.get(&(table.id(), again.fd)).copied()
    }
}
