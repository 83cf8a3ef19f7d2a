//! The file of a finding.

use super::process::ProcessInfo;
use crate::model::FileType;

/// The name of a file as the kernel shows it for a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its path, or the kernel's name for it.
    pub path: Vec<u8>,
    /// Whether the file is no longer at that path.
    pub deleted: bool,
    /// The space a deleted file occupies, in bytes.
    pub pinned: Option<u64>,
}

/// The file of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its path, or the kernel's name for it; none if it could not be read.
    pub path: Option<Vec<u8>>,
    /// The device, in the kernel's encoding.
    pub dev: u32,
    /// The inode.
    pub ino: u64,
    /// The type.
    pub file_type: FileType,
    /// Whether it has no name any more.
    pub deleted: bool,
    /// The space a deleted file occupies while it is open, in bytes, if known.
    pub pinned: Option<u64>,
    /// Its path as seen by the process, if different.
    pub process_path: Option<Vec<u8>>,
    /// A path by which the host reaches it while the process is running, if `path` does not.
    pub host_path: Option<Vec<u8>>,
}

impl FileInfo {
    /// Creates a file that has a name and looks the same to everyone.
    #[must_use]
    pub fn new(path: Option<Vec<u8>>, dev: u32, ino: u64, file_type: FileType) -> Self {
        Self {
            path,
            dev,
            ino,
            file_type,
            deleted: false,
            pinned: None,
            process_path: None,
            host_path: None,
        }
    }

    /// Sets the paths by which others see it. The kernel shows a path relative to the reader's
    /// root, or, in another mount namespace, relative to that one's root (`d_path`, fs/d_path.c).
    pub(super) fn add_views(&mut self, process: &ProcessInfo) {
        let Some(path) = self.path.as_deref().filter(|path| path.starts_with(b"/")) else {
            return;
        };
        if process.has_own_mounts {
            let mut host = format!("/proc/{}/root", process.pid).into_bytes();
            host.extend(path);
            self.host_path = Some(host);
        } else if let Some(root) = &process.root
            && let Some(rest) = path.strip_prefix(&root[..])
            && rest.starts_with(b"/")
        {
            self.process_path = Some(rest.to_vec());
        }
    }
}

/// Returns whether a path is the kernel's name for shared memory: of memfd_create (mm/shmem.c) or
/// System V (ipc/shm.c).
#[must_use]
pub fn is_memory(path: &[u8]) -> bool {
    path.starts_with(b"/memfd:") || path.starts_with(b"/SYSV")
}
