//! Descriptors per file of a large table, keyed by a fingerprint of the file: how many there are,
//! and which, if there are one or two. Two files with the same fingerprint (one pair in four
//! billion) cost one unneeded search.

use std::hash::{Hash as _, Hasher as _};

use rustc_hash::{FxHashMap, FxHasher};

use super::fd_entry::{FdEntry, Identity};

/// The descriptors with one fingerprint: their number, and all their numbers combined by XOR, which
/// gives the other one of two without a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OnFile {
    pub(super) count: u32,
    pub(super) combined: u32,
}

/// Descriptors by fingerprint.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    files: FxHashMap<u32, OnFile>,
    /// Whether the index was used since [`Self::take_use`] was last called.
    is_used: bool,
}

impl Index {
    pub(super) fn of<'a>(entries: impl Iterator<Item = (u32, &'a FdEntry)>) -> Self {
        let mut index = Self::default();
        for (fd, entry) in entries {
            index.add(fd, entry.identity());
        }
        index
    }

    pub(super) fn add(&mut self, fd: u32, identity: Identity) {
        self.is_used = true;
        let file = self.files.entry(fingerprint(identity)).or_default();
        file.count += 1;
        file.combined ^= fd;
    }

    pub(super) fn remove(&mut self, fd: u32, identity: Identity) {
        self.is_used = true;
        let fingerprint = fingerprint(identity);
        if let Some(file) = self.files.get_mut(&fingerprint) {
            file.count -= 1;
            file.combined ^= fd;
            if file.count == 0 {
                self.files.remove(&fingerprint);
            }
        }
    }

    pub(super) fn get(&mut self, identity: Identity) -> OnFile {
        self.is_used = true;
        let file = self.files.get(&fingerprint(identity));
        file.copied().unwrap_or_default()
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
