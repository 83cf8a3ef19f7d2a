//! What stands at the addresses of a stack, asked of the process while it runs: symbols of ELF and
//! DWARF, of the vDSO, and of perf maps, which just-in-time compilers write. How a stack was found,
//! and what it is of, is not known here.

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

/// Finds symbols, and remembers the files it has read until it is to [`forget`](Symbols::forget) them.
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
    /// The stack's frames. Their places are found if the process runs the program still in which the
    /// stack was taken.
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
        // All but the first are where calls return to: what called is before that.
        let mut addresses = detail.stack.to_vec();
        for address in &mut addresses[1..] {
            *address = address.saturating_sub(1);
        }
        let source = Source::Process(Process::new(Pid::from(pid)));
        let Ok(found) = symbolizer.symbolize(&source, Input::AbsAddr(&addresses)) else {
            return bare();
        };
        // Where frame pointers lead nowhere, as through a C library without them, what was read is no
        // address of the program.
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

    /// The frames of a stack in a program that had `mappings`, and may have ended. Files that have
    /// been replaced since are not told from what they were.
    pub fn frames_in(&mut self, stack: &[u64], mappings: &[Mapping]) -> Vec<Frame> {
        let symbolizer = self.symbolizer.get_or_insert_with(Symbolizer::new);
        let mut frames = Vec::new();
        for (i, &address) in stack.iter().enumerate() {
            // All but the first are where calls return to: what called is before that.
            let called = address.saturating_sub(u64::from(i > 0));
            let Some(mapping) = at(mappings, called) else {
                break;
            };
            let path = Path::new(OsStr::from_bytes(&mapping.path));
            let offset = called - mapping.start + mapping.offset;
            let source = Source::Elf(Elf::new(path));
            let found = symbolizer.symbolize_single(&source, Input::FileOffset(offset));
            let place = found.ok().as_ref().and_then(place);
            // Where in a file it is means something still, other than where it was in memory.
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

    /// Gives back what it remembers, which may be large.
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
