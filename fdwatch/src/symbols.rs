//! What stands at the addresses of a stack, asked of the process while it runs: symbols of ELF and
//! DWARF, of the vDSO, and of perf maps, which just-in-time compilers write.

use std::os::unix::ffi::OsStrExt as _;

use blazesym::{
    Pid,
    symbolize::{
        Input, Reason, Symbolized, Symbolizer,
        source::{Process, Source},
    },
};

use crate::detail::{Detail, Frame, Place};

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
