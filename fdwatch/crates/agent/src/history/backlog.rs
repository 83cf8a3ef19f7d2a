//! The queue of records to write, bounded by number and size. Pure.

use std::collections::VecDeque;

use super::{
    blocks::{Blocks, Place},
    record::{Record, TEXTS},
};
use fdwatch_core::duplicates::Change;

/// Limit of records.
const MAX_RECORDS: usize = 20_000;

/// Limit of further records of ended findings, without their JSON: a lost end would leave a finding active forever.
const MAX_ENDS: usize = 40_000;

/// Limit of the memory of records: bytes.
const MAX_BYTES: usize = 16 << 20;

/// A record without its texts, and their location.
#[derive(Debug)]
struct Waiting {
    record: Record<'static>,
    texts: Place<TEXTS>,
    bytes: usize,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    records: VecDeque<Waiting>,
    blocks: Blocks,
    bytes: usize,
}

impl Backlog {
    /// Adds a record, without its JSON if that does not fit. Returns whether there was room.
    pub(super) fn push(&mut self, record: Record<'_>) -> bool {
        let has_room = self.records.len() < MAX_RECORDS && self.bytes + record.bytes() <= MAX_BYTES;
        let record = if has_room {
            record
        } else if record.change == Change::Gone && self.records.len() < MAX_RECORDS + MAX_ENDS {
            record.without_json()
        } else {
            return false;
        };
        let bytes = record.bytes();
        self.bytes += bytes;
        self.records.push_back(Waiting {
            record: record.with([None; TEXTS]),
            texts: self.blocks.push(record.texts()),
            bytes,
        });
        true
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the first records, at most `bytes` of them but at least one.
    pub(super) fn first(&self, bytes: usize) -> impl Iterator<Item = Record<'_>> {
        let mut taken = 0;
        let first = self.records.iter().take_while(move |waiting| {
            let is_first = taken == 0;
            taken += waiting.bytes;
            is_first || taken <= bytes
        });
        first.map(|waiting| waiting.record.with(self.blocks.get(&waiting.texts)))
    }

    /// Removes the first `count` records, which were written.
    pub(super) fn remove_written(&mut self, count: usize) {
        for waiting in self.records.drain(..count.min(self.records.len())) {
            self.bytes -= waiting.bytes;
        }
        let first = self.records.front();
        self.blocks.free_before(first.map(|waiting| &waiting.texts));
        if self.records.is_empty() {
            // Frees the memory of thousands of records.
            self.records = VecDeque::new();
        }
    }
}
