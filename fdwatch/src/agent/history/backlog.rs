//! What waits to be written: bounded by count and by bytes. Pure. Why it waits is not known here.

use std::collections::VecDeque;

use super::record::Record;
use crate::duplicates::Change;

/// Records that may wait.
const MOST_RECORDS: usize = 20_000;

/// Ends that may wait beyond these, without what was told: so that nothing seems to be there for good.
const MOST_ENDS: usize = 40_000;

/// What records that wait may take: bytes.
const MOST_BYTES: usize = 16 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    records: VecDeque<Record>,
    bytes: usize,
}

impl Backlog {
    /// Takes a record in, or what matters of it, if there is room.
    pub(super) fn push(&mut self, record: Record) -> bool {
        let has_room =
            self.records.len() < MOST_RECORDS && self.bytes + record.bytes() <= MOST_BYTES;
        let record = if has_room {
            record
        } else if record.change == Change::Gone && self.records.len() < MOST_RECORDS + MOST_ENDS {
            record.without_json()
        } else {
            return false;
        };
        self.bytes += record.bytes();
        self.records.push_back(record);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// As many of the first as take no more than `bytes`, but at least one.
    pub(super) fn first(&self, bytes: usize) -> impl Iterator<Item = &Record> {
        let mut taken = 0;
        self.records.iter().take_while(move |record| {
            let is_first = taken == 0;
            taken += record.bytes();
            is_first || taken <= bytes
        })
    }

    /// The first `count` were written.
    pub(super) fn written(&mut self, count: usize) {
        for record in self.records.drain(..count.min(self.records.len())) {
            self.bytes -= record.bytes();
        }
    }
}
