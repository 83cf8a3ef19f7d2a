//! Writes an initramfs: a cpio archive in the `newc` format.
//!
//! The format is documented in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive being written. Parent directories are added as needed.
#[derive(Debug)]
pub(super) struct Archive<W> {
    output: W,
    entries: u32,
    directories: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(output: W) -> Self {
        Self {
            output,
            entries: 0,
            directories: BTreeSet::new(),
        }
    }

    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        let path = relative(path);
        if path.as_os_str().is_empty() || !self.directories.insert(path.to_owned()) {
            return Ok(());
        }
        self.parent(path)?;
        self.entry(DIRECTORY, path.as_os_str().as_bytes(), b"")
    }

    /// Adds an executable file.
    pub(super) fn program(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let path = relative(path);
        self.parent(path)?;
        self.entry(PROGRAM, path.as_os_str().as_bytes(), content)
    }

    /// Writes the end of the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(0, b"TRAILER!!!", b"")?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn parent(&mut self, path: &Path) -> io::Result<()> {
        path.parent()
            .map_or(Ok(()), |parent| self.directory(parent))
    }

    fn entry(&mut self, mode: u32, name: &[u8], content: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::other("file too large for a cpio archive");
        let size = u32::try_from(content.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        self.entries += 1;
        // Inode, mode, user, group, links, time, size; major and minor of its device and of the device it
        // represents; size of the name; checksum, which `newc` does not have.
        let links = 1;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08x}")?;
        }
        header.extend_from_slice(name);
        header.push(0);
        self.padded(&header)?;
        self.padded(content)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.output.write_all(&[0; 3][..padding])
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(ino: u32, mode: u32, size: u32, name: &str) -> String {
        format!(
            "070701{ino:08x}{mode:08x}{zero}{zero}{one}{zero}{size:08x}{zero}{zero}{zero}{zero}\
             {:08x}{zero}{name}\0",
            name.len() + 1,
            zero = "00000000",
            one = "00000001"
        )
    }

    #[test]
    fn parts_are_aligned_to_four_bytes() {
        let mut archive = Archive::new(Vec::new());
        archive.program(Path::new("/init"), b"#!/bin/sh").unwrap();
        let bytes = archive.finish().unwrap();
        // 110 bytes of header and 5 of the name need 1 byte of padding; 9 bytes of content need 3.
        let expected = header(1, 0o100_755, 9, "init")
            + "\0#!/bin/sh\0\0\0"
            + &header(2, 0, 0, "TRAILER!!!")
            + "\0\0\0";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn directories_precede_files_and_are_unique() {
        let mut archive = Archive::new(Vec::new());
        archive.program(Path::new("/a/b/c"), b"").unwrap();
        archive.directory(Path::new("/a")).unwrap();
        archive.program(Path::new("/a/d"), b"").unwrap();
        let text = String::from_utf8(archive.finish().unwrap()).unwrap();
        let at = |header: String| text.find(&header).unwrap();
        let a = at(header(1, 0o040_755, 0, "a"));
        let b = at(header(2, 0o040_755, 0, "a/b"));
        let c = at(header(3, 0o100_755, 0, "a/b/c"));
        let d = at(header(4, 0o100_755, 0, "a/d"));
        assert!(a < b && b < c && c < d);
        assert_eq!(text.matches("070701").count(), 5);
    }
}
