//! The code that a process has mapped.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::PathBuf,
};

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

use super::files::Identity;
use fdwatch_core::mappings;

/// Mappings of code, at most: of a process that has more, the others are not known.
const MAX: usize = 4096;

/// A piece of code in a process's memory.
#[derive(Debug)]
pub(super) struct Mapping {
    start: u64,
    end: u64,
    /// Where it begins in its file.
    pub(super) offset: u64,
    /// The file, once it was asked for: none, if there is none.
    file: Option<Option<Identity>>,
    /// The file's path and inode, for that it may be looked for by that.
    path: Option<PathBuf>,
    ino: u64,
    /// It was told as it was mapped, and may be no more by now.
    is_recorded: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory(Vec<Mapping>);

impl Memory {
    /// That of the process; none, if it has ended.
    pub(super) fn of(tgid: u32) -> Self {
        let maps = i32::try_from(tgid)
            .ok()
            .and_then(|pid| Process::new(pid).ok()?.maps().ok());
        let maps = maps.into_iter().flatten();
        let mut code: Vec<_> = maps
            .filter(|map| map.perms.contains(MMPermissions::EXECUTE))
            .take(MAX)
            .map(Mapping::new)
            .collect();
        code.sort_unstable_by_key(|mapping| mapping.start);
        Self(code)
    }

    /// That of a program of which it is known what it had mapped: what was mapped later is in the place
    /// of what was there.
    pub(super) fn recorded(mappings: &[mappings::Mapping]) -> Self {
        let mut code: Vec<Mapping> = Vec::new();
        for mapping in mappings.iter().rev().take(MAX) {
            let is_covered = code
                .iter()
                .any(|later| mapping.start < later.end && later.start < mapping.end);
            if !is_covered {
                code.push(Mapping::recorded(mapping));
            }
        }
        code.sort_unstable_by_key(|mapping| mapping.start);
        Self(code)
    }

    /// Looks whether it is otherwise by now. Which files they are is asked again only of what is new.
    pub(super) fn look_again(&mut self, tgid: u32) {
        let mut now = Self::of(tgid);
        for mapping in &mut now.0 {
            let known = self.mapping_mut(mapping.start);
            if let Some(known) = known.filter(|known| known.is_same(mapping)) {
                mapping.file = known.file.take();
            }
        }
        *self = now;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The code that the address is in.
    pub(super) fn mapping(&self, address: u64) -> Option<&Mapping> {
        self.0.get(self.position(address)?)
    }

    /// The same.
    pub(super) fn mapping_mut(&mut self, address: u64) -> Option<&mut Mapping> {
        let position = self.position(address)?;
        self.0.get_mut(position)
    }

    fn position(&self, address: u64) -> Option<usize> {
        let after = self.0.partition_point(|mapping| mapping.start <= address);
        let position = after.checked_sub(1)?;
        (address < self.0[position].end).then_some(position)
    }
}

impl Mapping {
    fn new(map: MemoryMap) -> Self {
        let path = match map.pathname {
            MMapPath::Path(path) => Some(path),
            _ => None,
        };
        Self {
            start: map.address.0,
            end: map.address.1,
            offset: map.offset,
            // What is no file has no inode.
            file: (map.inode == 0).then_some(None),
            path,
            ino: map.inode,
            is_recorded: false,
        }
    }

    fn recorded(mapping: &mappings::Mapping) -> Self {
        let path = PathBuf::from(OsStr::from_bytes(&mapping.path));
        Self {
            start: mapping.start,
            end: mapping.end,
            offset: mapping.offset,
            file: (mapping.ino == 0).then_some(None),
            path: Some(path),
            ino: mapping.ino,
            is_recorded: true,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.start == other.start
            && self.end == other.end
            && self.offset == other.offset
            && self.ino == other.ino
            && self.path == other.path
    }

    /// Where it begins.
    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    /// Which file it is of.
    pub(super) fn file(&mut self, tgid: u32) -> Option<Identity> {
        if let Some(known) = self.file {
            return known;
        }
        let metadata = self.places(tgid).find_map(|place| {
            let metadata = std::fs::metadata(place).ok()?;
            (metadata.is_file() && metadata.ino() == self.ino).then_some(metadata)
        });
        let identity = metadata.as_ref().map(Identity::of);
        self.file = Some(identity);
        identity
    }

    /// Opens it. Only to be done with what is a regular file.
    pub(super) fn open(&self, tgid: u32, identity: Identity) -> io::Result<File> {
        for place in self.places(tgid) {
            if let Ok(file) = File::open(place)
                && Identity::of(&file.metadata()?) == identity
            {
                return Ok(file);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Where the kernel shows it: as what is mapped, for which it asks for more privileges, and by its
    /// path in the process's own file system.
    fn places(&self, tgid: u32) -> impl Iterator<Item = PathBuf> {
        let Self { start, end, .. } = self;
        let mapped = format!("/proc/{tgid}/map_files/{start:x}-{end:x}");
        let path = self
            .path
            .as_deref()
            .and_then(|path| path.strip_prefix("/").ok());
        let path = path.map(|path| PathBuf::from(format!("/proc/{tgid}/root")).join(path));
        // And as it is here, if the process may have ended.
        let own = self.path.clone().filter(|_| self.is_recorded);
        [PathBuf::from(mapped)].into_iter().chain(path).chain(own)
    }
}
