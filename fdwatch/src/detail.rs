//! Detail: where in the program a descriptor was made, and by which path it was asked for. Of
//! processes that it was wanted of at that time; bounded, and the oldest is forgotten first.
//!
//! Pure. Addresses are as they were in the process's memory: what stands there is not known here.

use std::{collections::VecDeque, sync::Arc};

use fdwatch_common::{AskedPath, CUT, Stack, StackMemory};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{leaks::Program, model::Moment};

/// Descriptors that detail is kept of. What is copied by fork has that of the original.
const MOST: usize = 65_536;

/// Of these, those that detail is kept of after they were closed.
const MOST_CLOSED: usize = 4096;

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
    /// What was on the thread's stack, of those of which that is told.
    pub memory: Option<Arc<Memory>>,
    /// The program it was made in, of a command that is followed.
    pub program: Option<Program>,
}

/// The beginning of a thread's stack, and the registers that unwinding begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Where it entered the kernel.
    pub ip: u64,
    /// The stack pointer: where `bytes` begin.
    pub sp: u64,
    /// The frame pointer.
    pub bp: u64,
    /// What is there.
    pub bytes: Box<[u8]>,
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
    /// By when the descriptor was made, which no two were at once.
    of: FxHashMap<Moment, Detail>,
    oldest_first: VecDeque<Moment>,
    /// Those that were closed, the first to be at the front.
    closed: VecDeque<Moment>,
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
        // None, if it was not in memory.
        detail.path = Some(path.bytes())
            .filter(|path| !path.is_empty())
            .map(Into::into);
        detail.is_cut = path.header.flags & CUT != 0;
    }

    /// A thread has told what is on its stack.
    pub fn memory(&mut self, memory: &StackMemory) {
        self.waiting(memory.header.tid).memory = Some(Arc::new(Memory {
            ip: memory.ip,
            sp: memory.sp,
            bp: memory.bp,
            bytes: memory.bytes().into(),
        }));
    }

    /// Whether any thread has told something that is yet to be taken.
    #[must_use]
    pub fn is_any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The thread has made a descriptor, at that moment, in that program of a command.
    pub fn made(&mut self, tid: u32, at: Moment, program: Option<Program>) {
        let Some(detail) = self.waiting.remove(&tid) else {
            return;
        };
        let detail = Detail { program, ..detail };
        while self.of.len() >= MOST && !self.oldest_first.is_empty() {
            self.forget_oldest();
        }
        if self.of.insert(at, detail).is_none() {
            self.oldest_first.push_back(at);
        }
    }

    /// The descriptor that was made at that moment was closed by who made it. Copies of it may be
    /// there for a while yet.
    pub fn ended(&mut self, made: Moment) {
        if !self.of.contains_key(&made) {
            return;
        }
        self.closed.push_back(made);
        if self.closed.len() > MOST_CLOSED
            && let Some(first) = self.closed.pop_front()
        {
            self.forget(first);
        }
        if self.oldest_first.len() > 2 * MOST {
            let Self {
                of, oldest_first, ..
            } = self;
            oldest_first.retain(|made| of.contains_key(made));
        }
    }

    /// The thread has closed a descriptor, or ended.
    pub fn closed(&mut self, tid: u32) {
        self.waiting.remove(&tid);
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
        if let Some(oldest) = self.oldest_first.pop_front() {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, made: Moment) {
        if let Some(detail) = self.of.remove(&made)
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
        details.made(1, Moment(5), None);
        details.made(1, Moment(6), None);
        details.closed(2);
        details.made(2, Moment(7), None);
        let detail = details.of(Moment(5)).unwrap();
        assert_eq!(*detail.stack, [10, 11]);
        assert_eq!(detail.path.as_deref(), Some(&b"log"[..]));
        assert_eq!(details.of(Moment(6)), None);
        assert_eq!(details.of(Moment(7)), None);
        assert!(!details.is_any_waiting());
    }

    #[test]
    fn the_oldest_is_forgotten_and_stacks_with_the_last_of_theirs() {
        let mut details = Details::default();
        for at in 0..MOST as u64 + 10 {
            details.stack(&stack(1, if at < 5 { &[1] } else { &[2] }));
            details.made(1, Moment(at), None);
        }
        assert_eq!(details.of.len(), MOST);
        assert_eq!(details.of(Moment(9)), None);
        assert!(details.of(Moment(10)).is_some());
        assert_eq!(details.stacks(), 1);
    }

    #[test]
    fn what_is_closed_makes_room_for_what_is_open() {
        let mut details = Details::default();
        let make = |details: &mut Details, at| {
            details.path(&path(1, b"log"));
            details.made(1, Moment(at), None);
        };
        make(&mut details, 0);
        for at in 1..MOST as u64 * 4 {
            make(&mut details, at);
            details.ended(Moment(at));
        }
        assert!(details.of(Moment(0)).is_some());
        assert_eq!(details.of.len(), MOST_CLOSED + 1);
        assert!(details.oldest_first.len() <= MOST * 2 + 1);
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
