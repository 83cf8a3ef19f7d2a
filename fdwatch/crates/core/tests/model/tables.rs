//! Descriptor tables of the simulated kernel.

use std::collections::{BTreeMap, BTreeSet};

use fdwatch_common::Payload;

/// `struct file`: its address and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its address.
    pub(crate) address: u64,
    /// Its inode, which is unique.
    pub(crate) ino: u64,
}

/// `files_struct`.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Open descriptors.
    pub(crate) open: BTreeMap<u32, File>,
    /// Close-on-exec flags; as in the kernel, closed descriptors may have one.
    pub(crate) cloexec: BTreeSet<u32>,
    /// Count of descriptors that fit without growing.
    pub(crate) capacity: u32,
}

impl Table {
    /// Creates an empty table.
    pub(crate) fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            cloexec: BTreeSet::new(),
            capacity: 64,
        }
    }

    /// Grows the table, as `alloc_fdtable` does.
    pub(crate) fn expand(&mut self, fd: u32) {
        if fd >= self.capacity {
            self.capacity = (fd / 128 + 1).next_power_of_two() * 128;
        }
    }

    /// Copies the table, as `dup_fd` does: the copy is no larger than its descriptors need.
    pub(crate) fn copy(&self, keep: impl Fn(u32) -> bool) -> Self {
        let mut copy = Self::new();
        for (&fd, &file) in self.open.iter().filter(|(fd, _)| keep(**fd)) {
            copy.expand(fd);
            copy.open.insert(fd, file);
        }
        let room = copy.capacity;
        let cloexec = self.cloexec.iter().copied();
        copy.cloexec = cloexec.filter(|&fd| keep(fd) && fd < room).collect();
        copy
    }

    /// Returns the lowest free number from `from` on.
    pub(crate) fn lowest_free(&self, from: u32) -> u32 {
        let mut all = from..;
        all.find(|fd| !self.open.contains_key(fd)).unwrap_or(from)
    }

    /// Returns the words of a bitmap of `numbers`, starting at `first`.
    pub(crate) fn words<const N: usize>(
        numbers: impl Iterator<Item = u32>,
        first: u32,
    ) -> [u64; N] {
        let mut words = [0; N];
        for fd in numbers {
            let at = fd.checked_sub(first).map(|at| at as usize);
            if let Some((word, at)) = at.and_then(|at| Some((words.get_mut(at / 64)?, at))) {
                *word |= 1 << (at % 64);
            }
        }
        words
    }

    /// Sets or clears the close-on-exec flag.
    pub(crate) fn mark(&mut self, fd: u32, cloexec: bool) {
        if cloexec {
            self.cloexec.insert(fd);
        } else {
            self.cloexec.remove(&fd);
        }
    }
}

/// Builds the description of a file in a record.
pub(crate) fn payload(file: File) -> Payload {
    Payload {
        file: file.address,
        ino: file.ino,
        dev: 0x80_0001,
        flags: 0,
        mode: 0o100_644,
        nlink: 1,
    }
}
