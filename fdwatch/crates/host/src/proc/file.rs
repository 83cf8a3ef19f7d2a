//! Files that descriptors refer to: their paths, and whether they were deleted.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::MetadataExt as _,
    },
};

use fdwatch_core::diagnose::Name;

/// Returns the target of a symbolic link.
pub(super) fn link(path: &str) -> Option<Vec<u8>> {
    Some(fs::read_link(path).ok()?.into_os_string().into_vec())
}

/// The suffix of paths of deleted files: `d_path`, fs/d_path.c.
const DELETED: &[u8] = b" (deleted)";

/// Returns the name of the file that the descriptor `fd` of `pid` refers to.
#[must_use]
pub fn name(pid: u32, fd: u32) -> Option<Name> {
    let path = link(&format!("/proc/{pid}/fd/{fd}"))?;
    // An existing file can have a name with that suffix; then it has links.
    match path.strip_suffix(DELETED) {
        Some(name) if let Some(bytes) = bytes_without_links(pid, fd) => Some(Name {
            path: name.to_vec(),
            deleted: true,
            pinned: Some(bytes),
        }),
        _ => Some(Name {
            path,
            deleted: false,
            pinned: None,
        }),
    }
}

/// Returns the disk space of a file without links, in bytes; `None` if it has links.
fn bytes_without_links(pid: u32, fd: u32) -> Option<u64> {
    /// The unit of `st_blocks`, independent of the file system.
    const BLOCK: u64 = 512;
    let metadata = fs::metadata(format!("/proc/{pid}/fd/{fd}")).ok()?;
    (metadata.nlink() == 0).then(|| metadata.blocks() * BLOCK)
}

/// Returns whether a path exists in the root directory of the process `pid`.
pub(crate) fn path_exists(pid: u32, path: &[u8]) -> bool {
    let mut in_root = format!("/proc/{pid}/root").into_bytes();
    in_root.extend(path);
    fs::symlink_metadata(OsStr::from_bytes(&in_root)).is_ok()
}

/// Returns the path of the descriptor `fd` of `pid`, if the file has this inode number. Never calls
/// `stat` on the file, which can block on a network file system.
#[must_use]
pub fn path_of(pid: u32, fd: u32, ino: u64) -> Option<Vec<u8>> {
    let path = link(&format!("/proc/{pid}/fd/{fd}"))?;
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    // The inode number is shown since Linux 5.14.
    let mut lines = info.lines();
    let shown = lines.find_map(|line| line.strip_prefix("ino:"));
    let is_other = shown.is_some_and(|shown| shown.trim().parse() != Ok(ino));
    (!is_other).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn file_named_deleted_is_not_deleted() {
        use std::os::fd::AsRawFd as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x (deleted)");
        let file = File::create(&path).unwrap();
        let fd = file.as_raw_fd().try_into().unwrap();
        let own = std::process::id();
        let before = name(own, fd).unwrap();
        assert!(!before.deleted && before.path.ends_with(b"x (deleted)"));
        fs::remove_file(&path).unwrap();
        let after = name(own, fd).unwrap();
        assert!(after.deleted && after.path == before.path);
    }
}
