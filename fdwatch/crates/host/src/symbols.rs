//! Symbolizes the addresses of stacks: with ELF symbols and DWARF, the vDSO's symbols, and perf maps,
//! which just-in-time compilers write.

use std::os::unix::ffi::OsStrExt as _;

use std::{ffi::OsStr, path::Path};

use blazesym::{
    Pid,
    symbolize::{
        Input, Reason, Symbolized, Symbolizer,
        source::{Elf, Process, Source},
    },
};

use fdwatch_core::{
    detail::{Detail, Frame, Place},
    mappings::{Mapping, at},
};

/// A symbolizer that caches the files it has read until [`forget`](Symbols::forget).
#[derive(Default)]
pub struct Symbols {
    symbolizer: Option<Symbolizer>,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols").finish_non_exhaustive()
    }
}

impl Symbols {
    /// Symbolizes the stack of a running process. Without `is_same_program`, the process has since
    /// executed another program, and the frames have no places.
    pub fn frames(&mut self, pid: u32, detail: &Detail, is_same_program: bool) -> Vec<Frame> {
        let bare = || {
            let frames = detail.stack.iter();
            frames
                .map(|&address| Frame {
                    address,
                    place: None,
                })
                .collect()
        };
        if detail.stack.is_empty() || !is_same_program {
            return bare();
        }
        let symbolizer = self.symbolizer.get_or_insert_with(Symbolizer::new);
        // All addresses except the first are return addresses; the call is before them.
        let mut addresses = detail.stack.to_vec();
        for address in &mut addresses[1..] {
            *address = address.saturating_sub(1);
        }
        let source = Source::Process(Process::new(Pid::from(pid)));
        let Ok(found) = symbolizer.symbolize(&source, Input::AbsAddr(&addresses)) else {
            return bare();
        };
        // Code without frame pointers, often the C library, ends a stack with addresses that are not
        // mapped.
        let frames = detail.stack.iter().zip(found);
        let frames =
            frames.take_while(|(_, found)| !matches!(found, Symbolized::Unknown(Reason::Unmapped)));
        frames
            .map(|(&address, found)| Frame {
                address,
                place: place(&found),
            })
            .collect()
    }

    /// Symbolizes a stack of a program that had these mappings and may have exited. A file that was
    /// replaced since gives wrong symbols.
    pub fn frames_in(&mut self, stack: &[u64], mappings: &[Mapping]) -> Vec<Frame> {
        let symbolizer = self.symbolizer.get_or_insert_with(Symbolizer::new);
        let mut frames = Vec::new();
        for (i, &address) in stack.iter().enumerate() {
            // All addresses except the first are return addresses; the call is before them.
            let called = address.saturating_sub(u64::from(i > 0));
            let Some(mapping) = at(mappings, called) else {
                break;
            };
            let path = Path::new(OsStr::from_bytes(&mapping.path));
            let offset = called - mapping.start + mapping.offset;
            let source = Source::Elf(Elf::new(path));
            let found = symbolizer.symbolize_single(&source, Input::FileOffset(offset));
            let place = found.ok().as_ref().and_then(place);
            // The code is identified by its offset in the file: the address in memory is no longer valid.
            let place = place.unwrap_or_else(|| Place {
                symbol: fdwatch_core::detail::UNNAMED.to_owned(),
                offset,
                module: None,
                file: None,
                line: None,
            });
            frames.push(Frame {
                address,
                place: Some(Place {
                    module: Some(mapping.path.to_vec()),
                    ..place
                }),
            });
        }
        frames
    }

    /// Drops the cached files, which can be large.
    pub fn forget(&mut self) {
        self.symbolizer = None;
    }
}

fn place(found: &Symbolized<'_>) -> Option<Place> {
    let symbol = found.as_sym()?;
    let code = symbol.code_info.as_ref();
    Some(Place {
        symbol: symbol.name.to_string(),
        offset: symbol.offset as u64,
        module: symbol
            .module
            .as_ref()
            .map(|module| module.as_bytes().to_vec()),
        file: code.map(|code| code.to_path().as_os_str().as_bytes().to_vec()),
        line: code.and_then(|code| code.line),
    })
}
