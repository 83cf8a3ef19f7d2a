//! Call sites that opened descriptors. Programs exit before their leaks are reported, so their memory
//! mappings are followed from the start.

use fdwatch_core::{
    detail::{Detail, Frame},
    mappings::Mappings,
};
use fdwatch_host::{symbols::Symbols, unwind::Unwinder};
use fdwatch_probe::MemoryEvents;
use fdwatch_tracker::message::warn;
use fdwatch_tracker::now;

/// Resolves stacks of the command's processes, including those that have exited.
pub(super) struct CallSites {
    memory: Option<MemoryEvents>,
    pub(super) mappings: Mappings,
    unwinder: Unwinder,
    symbols: Symbols,
}

impl CallSites {
    /// Starts following the mappings of a process and its descendants.
    pub(super) fn new(pid: u32) -> Self {
        let memory = MemoryEvents::of(pid);
        if let Err(error) = &memory {
            warn(&format!(
                "cannot follow memory mappings ({error}): stacks of exited processes lack names"
            ));
        }
        Self {
            memory: memory.ok(),
            mappings: Mappings::default(),
            unwinder: Unwinder::default(),
            symbols: Symbols::default(),
        }
    }

    /// Applies the changes of mappings up to now.
    pub(super) fn update(&mut self) {
        let Self {
            memory, mappings, ..
        } = self;
        if let Some(memory) = memory {
            memory.take(|change| mappings.apply(change));
        }
    }

    /// Returns the resolved stack of a descriptor that process `pid` opened.
    pub(super) fn frames(
        &mut self,
        pid: u32,
        detail: &Detail,
        is_same_program: bool,
    ) -> Vec<Frame> {
        let mappings = detail.program.map(|program| self.mappings.of(program));
        let Some(mappings) = mappings.filter(|mappings| !mappings.is_empty()) else {
            return self.symbols.frames(pid, detail, is_same_program);
        };
        let stack = match &detail.raw {
            Some(raw) => self.unwinder.frames_in(raw, mappings, now()),
            None => detail.stack.to_vec(),
        };
        self.symbols.frames_in(&stack, mappings)
    }

    /// Returns how many changes of mappings were lost.
    pub(super) fn lost(&self) -> u64 {
        self.memory.as_ref().map_or(0, MemoryEvents::lost)
    }
}
