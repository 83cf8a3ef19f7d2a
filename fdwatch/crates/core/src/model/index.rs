//! Number of descriptors per file of a large table, keyed by a fingerprint of the file. Answers
//! only whether a file may have another descriptor: two files with the same fingerprint (one pair
//! in four billion) cause a needless search.

use std::hash::{Hash as _, Hasher as _};

use rustc_hash::{FxHashMap, FxHasher};

use super::fd_entry::{FdEntry, Identity};

/// Counts of descriptors by fingerprint.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    counts: FxHashMap<u32, u32>,
    /// Whether the index was used since [`Self::take_use`] was last called.
    is_used: bool,
}

impl Index {
    pub(super) fn of<'a>(entries: impl Iterator<Item = &'a FdEntry>) -> Self {
        let mut index = Self::default();
        for entry in entries {
            index.add(entry.identity());
        }
        index
    }

    pub(super) fn add(&mut self, identity: Identity) {
        self.is_used = true;
        *self.counts.entry(fingerprint(identity)).or_default() += 1;
    }

    pub(super) fn remove(&mut self, identity: Identity) {
        self.is_used = true;
        let fingerprint = fingerprint(identity);
        if let Some(count) = self.counts.get_mut(&fingerprint) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&fingerprint);
            }
        }
    }

    pub(super) fn count(&mut self, identity: Identity) -> u32 {
        self.is_used = true;
        let count = self.counts.get(&fingerprint(identity));
        count.copied().unwrap_or(0)
    }

    /// Returns whether the index was used since the last call.
    pub(super) fn take_use(&mut self) -> bool {
        std::mem::take(&mut self.is_used)
    }
}

fn fingerprint(identity: Identity) -> u32 {
    let mut hasher = FxHasher::default();
    identity.hash(&mut hasher);
    let hash = hasher.finish();
    (hash ^ hash >> 32) as u32
}
