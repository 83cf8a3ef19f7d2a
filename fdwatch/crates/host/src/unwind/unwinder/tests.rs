//! Hostile or meaningless stacks and files: unwinding always terminates.

use std::{fs::File, io::Write as _};

use fdwatch_common::{Header, Registers};
use proptest::prelude::*;

use super::{
    super::{code_file::CodeFile, sound::is_sound},
    *,
};

/// Returns a stack of this process that begins with these words.
fn stack(ip: u64, sp: u64, bp: u64, words: &[u64]) -> RawStack {
    let header = Header {
        tgid: std::process::id(),
        ..Header::default()
    };
    let registers = Registers {
        header,
        ip,
        sp,
        bp,
        lr: ip,
    };
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    RawStack::of(registers, vec![1], bytes)
}

/// Returns `.eh_frame` with one entry, for all addresses, whose frame address is an expression.
fn eh_frame(expression: &[u8]) -> Vec<u8> {
    // Version 1, no augmentation, factors 1 and -8, and the return address in register 16; it is 8
    // bytes before the frame.
    let mut cie = vec![0, 0, 0, 0, 1, 0, 1, 0x78, 16, 0x80 | 16, 1, 0];
    cie.resize(cie.len().next_multiple_of(4), 0);
    let mut section = entry(&cie);
    let mut fde = (section.len() as u32 + 4).to_le_bytes().to_vec();
    fde.extend(0u64.to_le_bytes());
    fde.extend(u64::from(u32::MAX).to_le_bytes());
    // DW_CFA_def_cfa_expression.
    fde.extend([0x0f, expression.len() as u8]);
    fde.extend(expression);
    fde.resize(fde.len().next_multiple_of(4), 0);
    section.extend(entry(&fde));
    section.extend([0; 4]);
    section
}

fn entry(content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u32).to_le_bytes();
    len.into_iter().chain(content.iter().copied()).collect()
}

/// `DW_OP_breg7 8`, the stack pointer; and `DW_OP_skip`.
const UP: [u8; 2] = [0x77, 8];

#[test]
fn expressions_may_only_jump_forward() {
    let sound = |expression: &[u8]| is_sound(&eh_frame(expression), 0, None, None);
    assert!(sound(&UP));
    assert!(sound(&[0x77, 8, 0x2f, 1, 0, 0x96]));
    assert!(!sound(&[0x77, 8, 0x2f, 0xfd, 0xff]));
    assert!(!sound(&[0x77, 8, 0x28, 0xfd, 0xff]));
    assert!(
        !sound(&[0x96; 127].repeat(3)),
        "longer than its length field"
    );
}

#[test]
fn damaged_files_have_no_walker() {
    let directory = tempfile::tempdir().unwrap();
    let own = std::fs::read("/proc/self/exe").unwrap();
    let read = |bytes: &[u8]| {
        let path = directory.path().join("file");
        File::create(&path).unwrap().write_all(bytes).unwrap();
        CodeFile::read(File::open(path).unwrap())
    };
    assert!(read(&own).unwrap().walker.is_some());
    assert!(read(b"").is_none());
    assert!(read(b"\x7fELF").is_none());
    // The table of sections is at the end, and is cut off.
    let cut = read(&own[..own.len() / 2]);
    assert!(cut.is_none_or(|file| file.walker.is_none()));
    // The table of sections is outside of the file.
    let mut header = own[..64].to_vec();
    header[0x28..0x30].fill(0xff);
    assert!(read(&header).is_none_or(|file| file.walker.is_none()));
}

#[test]
fn unmapped_first_address_is_only_frame() {
    let mut unwinder = Unwinder::default();
    let frames = unwinder.frames(&stack(16, 0x1000, 0x1000, &[0; 64]), Moment(1));
    assert_eq!(frames, [16]);
}

#[test]
fn exited_process_uses_frame_pointers() {
    let mut unwinder = Unwinder::default();
    let mut stack = stack(16, 0x1000, 0x1000, &[0; 64]);
    stack.registers.header.tgid = u32::MAX;
    assert_eq!(unwinder.frames(&stack, Moment(1)), [1]);
}

#[test]
fn idle_state_is_evicted() {
    let mut unwinder = Unwinder::default();
    let here = idle_state_is_evicted as *const () as u64;
    unwinder.frames(&stack(here, 0x1000, 0x1000, &[here; 256]), Moment(1));
    unwinder.free_caches(Moment(2));
    assert_eq!(unwinder.processes.len(), 1);
    assert!(unwinder.files.read() > 0 && !unwinder.files.is_empty());
    unwinder.free_caches(Moment(IDLE + 2));
    assert!(unwinder.processes.is_empty() && unwinder.files.is_empty());
}

proptest! {
    #[test]
    fn walk_of_arbitrary_stack_terminates(
        at in 0u64..1 << 20,
        bp: u64,
        words in prop::collection::vec((any::<bool>(), any::<u64>()), 0..512),
    ) {
        // Half of the words are addresses of this program, or of its stack.
        let here = walk_of_arbitrary_stack_terminates as *const () as u64;
        let words: Vec<_> = words
            .iter()
            .map(|&(is_code, word)| if is_code { here.wrapping_add(word % (1 << 20)) } else { 0x1000 + word % 4096 })
            .collect();
        let mut unwinder = Unwinder::default();
        let bp = 0x1000 + bp % 4096;
        let frames = unwinder.frames(&stack(here - (1 << 19) + at, 0x1000, bp, &words), Moment(1));
        prop_assert!(!frames.is_empty() && frames.len() <= MAX_FRAMES);
    }

    #[test]
    fn check_of_arbitrary_tables_terminates(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200, byte: u8) {
        is_sound(&bytes, 0, None, None);
        let mut damaged = eh_frame(&UP);
        let at = at % damaged.len();
        damaged[at] = byte;
        is_sound(&damaged, 0, None, None);
    }
}
