//! Detail: where in the program a descriptor was made, and by which path it was asked for. Of
//! processes that it was wanted of at that time; bounded, and the oldest is forgotten first.
//!
//! Pure. Addresses are as they were in the process's memory: what stands there is not known here.

use std::{collections::VecDeque, sync::Arc};

use fdwatch_common::{AskedPath, CUT, Stack};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::Moment;

/// Descriptors that detail is kept of. What is copied by fork has that of the original.
const MOST: usize = 65_536;

/// Threads that have told where they are, and have not told yet what they do.
const MOST_WAITING: usize = 4096;

/// What is known of a descriptor's making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Where the thread was, from the inside out, as far as frame pointers lead: the first address is
    /// where it entered the kernel. Empty if that is not known.
    pub stack: Arc<[u64]>,
    /// The path that was asked for, as the program gave it.
    pub path: Option<Arc<[u8]>>,
    /// That path went on.
    pub is_cut: bool,
}

/// A frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// In the process's memory.
    pub address: u64,
    /// What stands there, if that is known.
    pub place: Option<Place>,
}

/// A place in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The function's name.
    pub symbol: String,
    /// How far from its beginning, in bytes.
    pub offset: u64,
    /// The program or library.
    pub module: Option<Vec<u8>>,
    /// The source file, where there is debug information.
    pub file: Option<Vec<u8>>,
    /// The line in that.
    pub line: Option<u32>,
}

/// The detail there is.
#[derive(Debug, Default)]
pub struct Details {
    /// By thread.
    waiting: FxHashMap<u32, Detail>,
    /// By when the descriptor was made or closed, which no two were at once.
    of: FxHashMap<Moment, Detail>,
    oldest_first: VecDeque<Moment>,
    /// Each is kept once.
    stacks: FxHashSet<Arc<[u64]>>,
}

impl Details {
    /// A thread has told where it is.
    pub fn stack(&mut self, stack: &Stack) {
        let frames = self.intern(stack.frames());
        self.waiting(stack.header.tid).stack = frames;
    }

    /// A thread has told what it opens.
    pub fn path(&mut self, path: &AskedPath) {
        let detail = self.waiting(path.header.tid);
        detail.path = Some(path.bytes().into());
        detail.is_cut = path.header.flags & CUT != 0;
    }

    /// Whether any thread has told something that is yet to be taken.
    #[must_use]
    pub fn is_any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The thread has made a descriptor, at that moment.
    pub fn made(&mut self, tid: u32, at: Moment) {
        let Some(detail) = self.waiting.remove(&tid) else {
            return;
        };
        if self.oldest_first.len() >= MOST {
            self.forget_oldest();
        }
        if self.of.insert(at, detail).is_none() {
            self.oldest_first.push_back(at);
        }
    }

    /// The thread has closed a descriptor, or tried to, at that moment.
    pub fn closed(&mut self, tid: u32, at: Moment) {
        self.made(tid, at);
    }

    /// The thread has ended.
    pub fn ended(&mut self, tid: u32) {
        self.waiting.remove(&tid);
    }

    /// Whether the thread has told where it is, and not yet what it does.
    #[must_use]
    pub fn is_waiting(&self, tid: u32) -> bool {
        self.waiting.contains_key(&tid)
    }

    /// What is known of the descriptor that was closed at that moment, of its close.
    #[must_use]
    pub fn of_close(&self, closed: Moment) -> Option<&Detail> {
        self.of(closed)
    }

    /// What is known of the descriptor that was made at that moment.
    #[must_use]
    pub fn of(&self, made: Moment) -> Option<&Detail> {
        self.of.get(&made)
    }

    /// Stacks that are kept.
    #[must_use]
    pub fn stacks(&self) -> usize {
        self.stacks.len()
    }

    fn waiting(&mut self, tid: u32) -> &mut Detail {
        if self.waiting.len() >= MOST_WAITING && !self.waiting.contains_key(&tid) {
            // Calls that failed leave theirs; those that are under way lose it.
            self.waiting.clear();
        }
        self.waiting.entry(tid).or_default()
    }

    fn intern(&mut self, frames: &[u64]) -> Arc<[u64]> {
        if let Some(known) = self.stacks.get(frames) {
            return known.clone();
        }
        let frames: Arc<[u64]> = frames.into();
        self.stacks.insert(frames.clone());
        frames
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.oldest_first.pop_front() else {
            return;
        };
        if let Some(detail) = self.of.remove(&oldest)
            // It, and the set.
            && Arc::strong_count(&detail.stack) <= 2
        {
            self.stacks.remove(&detail.stack);
        }
    }
}

#[cfg(test)]
mod tests {
    use fdwatch_common::{Header, Kind, MAX_FRAMES, MAX_PATH};

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

    fn path(tid: u32, path: &[u8]) -> AskedPath {
        let mut asked = AskedPath {
            header: header(Kind::AskedPath, tid),
            len: path.len() as u32,
            reserved: 0,
            bytes: [7; MAX_PATH],
        };
        asked.bytes[..path.len()].copy_from_slice(path);
        asked
    }

    fn header(kind: Kind, tid: u32) -> Header {
        Header {
            kind: kind as u8,
            tid,
            ..Header::default()
        }
    }

    #[test]
    fn what_a_thread_tells_is_of_what_it_makes_next() {
        let mut details = Details::default();
        details.path(&path(1, b"log"));
        details.stack(&stack(1, &[10, 11]));
        details.stack(&stack(2, &[20]));
        details.made(1, Moment(5));
        details.made(1, Moment(6));
        details.closed(2, Moment(8));
        details.made(2, Moment(7));
        let detail = details.of(Moment(5)).unwrap();
        assert_eq!(*detail.stack, [10, 11]);
        assert_eq!(detail.path.as_deref(), Some(&b"log"[..]));
        assert_eq!(details.of(Moment(6)), None);
        assert_eq!(details.of(Moment(7)), None);
        assert_eq!(*details.of_close(Moment(8)).unwrap().stack, [20]);
        assert!(!details.is_any_waiting());
    }

    #[test]
    fn the_oldest_is_forgotten_and_stacks_with_the_last_of_theirs() {
        let mut details = Details::default();
        for at in 0..MOST as u64 + 10 {
            details.stack(&stack(1, if at < 5 { &[1] } else { &[2] }));
            details.made(1, Moment(at));
        }
        assert_eq!(details.of.len(), MOST);
        assert_eq!(details.of(Moment(9)), None);
        assert!(details.of(Moment(10)).is_some());
        assert_eq!(details.stacks(), 1);
    }

    #[test]
    fn threads_that_never_make_anything_take_no_more_room_than_there_is() {
        let mut details = Details::default();
        for tid in 0..MOST_WAITING as u32 * 3 {
            details.stack(&stack(tid, &[1]));
        }
        assert!(details.waiting.len() <= MOST_WAITING);
    }
}
