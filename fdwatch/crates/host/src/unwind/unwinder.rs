//! Walks stacks frame by frame, with cached mappings and files.

use std::fmt;

use framehop::{FrameAddress, Unwinder as _};
use rustc_hash::FxHashMap;

use super::{code_file::Walker, code_mappings::CodeMappings, file_cache::FileCache, machine};
use fdwatch_core::{
    detail::{RawStack, Unwind},
    mappings::Mapping,
    model::Moment,
};

/// Maximum number of frames of a stack.
const MAX_FRAMES: usize = 128;

/// Maximum number of processes with cached mappings.
const MAX_PROCESSES: usize = 64;

/// Maximum age of cached mappings before they are read again, in nanoseconds.
const MAX_AGE: u64 = 100_000_000;

/// Minimum age at which cached mappings are read again because of an address outside of them, in nanoseconds.
const MAX_AGE_UNMAPPED: u64 = 10_000_000;

/// The number of files read after which all state is reset. framehop's cache identifies files by a
/// number of 16 bits, which no two files may share.
const MAX_FILES_READ: u32 = 1 << 14;

/// Time after which an unused process or file is evicted, in nanoseconds.
const IDLE: u64 = 30_000_000_000;

/// An unwinder with caches of mappings, files and addresses.
pub struct Unwinder {
    processes: FxHashMap<u32, CachedProcess>,
    files: FileCache,
    /// framehop's cache of the rules for addresses of all files.
    cache: machine::Cache,
    /// Has no tables, and so follows frame pointers.
    frame_pointers: Walker,
    frames: Vec<u64>,
}

/// The cached mappings of a process.
struct CachedProcess {
    mappings: CodeMappings,
    read: Moment,
    used: Moment,
}

impl Default for Unwinder {
    fn default() -> Self {
        Self {
            processes: FxHashMap::default(),
            files: FileCache::default(),
            cache: machine::Cache::new(),
            frame_pointers: Walker::new(),
            frames: Vec::new(),
        }
    }
}

impl fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unwinder")
            .field("processes", &self.processes.len())
            .finish_non_exhaustive()
    }
}

/// Place where the walk of a stack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// At the outermost frame of the thread.
    Outermost,
    /// At an address outside of all mappings.
    Unmapped,
    /// At the end of the copied stack, or without a rule for the next frame.
    Truncated,
}

impl Unwind for Unwinder {
    fn frames(&mut self, stack: &RawStack, now: Moment) -> Vec<u64> {
        let tgid = stack.registers.header.tgid;
        if self.files.read() >= MAX_FILES_READ {
            *self = Self::default();
        }
        self.refresh(tgid, now, MAX_AGE);
        let mut mappings = self.take_mappings(tgid);
        let mut end = self.walk(&mut mappings, stack, now);
        if end == End::Unmapped {
            self.put_mappings(tgid, mappings);
            let is_read = self.refresh(tgid, now, MAX_AGE_UNMAPPED);
            mappings = self.take_mappings(tgid);
            if is_read {
                end = self.walk(&mut mappings, stack, now);
            }
        }
        let frames = self.longest(&mappings, stack, end);
        self.put_mappings(tgid, mappings);
        frames
    }

    fn forget(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
    }

    fn free_caches(&mut self, now: Moment) {
        self.processes
            .retain(|_, process| now.since(process.used) < IDLE);
        self.files.evict_idle(now, IDLE);
    }
}

impl Unwinder {
    /// Returns the frames of a stack in a program that had these mappings and may have exited.
    pub fn frames_in(&mut self, stack: &RawStack, mappings: &[Mapping], now: Moment) -> Vec<u64> {
        if self.files.read() >= MAX_FILES_READ {
            *self = Self::default();
        }
        let mut mappings = CodeMappings::recorded(mappings);
        let end = self.walk(&mut mappings, stack, now);
        self.longest(&mappings, stack, end)
    }

    /// Returns the frames of the walk, or those by frame pointers if there are more.
    fn longest(&self, mappings: &CodeMappings, stack: &RawStack, end: End) -> Vec<u64> {
        let others = &stack.by_frame_pointers;
        if mappings.is_empty() {
            // The process has exited.
            return others.clone();
        }
        // Code without frame pointers gives addresses outside of the mappings.
        let others = others
            .iter()
            .take_while(|&&address| mappings.mapping(address.saturating_sub(1)).is_some());
        if end != End::Outermost && others.clone().count() > self.frames.len() {
            return others.copied().collect();
        }
        self.frames.clone()
    }

    fn take_mappings(&mut self, tgid: u32) -> CodeMappings {
        let process = self.processes.get_mut(&tgid);
        process.map_or_else(CodeMappings::default, |process| {
            std::mem::take(&mut process.mappings)
        })
    }

    fn put_mappings(&mut self, tgid: u32, mappings: CodeMappings) {
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.mappings = mappings;
        }
    }

    /// Reads the mappings of the process if the cached ones are at least `max_age` nanoseconds old; returns
    /// whether it did.
    fn refresh(&mut self, tgid: u32, now: Moment, max_age: u64) -> bool {
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.used = now;
            if now.since(process.read) < max_age {
                return false;
            }
            process.read = now;
            process.mappings.refresh(tgid);
            return true;
        }
        if self.processes.len() >= MAX_PROCESSES {
            let oldest = self
                .processes
                .iter()
                .min_by_key(|(_, process)| process.used);
            if let Some((&oldest, _)) = oldest {
                self.processes.remove(&oldest);
            }
        }
        let process = CachedProcess {
            mappings: CodeMappings::of(tgid),
            read: now,
            used: now,
        };
        self.processes.insert(tgid, process);
        true
    }

    /// Walks the stack and collects its frames in `self.frames`.
    fn walk(&mut self, mappings: &mut CodeMappings, stack: &RawStack, now: Moment) -> End {
        let registers = &stack.registers;
        self.frames.clear();
        self.frames.push(registers.ip);
        let mut state = machine::registers(registers);
        let mut read = |address| stack.word(address).ok_or(());
        let mut at = FrameAddress::from_instruction_pointer(registers.ip);
        loop {
            let Some(mapping) = mappings.mapping_mut(at.address_for_lookup()) else {
                // An unmapped return address is invalid. The first address comes from a register, and remains.
                if self.frames.len() > 1 {
                    self.frames.pop();
                }
                return End::Unmapped;
            };
            let file = self.files.of(mapping, registers.header.tgid, now);
            let found = file.and_then(|file| Some((file.walker.as_ref()?, file.bias(mapping)?)));
            let (walker, bias) = found.unwrap_or((&self.frame_pointers, 0));
            let Some(in_file) = shifted(at, bias) else {
                return End::Truncated;
            };
            let next = walker.unwind_frame(in_file, &mut state, &mut self.cache, &mut read);
            let next = match next {
                Ok(Some(next)) => FrameAddress::from_return_address(next),
                Ok(None) => return End::Outermost,
                Err(_) => None,
            };
            match next {
                Some(next) if self.frames.len() < MAX_FRAMES => {
                    self.frames.push(next.address());
                    at = next;
                }
                _ => return End::Truncated,
            }
        }
    }
}

/// Converts an address to the one in the file.
fn shifted(at: FrameAddress, bias: u64) -> Option<FrameAddress> {
    let address = at.address().wrapping_sub(bias);
    if at.is_return_address() {
        FrameAddress::from_return_address(address)
    } else {
        Some(FrameAddress::from_instruction_pointer(address))
    }
}

#[cfg(test)]
mod tests;
