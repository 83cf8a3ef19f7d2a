//! The executable mappings of a process.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::PathBuf,
};

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

use super::identity::FileIdentity;
use fdwatch_core::mappings;

/// Maximum number of mappings of a process; further ones are ignored.
const MAX_MAPPINGS: usize = 4096;

/// An executable mapping.
#[derive(Debug)]
pub(super) struct CodeMapping {
    start: u64,
    end: u64,
    /// Offset of its start in the file.
    pub(super) offset: u64,
    /// The file, once looked up; none if there is no file.
    file: Option<Option<FileIdentity>>,
    /// The file's path and inode, to look it up.
    path: Option<PathBuf>,
    ino: u64,
    /// Whether it was recorded when it was mapped; the process may have exited since.
    is_recorded: bool,
}

/// The executable mappings of a process, by address.
#[derive(Debug, Default)]
pub(super) struct CodeMappings(Vec<CodeMapping>);

impl CodeMappings {
    /// Reads the mappings of a process; returns none if it has exited.
    pub(super) fn of(tgid: u32) -> Self {
        let maps = i32::try_from(tgid)
            .ok()
            .and_then(|pid| Process::new(pid).ok()?.maps().ok());
        let maps = maps.into_iter().flatten();
        let mut code: Vec<_> = maps
            .filter(|map| map.perms.contains(MMPermissions::EXECUTE))
            .take(MAX_MAPPINGS)
            .map(CodeMapping::new)
            .collect();
        code.sort_unstable_by_key(|mapping| mapping.start);
        Self(code)
    }

    /// Creates the mappings of a program from recorded ones. Later mappings replace earlier ones that overlap
    /// them.
    pub(super) fn recorded(mappings: &[mappings::Mapping]) -> Self {
        let mut code: Vec<CodeMapping> = Vec::new();
        for mapping in mappings.iter().rev().take(MAX_MAPPINGS) {
            let is_covered = code
                .iter()
                .any(|later| mapping.start < later.end && later.start < mapping.end);
            if !is_covered {
                code.push(CodeMapping::recorded(mapping));
            }
        }
        code.sort_unstable_by_key(|mapping| mapping.start);
        Self(code)
    }

    /// Reads the mappings again; files are looked up only for new mappings.
    pub(super) fn refresh(&mut self, tgid: u32) {
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

    /// Returns the mapping that contains an address.
    pub(super) fn mapping(&self, address: u64) -> Option<&CodeMapping> {
        self.0.get(self.position(address)?)
    }

    /// Returns the mapping that contains an address.
    pub(super) fn mapping_mut(&mut self, address: u64) -> Option<&mut CodeMapping> {
        let position = self.position(address)?;
        self.0.get_mut(position)
    }

    fn position(&self, address: u64) -> Option<usize> {
        let after = self.0.partition_point(|mapping| mapping.start <= address);
        let position = after.checked_sub(1)?;
        (address < self.0[position].end).then_some(position)
    }
}

impl CodeMapping {
    fn new(map: MemoryMap) -> Self {
        let path = match map.pathname {
            MMapPath::Path(path) => Some(path),
            _ => None,
        };
        Self {
            start: map.address.0,
            end: map.address.1,
            offset: map.offset,
            // Mappings without a file have inode 0.
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

    /// Returns its first address.
    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    /// Returns the identity of its file.
    pub(super) fn file(&mut self, tgid: u32) -> Option<FileIdentity> {
        if let Some(known) = self.file {
            return known;
        }
        let metadata = self.paths(tgid).find_map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            (metadata.is_file() && metadata.ino() == self.ino).then_some(metadata)
        });
        let identity = metadata.as_ref().map(FileIdentity::of);
        self.file = Some(identity);
        identity
    }

    /// Opens the file. It must be a regular file: opening others can have effects.
    pub(super) fn open(&self, tgid: u32, identity: FileIdentity) -> io::Result<File> {
        for path in self.paths(tgid) {
            if let Ok(file) = File::open(path)
                && FileIdentity::of(&file.metadata()?) == identity
            {
                return Ok(file);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Returns the paths to try for its file: `map_files`, which requires more privileges, and the path in
    /// the process's root directory.
    fn paths(&self, tgid: u32) -> impl Iterator<Item = PathBuf> {
        let Self { start, end, .. } = self;
        let mapped = format!("/proc/{tgid}/map_files/{start:x}-{end:x}");
        let path = self
            .path
            .as_deref()
            .and_then(|path| path.strip_prefix("/").ok());
        let path = path.map(|path| PathBuf::from(format!("/proc/{tgid}/root")).join(path));
        // The process may have exited: its root directory was probably the same as this one.
        let own = self.path.clone().filter(|_| self.is_recorded);
        [PathBuf::from(mapped)].into_iter().chain(path).chain(own)
    }
}
