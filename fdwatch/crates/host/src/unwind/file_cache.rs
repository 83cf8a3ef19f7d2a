//! A bounded cache of the files that code is mapped from, shared by all processes; the least recently
//! used file is evicted first.

use rustc_hash::FxHashMap;

use super::{code_file::CodeFile, code_mappings::CodeMapping, identity::FileIdentity};
use fdwatch_core::model::Moment;

/// Maximum size of all cached files, in bytes; exceeded by at most one file.
const MAX_BYTES: usize = 32 << 20;

/// Maximum number of cached files, including those without unwind tables.
const MAX_FILES: usize = 1024;

/// The cache, by the identity of files.
#[derive(Default)]
pub(super) struct FileCache {
    files: FxHashMap<FileIdentity, CachedFile>,
    bytes: usize,
    /// Number of files read so far.
    read: u32,
}

struct CachedFile {
    file: CodeFile,
    used: Moment,
}

impl FileCache {
    /// Returns the file of a process's mapping, reading it if needed; `None` if the mapping has no file.
    pub(super) fn of(
        &mut self,
        mapping: &mut CodeMapping,
        tgid: u32,
        now: Moment,
    ) -> Option<&CodeFile> {
        let identity = mapping.file(tgid)?;
        if !self.files.contains_key(&identity) {
            let opened = mapping.open(tgid, identity).ok();
            let file = opened.and_then(CodeFile::read).unwrap_or_default();
            while self.files.len() >= MAX_FILES
                || (self.bytes > MAX_BYTES && !self.files.is_empty())
            {
                self.evict_oldest();
            }
            self.read += 1;
            self.bytes += file.bytes;
            self.files.insert(identity, CachedFile { file, used: now });
        }
        let cached = self.files.get_mut(&identity)?;
        cached.used = now;
        Some(&cached.file)
    }

    /// Returns the number of files read so far.
    pub(super) const fn read(&self) -> u32 {
        self.read
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.bytes == 0
    }

    /// Evicts files that were not used for `idle` nanoseconds.
    pub(super) fn evict_idle(&mut self, now: Moment, idle: u64) {
        self.files.retain(|_, cached| now.since(cached.used) < idle);
        self.bytes = self.files.values().map(|cached| cached.file.bytes).sum();
    }

    fn evict_oldest(&mut self) {
        let oldest = self.files.iter().min_by_key(|(_, cached)| cached.used);
        if let Some((&oldest, _)) = oldest
            && let Some(cached) = self.files.remove(&oldest)
        {
            self.bytes -= cached.file.bytes;
        }
    }
}
