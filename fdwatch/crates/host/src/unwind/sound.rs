//! Checks that evaluating a file's unwind tables always terminates. Files are untrusted, and DWARF
//! expressions are programs: with backward jumps, they can loop.

use std::ops::Range;

use gimli::{
    BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CieOrFde, EhFrame, Encoding,
    EndianSlice, Error, LittleEndian, Operation, Reader as _, UnwindExpression, UnwindSection as _,
};

/// Maximum number of instructions of an entry.
const MAX_INSTRUCTIONS: usize = 1 << 16;

/// Maximum length of an expression, in bytes. Those of compilers have about ten bytes.
const MAX_BYTES: usize = 256;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Returns whether evaluating any part of `.eh_frame`, which is at `address`, terminates.
pub(super) fn is_sound(
    bytes: &[u8],
    address: u64,
    text: Option<&Range<u64>>,
    got: Option<&Range<u64>>,
) -> bool {
    let bases = BaseAddresses::default()
        .set_eh_frame(address)
        .set_text(text.map_or(0, |it| it.start))
        .set_got(got.map_or(0, |it| it.start));
    let mut section = EhFrame::new(bytes, LittleEndian);
    section.set_address_size(8);
    check(&section, &bases).is_ok_and(|is_sound| is_sound)
}

/// Checks all entries of a section.
fn check(section: &EhFrame<Slice<'_>>, bases: &BaseAddresses) -> Result<bool, Error> {
    let mut entries = section.entries(bases);
    let mut last_cie = None;
    while let Some(entry) = entries.next()? {
        let CieOrFde::Fde(entry) = entry else {
            // Common entries are checked with the entries that use them.
            continue;
        };
        let entry = entry.parse(EhFrame::cie_from_offset)?;
        let cie = entry.cie();
        if last_cie != Some(cie.offset()) {
            last_cie = Some(cie.offset());
            if !check_all(cie.instructions(section, bases), section, cie.encoding())? {
                return Ok(false);
            }
        }
        if !check_all(entry.instructions(section, bases), section, cie.encoding())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks the instructions of an entry.
fn check_all<'a>(
    mut instructions: CallFrameInstructionIter<'a, Slice<'a>>,
    section: &EhFrame<Slice<'a>>,
    encoding: Encoding,
) -> Result<bool, Error> {
    for _ in 0..MAX_INSTRUCTIONS {
        let Some(instruction) = instructions.next()? else {
            return Ok(true);
        };
        if let CallFrameInstruction::DefCfaExpression { expression }
        | CallFrameInstruction::Expression { expression, .. }
        | CallFrameInstruction::ValExpression { expression, .. } = instruction
            && !has_no_backward_jump(&expression, section, encoding)?
        {
            return Ok(false);
        }
    }
    Ok(false)
}

fn has_no_backward_jump(
    expression: &UnwindExpression<usize>,
    section: &EhFrame<Slice<'_>>,
    encoding: Encoding,
) -> Result<bool, Error> {
    let expression = expression.get(section)?;
    if expression.0.len() > MAX_BYTES {
        return Ok(false);
    }
    let mut operations = expression.operations(encoding);
    while let Some(operation) = operations.next()? {
        if let Operation::Skip { target } | Operation::Bra { target } = operation
            && target < 0
        {
            return Ok(false);
        }
    }
    Ok(true)
}
