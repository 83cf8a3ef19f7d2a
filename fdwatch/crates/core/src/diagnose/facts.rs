//! The facts that severity and advice of a finding depend on.

use super::file::FileInfo;
use crate::model::{FdEntry, FileType};

/// Facts about a finding.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// Number of descriptors.
    pub(super) count: usize,
    /// Some of them can write.
    pub(super) is_written: bool,
    /// Several of them can write and one does not append, so that they overwrite each other.
    pub(super) is_overwritten: bool,
    /// The descriptors have more than one description.
    pub(super) has_two_descriptions: bool,
    /// The file is a regular one.
    pub(super) is_regular: bool,
    /// The file has no name any more.
    pub(super) is_deleted: bool,
    /// The space that a deleted file occupies, in bytes; 0 if unknown.
    pub(super) pinned: u64,
    /// One of them is still open although the connection it was opened for was closed.
    pub(super) outlives_connection: bool,
    /// The processes that write the file belong to the same service.
    pub(super) is_one_service: bool,
    /// Different threads or different code closed the descriptor.
    pub(super) has_two_closers: bool,
}

impl Facts {
    /// Collects the facts about descriptors on `file`. The last three fields stay unset.
    pub(super) fn new(entries: &[&FdEntry], file: &FileInfo) -> Self {
        let writers = entries.iter().filter(|entry| entry.access().writes());
        let count = writers.clone().count();
        Self {
            count: entries.len(),
            is_written: count > 0,
            is_overwritten: count > 1 && writers.clone().any(|entry| !entry.appends()),
            has_two_descriptions: has_two_descriptions(entries),
            is_regular: file.file_type == FileType::Regular,
            is_deleted: file.deleted,
            pinned: file.pinned.unwrap_or(0),
            ..Self::default()
        }
    }
}

/// Returns whether the descriptors have more than one description.
pub(super) fn has_two_descriptions(entries: &[&FdEntry]) -> bool {
    entries.windows(2).any(|pair| pair[0].file != pair[1].file)
}
