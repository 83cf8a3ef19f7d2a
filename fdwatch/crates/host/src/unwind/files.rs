//! The files that code is mapped from, shared by all processes: bounded, and what was not needed for
//! the longest is forgotten first.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

use rustc_hash::FxHashMap;

use super::{file::CodeFile, memory::Mapping};
use fdwatch_core::model::Moment;

/// Bytes of all files that are kept, at most; and one more.
const MAX_BYTES: usize = 32 << 20;

/// Files, at most: of those that nothing is kept of, that is.
const MAX: usize = 1024;

/// A file, as it was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    dev: u64,
    ino: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Files {
    files: FxHashMap<Identity, Kept>,
    bytes: usize,
    read: u32,
}

struct Kept {
    file: CodeFile,
    used: Moment,
}

impl Files {
    /// The file of a mapping of the process, if it has one: read, if that was not done before.
    pub(super) fn of(
        &mut self,
        mapping: &mut Mapping,
        tgid: u32,
        now: Moment,
    ) -> Option<&CodeFile> {
        let identity = mapping.file(tgid)?;
        if !self.files.contains_key(&identity) {
            let opened = mapping.open(tgid, identity).ok();
            let file = opened.and_then(CodeFile::read).unwrap_or_default();
            while self.files.len() >= MAX || (self.bytes > MAX_BYTES && !self.files.is_empty()) {
                self.forget_oldest();
            }
            self.read += 1;
            self.bytes += file.bytes;
            self.files.insert(identity, Kept { file, used: now });
        }
        let kept = self.files.get_mut(&identity)?;
        kept.used = now;
        Some(&kept.file)
    }

    /// How many were read so far.
    pub(super) const fn read(&self) -> u32 {
        self.read
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.bytes == 0
    }

    /// Forgets what was not needed for so long.
    pub(super) fn rest(&mut self, now: Moment, idle: u64) {
        self.files.retain(|_, kept| now.since(kept.used) < idle);
        self.bytes = self.files.values().map(|kept| kept.file.bytes).sum();
    }

    fn forget_oldest(&mut self) {
        let oldest = self.files.iter().min_by_key(|(_, kept)| kept.used);
        if let Some((&oldest, _)) = oldest
            && let Some(kept) = self.files.remove(&oldest)
        {
            self.bytes -= kept.file.bytes;
        }
    }
}
