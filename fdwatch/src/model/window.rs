//! What happens while a snapshot is taken, and makes parts of it old news.
//!
//! The snapshot and the events share the ring, but a descriptor is looked at a moment before its
//! record is written, and an event may come in between. Since every event is seen, a number that an
//! event was about is known better from that: a snapshot's record of it is passed over.

use rustc_hash::{FxHashMap, FxHashSet};

/// What was seen since the snapshot began.
#[derive(Debug, Default)]
pub(super) struct Window {
    closed: FxHashSet<(u64, u32)>,
    /// By table: from which number on, and which of those that follow were open.
    bitmaps: FxHashMap<u64, Vec<(u32, Vec<u64>)>>,
    exited: FxHashSet<(u32, u64)>,
    /// Whether a process was made whose parent's table may not have been looked at yet, while the
    /// child's number may lie where the snapshot has passed already.
    pub(super) forked: bool,
    /// Whether the task that the snapshot is at is one to listen to.
    pub(super) at_live_task: bool,
}

impl Window {
    pub(super) fn close(&mut self, table: u64, fd: u32) {
        self.closed.insert((table, fd));
    }

    pub(super) fn keep_only(&mut self, table: u64, first: u32, open: &[u64]) {
        let bitmaps = self.bitmaps.entry(table).or_default();
        bitmaps.push((first, open.to_vec()));
    }

    pub(super) fn exit(&mut self, tgid: u32, start_time: u64) {
        self.exited.insert((tgid, start_time));
    }

    pub(super) fn has_exited(&self, tgid: u32, start_time: u64) -> bool {
        self.exited.contains(&(tgid, start_time))
    }

    /// Whether an event has ended the descriptor.
    pub(super) fn was_closed(&self, table: u64, fd: u32) -> bool {
        if self.closed.contains(&(table, fd)) {
            return true;
        }
        let Some(bitmaps) = self.bitmaps.get(&table) else {
            return false;
        };
        bitmaps.iter().any(|(first, open)| {
            let Some(at) = fd.checked_sub(*first) else {
                return false;
            };
            open.get(at as usize / 64)
                .is_some_and(|word| word >> (at % 64) & 1 == 0)
        })
    }
}
