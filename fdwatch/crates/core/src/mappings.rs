//! Executable mappings of a command's programs, stored to resolve addresses after a process has
//! ended.
//!
//! No I/O: mappings are passed in, in order.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::model::Program;

/// An executable mapping of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
    /// The file offset of its first byte.
    pub offset: u64,
    /// The file's inode; 0 if unknown.
    pub ino: u64,
    /// The file's path, or the kernel's name for the mapping.
    pub path: Arc<[u8]>,
}

/// A change of a process's mappings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A process was created, with a copy of its parent's mappings.
    Forked {
        /// The child.
        tgid: u32,
        /// Its parent.
        parent: u32,
    },
    /// The process ran another program; all earlier mappings are gone.
    Execed {
        /// The process.
        tgid: u32,
    },
    /// A file was mapped.
    Mapped {
        /// The process.
        tgid: u32,
        /// The new mapping.
        mapping: Mapping,
    },
}

/// Mappings by program, in order. A later mapping overrides an earlier one at the same address.
#[derive(Debug, Default)]
pub struct Mappings {
    /// By process: the mappings of each program it has run, in order.
    of: FxHashMap<u32, Vec<Arc<Vec<Mapping>>>>,
}

impl Mappings {
    /// Applies a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Forked { tgid, parent } => {
                let current = self.of.get(&parent).and_then(|programs| programs.last());
                let current = current.cloned().unwrap_or_default();
                self.of.insert(tgid, vec![current]);
            }
            Change::Execed { tgid } => {
                let programs = self.of.entry(tgid).or_insert_with(|| vec![Arc::default()]);
                programs.push(Arc::default());
            }
            Change::Mapped { tgid, mapping } => {
                let programs = self.of.entry(tgid).or_insert_with(|| vec![Arc::default()]);
                if let Some(current) = programs.last_mut() {
                    Arc::make_mut(current).push(mapping);
                }
            }
        }
    }

    /// Returns the program's mappings.
    #[must_use]
    pub fn of(&self, program: Program) -> &[Mapping] {
        let programs = self.of.get(&program.tgid);
        let program = programs.and_then(|programs| programs.get(program.execs as usize));
        program.map_or(&[], |program| program)
    }

    /// Returns the program's own file, which is mapped first.
    #[must_use]
    pub fn file_of(&self, program: Program) -> Option<&[u8]> {
        self.of(program).first().map(|mapping| &*mapping.path)
    }
}

/// Returns the mapping that contains the address.
#[must_use]
pub fn at(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    let mut latest_first = mappings.iter().rev();
    latest_first.find(|mapping| (mapping.start..mapping.end).contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(tgid: u32, start: u64, path: &str) -> Change {
        let mapping = Mapping {
            start,
            end: start + 0x1000,
            offset: 0,
            ino: 0,
            path: path.as_bytes().into(),
        };
        Change::Mapped { tgid, mapping }
    }

    fn path(mappings: &Mappings, tgid: u32, execs: u32, address: u64) -> Option<&[u8]> {
        let mappings = mappings.of(Program { tgid, execs });
        at(mappings, address).map(|mapping| &*mapping.path)
    }

    #[test]
    fn programs_keep_mappings_after_exec() {
        let mut mappings = Mappings::default();
        mappings.apply(Change::Execed { tgid: 1 });
        mappings.apply(mapped(1, 0x1000, "sh"));
        mappings.apply(mapped(1, 0x8000, "libc"));
        mappings.apply(Change::Forked { tgid: 2, parent: 1 });
        mappings.apply(mapped(2, 0x2000, "nss"));
        mappings.apply(Change::Execed { tgid: 2 });
        mappings.apply(mapped(2, 0x1000, "cat"));
        assert_eq!(path(&mappings, 1, 1, 0x1fff), Some(&b"sh"[..]));
        assert_eq!(path(&mappings, 1, 1, 0x2000), None);
        assert_eq!(path(&mappings, 2, 0, 0x8000), Some(&b"libc"[..]));
        assert_eq!(path(&mappings, 2, 0, 0x2000), Some(&b"nss"[..]));
        assert_eq!(path(&mappings, 2, 1, 0x1000), Some(&b"cat"[..]));
        assert_eq!(path(&mappings, 2, 1, 0x8000), None);
        assert_eq!(
            mappings.file_of(Program { tgid: 1, execs: 1 }),
            Some(&b"sh"[..])
        );
        assert_eq!(path(&mappings, 3, 0, 0x1000), None);
    }

    #[test]
    fn latest_mapping_wins() {
        let mut mappings = Mappings::default();
        mappings.apply(mapped(1, 0x1000, "old"));
        mappings.apply(mapped(1, 0x1000, "new"));
        assert_eq!(path(&mappings, 1, 0, 0x1000), Some(&b"new"[..]));
    }
}
