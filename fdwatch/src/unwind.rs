//! Where calls return to, from the bytes of a stack and the tables of the programs' files by which
//! they unwind it themselves (`.eh_frame`): through libraries that were built without frame pointers.

use std::{ffi::OsStr, fs::File, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};

use object::{Object as _, ObjectSection as _, ObjectSegment as _, ReadCache};
use rustc_hash::FxHashMap;

use crate::{
    detail::Memory,
    mappings::{Mapping, at},
};

/// Frames that are found, at most.
const MOST_FRAMES: usize = 64;

/// Files that are remembered.
const MOST_FILES: usize = 256;

/// Unwinds stacks, and remembers the files it has read until it is to [`forget`](Unwinder::forget)
/// them.
#[derive(Default)]
pub struct Unwinder {
    files: FxHashMap<Arc<[u8]>, Option<Arc<Elf>>>,
}

impl std::fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unwinder").finish_non_exhaustive()
    }
}

/// What unwinding takes of a file.
struct Elf {
    /// Offset in the file, address and size.
    segments: Vec<(u64, u64, u64)>,
    text: Option<std::ops::Range<u64>>,
    eh_frame: Option<(u64, Arc<[u8]>)>,
    eh_frame_hdr: Option<(u64, Arc<[u8]>)>,
}

impl Unwinder {
    /// The stack's addresses from the inside out, as far as the bytes of it go, and then by
    /// `frames`, which frame pointers led to.
    pub fn stack(&mut self, memory: &Memory, frames: &[u64], mappings: &[Mapping]) -> Vec<u64> {
        let mut stack = self.unwind(memory, mappings);
        if stack.len() < 2 {
            return frames.to_vec();
        }
        // The last is where both agree.
        let last = stack.last().copied();
        if let Some(i) = frames.iter().position(|&frame| Some(frame) == last) {
            stack.extend(&frames[i + 1..]);
        }
        stack.truncate(MOST_FRAMES);
        stack
    }

    /// Gives back what it remembers, which may be large.
    pub fn forget(&mut self) {
        self.files.clear();
    }

    #[cfg(target_arch = "x86_64")]
    fn unwind(&mut self, memory: &Memory, mappings: &[Mapping]) -> Vec<u64> {
        use framehop::{
            Unwinder as _,
            x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64},
        };
        let mut unwinder = UnwinderX86_64::<Arc<[u8]>>::new();
        let mut seen: Vec<u64> = Vec::new();
        // The later first: what it covers is not there any more.
        for mapping in mappings.iter().rev() {
            if let Some(elf) = self.file(&mapping.path)
                && let Some(bias) = elf.bias(mapping)
                && !seen.contains(&bias)
            {
                seen.push(bias);
                unwinder.add_module(elf.module(mapping, bias));
            }
        }
        let mut read = |address: u64| {
            let at = address.checked_sub(memory.sp).ok_or(())?;
            let at = usize::try_from(at).map_err(drop)?;
            let word = memory.bytes.get(at..).and_then(<[u8]>::first_chunk);
            word.map(|word| u64::from_ne_bytes(*word)).ok_or(())
        };
        let mut cache = CacheX86_64::<_>::new();
        let registers = UnwindRegsX86_64::new(memory.ip, memory.sp, memory.bp);
        let mut frames = unwinder.iter_frames(memory.ip, registers, &mut cache, &mut read);
        let mut stack = Vec::new();
        while stack.len() < MOST_FRAMES
            && let Ok(Some(frame)) = frames.next()
            && at(mappings, frame.address()).is_some()
        {
            stack.push(frame.address());
        }
        stack
    }

    /// Registers are told on x86 alone.
    #[cfg(not(target_arch = "x86_64"))]
    fn unwind(&mut self, _: &Memory, _: &[Mapping]) -> Vec<u64> {
        Vec::new()
    }

    fn file(&mut self, path: &Arc<[u8]>) -> Option<Arc<Elf>> {
        if self.files.len() >= MOST_FILES && !self.files.contains_key(path) {
            self.forget();
        }
        let file = self.files.entry(path.clone());
        file.or_insert_with(|| Elf::read(path).map(Arc::new))
            .clone()
    }
}

impl Elf {
    /// Whatever is wrong with it, there is then less to unwind by.
    fn read(path: &[u8]) -> Option<Self> {
        let path = Path::new(OsStr::from_bytes(path));
        if !path.metadata().ok()?.is_file() {
            return None;
        }
        let cache = ReadCache::new(File::open(path).ok()?);
        let file = object::File::parse(&cache).ok()?;
        let section = |name| {
            let section = file.section_by_name(name)?;
            let data = section.data().ok()?;
            Some((section.address(), data.into()))
        };
        let text = file.section_by_name(".text");
        Some(Self {
            segments: file
                .segments()
                .map(|segment| (segment.file_range().0, segment.address(), segment.size()))
                .collect(),
            text: text.map(|text| text.address()..text.address().saturating_add(text.size())),
            eh_frame: section(".eh_frame"),
            eh_frame_hdr: section(".eh_frame_hdr"),
        })
    }

    /// How far from the addresses in the file those in memory are.
    fn bias(&self, mapping: &Mapping) -> Option<u64> {
        let mut segments = self.segments.iter();
        // A mapping begins with the page that the segment begins in.
        let &(offset, address, _) = segments.find(|&&(offset, _, size)| {
            mapping.offset <= offset.saturating_add(size)
                && offset < mapping.offset.saturating_add(mapping.end - mapping.start)
                && offset / PAGE * PAGE <= mapping.offset
        })?;
        let start = address.wrapping_add(mapping.offset).wrapping_sub(offset);
        Some(mapping.start.wrapping_sub(start))
    }

    #[cfg(target_arch = "x86_64")]
    fn module(&self, mapping: &Mapping, bias: u64) -> framehop::Module<Arc<[u8]>> {
        let range = |section: &(u64, Arc<[u8]>)| section.0..section.0 + section.1.len() as u64;
        framehop::Module::new(
            String::new(),
            mapping.start..mapping.end,
            bias,
            framehop::ExplicitModuleSectionInfo {
                base_svma: 0,
                text_svma: self.text.clone(),
                eh_frame_svma: self.eh_frame.as_ref().map(range),
                eh_frame: self.eh_frame.as_ref().map(|(_, data)| data.clone()),
                eh_frame_hdr_svma: self.eh_frame_hdr.as_ref().map(range),
                eh_frame_hdr: self.eh_frame_hdr.as_ref().map(|(_, data)| data.clone()),
                ..Default::default()
            },
        )
    }
}

/// Of the machines that there are registers of.
const PAGE: u64 = 4096;
