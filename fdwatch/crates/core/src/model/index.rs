//! How many descriptors of a large table are on each file: by a fingerprint of the file, for what is
//! asked is only whether there may be another. Two files of one fingerprint (one pair in four billion)
//! make a table's owner look once where there is nothing.

use std::hash::{Hash as _, Hasher as _};

use rustc_hash::{FxHashMap, FxHasher};

use super::fd_entry::{FdEntry, Identity};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    counts: FxHashMap<u32, u32>,
    /// Whether it was asked, or changed, since it was last looked at whether it is needed.
    is_used: bool,
}

impl Index {
    pub(super) fn of<'a>(slots: impl Iterator<Item = &'a FdEntry>) -> Self {
        let mut index = Self::default();
        for slot in slots {
            index.add(slot.identity());
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

    /// Whether it was used since this was last asked.
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
