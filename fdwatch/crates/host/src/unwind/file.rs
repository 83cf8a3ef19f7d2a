//! What is read of a file that code is mapped from: an ELF file, or none. It may be anyone's, and hold
//! anything.

use std::{fs::File, ops::Range};

use framehop::{ExplicitModuleSectionInfo, Module, Unwinder as _};
use object::{
    Object as _, ObjectSection as _, ObjectSegment as _, ReadCache, ReadRef, SegmentFlags, elf,
    read::elf::ElfFile64,
};

use super::{machine, memory::Mapping, sound::is_sound};

/// Bytes that are read of a file in one piece, at most: `.eh_frame` of the largest programs there are
/// has about as many. What is larger is not made use of.
const MAX_AT_ONCE: u64 = 24 << 20;

/// Goes from a frame to the next.
pub(super) type Walker = machine::Unwinder<Vec<u8>>;

/// See the module.
#[derive(Default)]
pub(super) struct CodeFile {
    /// Addresses in it are as the file has them.
    pub(super) walker: Option<Walker>,
    segments: Vec<Segment>,
    /// What it takes.
    pub(super) bytes: usize,
}

/// Which bytes of the file are code, and the address of the first.
struct Segment {
    bytes: Range<u64>,
    address: u64,
}

impl CodeFile {
    /// Reads it; none, if it is no ELF file of this machine.
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
            // And about half as much for the index.
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
            // Not `.eh_frame_hdr`, which may lead to where nothing was looked at.
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

    /// How much higher addresses of the mapping are than they are in the file.
    pub(super) fn bias(&self, mapping: &Mapping) -> Option<u64> {
        /// A mapping begins where a page does.
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

/// A file of which no more is read than there is use for, whatever it says of itself.
#[derive(Clone, Copy)]
struct Bounded<'a>(&'a ReadCache<File>);

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size > MAX_AT_ONCE {
            return Err(());
        }
        self.0.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let end = range.end.min(range.start.saturating_add(MAX_AT_ONCE));
        self.0.read_bytes_at_until(range.start..end, delimiter)
    }
}
