//! The unwind tables and code segments of an ELF file. Files are untrusted.

use std::{fs::File, ops::Range};

use framehop::{ExplicitModuleSectionInfo, Module, Unwinder as _};
use object::{
    Object as _, ObjectSection as _, ObjectSegment as _, ReadCache, ReadRef, SegmentFlags, elf,
    read::elf::ElfFile64,
};

use super::{code_mappings::CodeMapping, machine, sound::is_sound};

/// Maximum number of bytes read at once, about the size of the `.eh_frame` of the largest programs. Larger
/// sections are not used.
const MAX_READ_SIZE: u64 = 24 << 20;

/// Unwinds single frames with the tables of one file.
pub(super) type Walker = machine::Unwinder<Vec<u8>>;

/// A file that code is mapped from; without a walker and segments if it is not a usable ELF file.
#[derive(Default)]
pub(super) struct CodeFile {
    /// Unwinds by addresses in the file; `None` if the file has no valid unwind tables.
    pub(super) walker: Option<Walker>,
    segments: Vec<Segment>,
    /// Memory used, in bytes.
    pub(super) bytes: usize,
}

/// The bytes of an executable segment in the file, and the address of the first.
struct Segment {
    bytes: Range<u64>,
    address: u64,
}

impl CodeFile {
    /// Reads a file; returns `None` if it is not a little-endian 64-bit ELF file.
    pub(super) fn read(file: File) -> Option<Self> {
        let cache = ReadCache::new(file);
        let elf = ElfFile64::<object::Endianness, _>::parse(Bounded(&cache)).ok()?;
        if !elf.is_little_endian() {
            return None;
        }
        let is_code =
            |flags| matches!(flags, SegmentFlags::Elf { p_flags, .. } if p_flags & elf::PF_X != 0);
        let segments: Vec<_> = elf
            .segments()
            .filter(|segment| is_code(segment.flags()))
            .map(|segment| {
                let (begin, len) = segment.file_range();
                Segment {
                    bytes: begin..begin.saturating_add(len),
                    address: segment.address(),
                }
            })
            .collect();
        let eh_frame = elf.section_by_name(".eh_frame").and_then(|section| {
            let bytes = section.data().ok()?.to_vec();
            let address = section.address();
            Some((address..address.checked_add(section.size())?, bytes))
        });
        let address_of = |name| {
            let section = elf.section_by_name(name)?;
            let address = section.address();
            Some(address..address.saturating_add(section.size()))
        };
        let (text, got) = (address_of(".text"), address_of(".got"));
        let mut code = Self {
            walker: None,
            segments,
            bytes: 0,
        };
        if let Some((at, bytes)) = eh_frame
            && is_sound(&bytes, at.start, text.as_ref(), got.as_ref())
        {
            // framehop's index adds about half of it.
            code.bytes = bytes.len() / 2 * 3;
            code.walker = code.walker(at, bytes, text, got);
        }
        Some(code)
    }

    fn walker(
        &self,
        at: Range<u64>,
        eh_frame: Vec<u8>,
        text: Option<Range<u64>>,
        got: Option<Range<u64>>,
    ) -> Option<Walker> {
        let first = self.segments.iter().map(|it| it.address).min()?;
        let last = self.segments.iter();
        let last = last.map(|it| it.address.saturating_add(it.bytes.end - it.bytes.start));
        let module = Module::new(
            String::new(),
            first..last.max()?,
            first,
            // Not `.eh_frame_hdr`, which can refer to places that were not checked.
            ExplicitModuleSectionInfo {
                base_svma: first,
                text_svma: text,
                got_svma: got,
                eh_frame_svma: Some(at),
                eh_frame: Some(eh_frame),
                ..ExplicitModuleSectionInfo::default()
            },
        );
        let mut walker = Walker::new();
        walker.add_module(module);
        Some(walker)
    }

    /// Returns the difference between addresses in the mapping and in the file.
    pub(super) fn bias(&self, mapping: &CodeMapping) -> Option<u64> {
        /// Mappings begin at a multiple of it.
        const PAGE: u64 = 4096;
        let offset = mapping.offset;
        let segment = self.segments.iter().find(|segment| {
            offset >= segment.bytes.start / PAGE * PAGE && offset < segment.bytes.end
        })?;
        let address = segment
            .address
            .wrapping_add(offset.wrapping_sub(segment.bytes.start));
        Some(mapping.start().wrapping_sub(address))
    }
}

/// File that rejects large reads, whatever sizes its headers claim.
#[derive(Clone, Copy)]
struct Bounded<'a>(&'a ReadCache<File>);

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size > MAX_READ_SIZE {
            return Err(());
        }
        self.0.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let end = range.end.min(range.start.saturating_add(MAX_READ_SIZE));
        self.0.read_bytes_at_until(range.start..end, delimiter)
    }
}
