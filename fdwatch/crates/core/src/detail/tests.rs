//! Which detail is stored, and for how long.

use fdwatch_common::{Header, Kind, MAX_FRAMES, MAX_PATH};
use proptest::prelude::*;

use super::*;

fn stack(tid: u32, frames: &[u64]) -> Stack {
    let mut stack = Stack {
        header: header(Kind::Stack, tid),
        len: frames.len() as u32,
        reserved: 0,
        frames: [7; MAX_FRAMES],
    };
    stack.frames[..frames.len()].copy_from_slice(frames);
    stack
}

fn path(tid: u32, path: &[u8]) -> RequestedPath {
    let mut requested = RequestedPath {
        header: header(Kind::RequestedPath, tid),
        len: path.len() as u32,
        reserved: 0,
        bytes: [7; MAX_PATH],
    };
    requested.bytes[..path.len()].copy_from_slice(path);
    requested
}

fn header(kind: Kind, tid: u32) -> Header {
    Header {
        kind: kind as u8,
        tid,
        ..Header::default()
    }
}

fn registers(tid: u32, sp: u64) -> Registers {
    Registers {
        header: header(Kind::Registers, tid),
        sp,
        ..Registers::default()
    }
}

fn piece(tid: u32, address: u64, byte: u8) -> StackPiece {
    StackPiece {
        header: header(Kind::StackPiece, tid),
        address,
        bytes: [byte; PIECE],
    }
}

/// Treats the first words of the stack as its frames.
#[derive(Debug)]
struct Words;

impl Unwind for Words {
    fn frames(&mut self, stack: &RawStack, _: Moment) -> Vec<u64> {
        let words = (0..).map_while(|i| stack.word(stack.registers.sp.checked_add(i * 2048)?));
        words.chain(stack.by_frame_pointers.clone()).collect()
    }

    fn forget(&mut self, _: u32) {}

    fn free_caches(&mut self, _: Moment) {}
}

const ONES: u64 = 0x0101_0101_0101_0101;

#[test]
fn stack_pieces_are_joined_and_unwound() {
    let mut details = Details::default();
    details.unwind_by(Box::new(Words));
    details.stack(&stack(1, &[10]));
    details.registers(&registers(1, 0x7010));
    details.piece(&piece(1, 0x7000, 1));
    // A piece of another thread, and one out of order.
    details.piece(&piece(2, 0x7800, 9));
    details.piece(&piece(1, 0x8800, 9));
    details.piece(&piece(1, 0x7800, 2));
    details.opened(1, Moment(5), None);
    let detail = details.of(Moment(5)).unwrap();
    assert_eq!(*detail.stack, [ONES, 2 * ONES, 10]);
    assert!(details.raw.is_empty());
}

#[test]
fn pending_raw_stacks_are_bounded() {
    let mut details = Details::default();
    details.unwind_by(Box::new(Words));
    for tid in 0..MAX_RAW as u32 * 3 {
        details.stack(&stack(tid, &[1]));
        details.registers(&registers(tid, 0));
        for i in 0..20 {
            details.piece(&piece(tid, i * 2048, 1));
        }
    }
    assert!(details.raw.len() <= MAX_RAW);
    let raw = details.raw.values();
    assert!(raw.clone().all(|raw| raw.bytes.len() <= MAX_PIECES * PIECE));
}

#[test]
fn closes_and_replacements_are_found_by_moment() {
    let mut details = Details::default();
    details.stack(&stack(1, &[10]));
    details.closed(1, Moment(5));
    details.stack(&stack(1, &[20]));
    details.opened(1, Moment(6), None);
    let stack_of = |at| {
        details
            .of_close(Moment(at))
            .map(|detail| detail.stack.to_vec())
    };
    assert_eq!(stack_of(5), Some(vec![10]));
    assert_eq!(stack_of(6), Some(vec![20]));
    assert_eq!(stack_of(7), None);
    assert_eq!(details.of(Moment(5)), None);
}

#[test]
fn oldest_close_is_dropped() {
    let mut details = Details::default();
    for at in 0..MAX_CLOSES as u64 + 10 {
        details.stack(&stack(1, &[at]));
        details.closed(1, Moment(at));
    }
    assert_eq!(details.of_close(Moment(9)), None);
    assert_eq!(details.stacks(), MAX_CLOSES);
}

proptest! {
    #[test]
    fn captured_words_are_readable(sp: u64, pieces in prop::collection::vec(any::<(u64, u8)>(), 0..10), at: u64) {
        let mut raw = RawStack::new(&registers(1, sp), Vec::new());
        for (address, byte) in pieces {
            raw.add(&piece(1, address, byte));
        }
        raw.add(&piece(1, sp & !2047, 1));
        if let Some(word) = raw.word(at) {
            prop_assert_eq!(word, ONES);
        }
        prop_assert_eq!(raw.word(sp & !2047), Some(ONES));
    }
}

#[test]
fn detail_belongs_to_next_event_of_thread() {
    let mut details = Details::default();
    details.path(&path(1, b"log"));
    details.stack(&stack(1, &[10, 11]));
    details.stack(&stack(2, &[20]));
    details.opened(1, Moment(5), None);
    details.opened(1, Moment(6), None);
    details.closed(2, Moment(8));
    details.opened(2, Moment(7), None);
    let detail = details.of(Moment(5)).unwrap();
    assert_eq!(*detail.stack, [10, 11]);
    assert_eq!(detail.path.as_deref(), Some(&b"log"[..]));
    assert_eq!(details.of(Moment(6)), None);
    assert_eq!(details.of(Moment(7)), None);
    assert_eq!(*details.of_close(Moment(8)).unwrap().stack, [20]);
    assert!(!details.has_pending());
}

#[test]
fn oldest_detail_is_dropped_with_unused_stack() {
    let mut details = Details::default();
    for at in 0..MAX as u64 + 10 {
        details.stack(&stack(1, if at < 5 { &[1] } else { &[2] }));
        details.opened(1, Moment(at), None);
    }
    assert_eq!(details.opened.count, MAX);
    assert_eq!(details.of(Moment(9)), None);
    assert!(details.of(Moment(10)).is_some());
    assert_eq!(details.stacks(), 1);
}

#[test]
fn closed_descriptors_lose_detail_first() {
    let mut details = Details::default();
    let make = |details: &mut Details, at| {
        details.path(&path(1, b"log"));
        details.opened(1, Moment(at), None);
    };
    make(&mut details, 0);
    for at in 1..MAX as u64 * 4 {
        make(&mut details, at);
        details.opener_closed(Moment(at));
    }
    assert!(details.of(Moment(0)).is_some());
    assert_eq!(details.opened.count, MAX_CLOSED + 1);
    assert!(details.opened.entries.len() <= 2 * MAX_CLOSED);
}

#[test]
fn pending_threads_are_bounded() {
    let mut details = Details::default();
    for tid in 0..MAX_PENDING as u32 * 3 {
        details.stack(&stack(tid, &[1]));
    }
    assert!(details.pending.len() <= MAX_PENDING);
}

proptest! {
    /// Adds and removes entries in any order: the latest remain, without excess capacity.
    #[test]
    fn detail_queue_matches_a_map(steps in prop::collection::vec((any::<bool>(), 0..40_u64), 1..400)) {
        const FEW: usize = 8;
        let (mut queue, mut stacks) = (DetailQueue::default(), FxHashSet::default());
        let mut map = std::collections::BTreeMap::new();
        for (number, (is_kept, at)) in steps.into_iter().enumerate() {
            // Mostly in order.
            let at = Moment(number as u64 + at);
            if is_kept {
                while map.len() >= FEW {
                    map.pop_first();
                }
                let path: Arc<[u8]> = number.to_le_bytes().into();
                map.insert(at, path.clone());
                let detail = Detail { path: Some(path), ..Detail::default() };
                queue.insert(at, detail, FEW, &mut stacks);
            } else {
                let removed = queue.remove(at).and_then(|detail| detail.path);
                prop_assert_eq!(removed, map.remove(&at));
            }
            prop_assert_eq!(queue.count, map.len());
            for at in number as u64..number as u64 + 40 {
                let detail = queue.get(Moment(at));
                prop_assert_eq!(detail.and_then(|detail| detail.path.as_ref()), map.get(&Moment(at)));
            }
            prop_assert!(queue.entries.capacity() <= 4 * FEW);
        }
    }
}
