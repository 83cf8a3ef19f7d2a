//! Finds the way out of stacks, from a thread's registers and a copy of its stack, by what compilers
//! leave in programs for that (`.eh_frame`): most are built without frame pointers. Where there is
//! nothing of that, as in code made while running, frame pointers are followed.
//!
//! Soon after the stack was told, for that the process may end or map something else. It does not know
//! what the stack is of.

mod file;
mod files;
mod memory;
mod sound;

use std::fmt;

use framehop::{FrameAddress, Unwinder as _};
use rustc_hash::FxHashMap;

use self::{file::Walker, files::Files, memory::Memory};
use fdwatch_core::{
    detail::{RawStack, Unwind},
    mappings::Mapping,
    model::Moment,
};

#[cfg(target_arch = "aarch64")]
mod machine {
    pub(super) use framehop::aarch64::{
        CacheAarch64 as Cache, UnwindRegsAarch64 as Registers, UnwinderAarch64 as Unwinder,
    };

    pub(super) fn registers(it: &fdwatch_common::Registers) -> Registers {
        Registers::new(it.lr, it.sp, it.bp)
    }
}

#[cfg(target_arch = "x86_64")]
mod machine {
    pub(super) use framehop::x86_64::{
        CacheX86_64 as Cache, UnwindRegsX86_64 as Registers, UnwinderX86_64 as Unwinder,
    };

    pub(super) fn registers(it: &fdwatch_common::Registers) -> Registers {
        Registers::new(it.ip, it.sp, it.bp)
    }
}

/// Frames of a stack, at most.
const MAX_FRAMES: usize = 128;

/// Processes whose memory is known, at most.
const MAX_PROCESSES: usize = 64;

/// What a process has mapped is looked at again after this long: nanoseconds.
const FRESH: u64 = 100_000_000;

/// And after this long, if there is an address that it has not.
const FRESH_UNKNOWN: u64 = 10_000_000;

/// Files that are read before all of them are forgotten. framehop tells what it knows of addresses
/// apart by a number of 16 bits, which two files are not to have at once.
const MAX_READ: u32 = 1 << 14;

/// A process of which there was no stack for this long is forgotten, and so are files: nanoseconds.
const IDLE: u64 = 30_000_000_000;

/// See the module.
pub struct Unwinder {
    processes: FxHashMap<u32, Known>,
    files: Files,
    /// What was found out about the addresses of all files.
    cache: machine::Cache,
    /// Knows of no file: it follows frame pointers.
    bare: Walker,
    frames: Vec<u64>,
}

/// What is known of a process.
struct Known {
    memory: Memory,
    looked: Moment,
    used: Moment,
}

impl Default for Unwinder {
    fn default() -> Self {
        Self {
            processes: FxHashMap::default(),
            files: Files::default(),
            cache: machine::Cache::new(),
            bare: Walker::new(),
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

/// How a way out of a stack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Where the thread began.
    Outermost,
    /// At an address that is none of the process's code.
    Unknown,
    /// Where what was told of the stack ends, or where nothing tells how to go on.
    Lost,
}

impl Unwind for Unwinder {
    fn frames(&mut self, stack: &RawStack, now: Moment) -> Vec<u64> {
        let tgid = stack.registers.header.tgid;
        if self.files.read() >= MAX_READ {
            *self = Self::default();
        }
        self.look(tgid, now, FRESH);
        let mut memory = self.take_memory(tgid);
        let mut end = self.walk(&mut memory, stack, now);
        if end == End::Unknown {
            self.give_memory(tgid, memory);
            let is_looked = self.look(tgid, now, FRESH_UNKNOWN);
            memory = self.take_memory(tgid);
            if is_looked {
                end = self.walk(&mut memory, stack, now);
            }
        }
        let frames = self.longest(&memory, stack, end);
        self.give_memory(tgid, memory);
        frames
    }

    fn forget(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
    }

    fn rest(&mut self, now: Moment) {
        self.processes
            .retain(|_, known| now.since(known.used) < IDLE);
        self.files.rest(now, IDLE);
    }
}

impl Unwinder {
    /// The frames of a stack in a program that had these mapped, and may have ended.
    pub fn frames_in(&mut self, stack: &RawStack, mappings: &[Mapping], now: Moment) -> Vec<u64> {
        if self.files.read() >= MAX_READ {
            *self = Self::default();
        }
        let mut memory = Memory::recorded(mappings);
        let end = self.walk(&mut memory, stack, now);
        self.longest(&memory, stack, end)
    }

    /// What was found, or where frame pointers lead if that is further.
    fn longest(&self, memory: &Memory, stack: &RawStack, end: End) -> Vec<u64> {
        let others = &stack.by_frame_pointers;
        if memory.is_empty() {
            // It has ended.
            return others.clone();
        }
        // Where they lead nowhere, what was read is no address of the program.
        let others = others
            .iter()
            .take_while(|&&address| memory.mapping(address.saturating_sub(1)).is_some());
        if end != End::Outermost && others.clone().count() > self.frames.len() {
            return others.copied().collect();
        }
        self.frames.clone()
    }

    fn take_memory(&mut self, tgid: u32) -> Memory {
        let known = self.processes.get_mut(&tgid);
        known.map_or_else(Memory::default, |known| std::mem::take(&mut known.memory))
    }

    fn give_memory(&mut self, tgid: u32, memory: Memory) {
        if let Some(known) = self.processes.get_mut(&tgid) {
            known.memory = memory;
        }
    }

    /// Looks at what the process has mapped, unless that is known for no longer than `fresh`. Whether
    /// it did.
    fn look(&mut self, tgid: u32, now: Moment, fresh: u64) -> bool {
        if let Some(known) = self.processes.get_mut(&tgid) {
            known.used = now;
            if now.since(known.looked) < fresh {
                return false;
            }
            known.looked = now;
            known.memory.look_again(tgid);
            return true;
        }
        if self.processes.len() >= MAX_PROCESSES {
            let oldest = self.processes.iter().min_by_key(|(_, known)| known.used);
            if let Some((&oldest, _)) = oldest {
                self.processes.remove(&oldest);
            }
        }
        let known = Known {
            memory: Memory::of(tgid),
            looked: now,
            used: now,
        };
        self.processes.insert(tgid, known);
        true
    }

    /// Goes from frame to frame: `frames` are then those that were found.
    fn walk(&mut self, memory: &mut Memory, stack: &RawStack, now: Moment) -> End {
        let registers = &stack.registers;
        self.frames.clear();
        self.frames.push(registers.ip);
        let mut state = machine::registers(registers);
        let mut read = |address| stack.word(address).ok_or(());
        let mut at = FrameAddress::from_instruction_pointer(registers.ip);
        loop {
            let Some(mapping) = memory.mapping_mut(at.address_for_lookup()) else {
                // What was read is no address of the program. The first one is what it is.
                if self.frames.len() > 1 {
                    self.frames.pop();
                }
                return End::Unknown;
            };
            let file = self.files.of(mapping, registers.header.tgid, now);
            let found = file.and_then(|file| Some((file.walker.as_ref()?, file.bias(mapping)?)));
            let (walker, bias) = found.unwrap_or((&self.bare, 0));
            let Some(in_file) = shifted(at, bias) else {
                return End::Lost;
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
                _ => return End::Lost,
            }
        }
    }
}

/// The address as it is in the file.
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
