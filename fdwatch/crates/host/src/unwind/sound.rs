//! Whether what a file says of its frames can be followed without going on for ever. A file may be
//! anyone's, and its expressions are programs: with a jump back they need not come to an end.

use std::ops::Range;

use gimli::{
    BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CieOrFde, EhFrame, Encoding,
    EndianSlice, Error, LittleEndian, Operation, Reader as _, UnwindExpression, UnwindSection as _,
};

/// Instructions of a function's entry, at most.
const MAX_INSTRUCTIONS: usize = 1 << 16;

/// Bytes of an expression, at most: those of compilers have some ten.
const MAX_BYTES: usize = 256;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Whether all of `.eh_frame`, which is at that address, can be followed.
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

fn check(section: &EhFrame<Slice<'_>>, bases: &BaseAddresses) -> Result<bool, Error> {
    let mut entries = section.entries(bases);
    let mut last_cie = None;
    while let Some(entry) = entries.next()? {
        let CieOrFde::Fde(entry) = entry else {
            // Looked at with those it is for.
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
            && !only_goes_on(&expression, section, encoding)?
        {
            return Ok(false);
        }
    }
    Ok(false)
}

fn only_goes_on(
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
