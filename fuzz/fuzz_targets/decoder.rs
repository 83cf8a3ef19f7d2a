//! Feeds arbitrary ring buffer content and times to the engine: events of every kind and size in any order.
//!
//! An input is a sequence of steps. The first byte of a step selects the action, which consumes the bytes it needs;
//! beyond the end of the input they are zero.

#![no_main]

use std::collections::HashSet;

use fdwatch_core::{
    detail::{RawStack, Unwind},
    duplicates::Path,
    engine::Engine,
    filter::Filter,
    model::{AnonymousDevices, FdEntry, Moment},
};
use fdwatch_host::investigate::{Investigator, Source};
use libfuzzer_sys::fuzz_target;

/// Size of an event by kind, as in `fdwatch-common`.
const SIZES: [usize; 9] = [56, 32, 24, 48, 72, 16, 288, 56, 56];

/// Kind and size of events with detail.
const DETAIL: [(u64, usize); 4] = [(10, 536), (11, 280), (12, 48), (13, 2072)];

/// The kind of fork events.
const FORK: u8 = 4;

/// Masks for the first words of an event, so that events refer to the same objects: flags and call; 128 descriptors;
/// four threads and processes; four tables and files.
const FEW: [u64; 5] = [0x7f_ffff_ffff, 0x3_0000_0003, 3, 3, 3];

/// Nanoseconds per unit of a time step.
const TICK: u64 = 10_000_000;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut engine = Engine::new(AnonymousDevices([14, 5]), false);
    engine.details.unwind_by(Box::new(Words));
    let mut investigator = Investigator::new(Filter::default(), Source::Recording);
    let mut now = Moment(1_000_000_000);
    let mut room = Vec::new();
    while let Some(step) = input.next() {
        match step % 32 {
            // An event of each kind with the right size, with arbitrary or masked words.
            kind @ 0..18 => {
                let at = usize::from(kind) % SIZES.len();
                input.take(SIZES[at], &mut room);
                room[0] = room[0] & !0xff | (at as u64 + 1);
                if usize::from(kind) < SIZES.len() {
                    narrow(&mut room);
                }
                engine.record(bytes_of(&room, SIZES[at]), now);
            }
            // An arbitrary event, possibly of invalid kind or size.
            18 => {
                let len = usize::from(input.byte());
                input.take(len, &mut room);
                engine.record(bytes_of(&room, len), now);
            }
            19 => {
                let [low, high] = [input.byte(), input.byte()];
                now.0 = now
                    .0
                    .saturating_add(u64::from(u16::from_le_bytes([low, high])) * TICK);
                engine.settle(now, &mut |duplicate, model| {
                    let _ = investigator.finding(duplicate, model);
                });
            }
            20 => engine.begin_snapshot(),
            21 => engine.end_snapshot(),
            22 => engine.begin_audit(),
            23 => {
                let ended = input.byte() & 1 != 0;
                for tgid in engine.end_audit().unvisited {
                    if ended {
                        engine.forget(tgid);
                    }
                }
            }
            24 => engine.sweep(now, &mut path_of, &mut |_, _| ()),
            // An arbitrary time.
            25 => {
                input.take(8, &mut room);
                now = now.max(Moment(room[0]));
            }
            // An event with detail.
            step @ 26..32 => {
                let at = usize::from(step - 26) % DETAIL.len();
                let (kind, size) = DETAIL[at];
                input.take(size, &mut room);
                room[0] = room[0] & !0xff | kind;
                narrow(&mut room[..2]);
                engine.record(bytes_of(&room, size), now);
            }
            _ => {}
        }
    }
    check(&engine);
});

/// Takes the words on a stack as its frames.
#[derive(Debug)]
struct Words;

impl Unwind for Words {
    fn frames(&mut self, stack: &RawStack, _: Moment) -> Vec<u64> {
        let end = stack.registers.sp.saturating_add(1 << 15);
        let words = (stack.registers.sp..end).step_by(512);
        words.map_while(|at| stack.word(at)).collect()
    }

    fn forget(&mut self, _: u32) {}

    fn free_caches(&mut self, _: Moment) {}
}

/// Checks the invariants of every model.
fn check(engine: &Engine) {
    for table in engine.model.tables() {
        let holders: HashSet<_> = table
            .holders()
            .iter()
            .map(|held| (held.tgid, held.tid))
            .collect();
        assert_eq!(holders.len(), table.holders().len());
        let mut open = 0;
        for (fd, entry) in table.iter() {
            assert_eq!(table.get(fd), Some(entry));
            open += 1;
        }
        assert_eq!(open, table.len());
    }
}

/// Returns one of few paths, so that some files are rotated.
fn path_of(_: u32, fd: u32, entry: &FdEntry) -> Option<Path> {
    (entry.ino != 2).then(|| Path {
        bytes: vec![b'/', b'a' + (fd & 1) as u8],
        deleted: entry.ino == 1,
    })
}

fn narrow(words: &mut [u64]) {
    for (word, few) in words.iter_mut().zip(FEW) {
        *word &= few;
    }
    if words[0] as u8 == FORK && words.len() > 5 {
        // The parent's PID, which follows the table.
        words[5] &= FEW[1];
    }
}

/// Returns the first `len` bytes of `words`, aligned as events in the ring buffer.
fn bytes_of(words: &[u64], len: usize) -> &[u8] {
    // SAFETY: integers may be read as bytes, and the length is theirs.
    let bytes = unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) };
    &bytes[..len]
}

/// The rest of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// Puts the next `len` bytes into `words`, which is resized to hold them.
    fn take(&mut self, len: usize, words: &mut Vec<u64>) {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        words.clear();
        words.extend(bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        }));
        words.resize(len.div_ceil(8), 0);
    }
}
