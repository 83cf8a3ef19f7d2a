//! Detail: where in the program a descriptor was made or closed, and by which path it was asked for. Of
//! processes that it was wanted of at that time; bounded, and the oldest is forgotten first.
//!
//! Pure. Addresses are as they were in the process's memory: what stands there is not known here. Who
//! can find the way out of a stack from what a thread told of it is an [`Unwind`].

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt::{self, Debug},
    sync::Arc,
};

use fdwatch_common::{AskedPath, MAX_PIECES, PIECE, Registers, Stack, StackPiece};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{Moment, Program};

/// Descriptors that detail is kept of. What is copied by fork has that of the original. With the places of
/// those that went, there is room for it in a list of 65,536.
const MAX: usize = 57_000;

/// Of descriptors that are closed, those that the detail of their making is kept of where many are
/// made: of a command that is followed.
const MAX_CLOSED: usize = 4096;

/// Closes that detail is kept of: it is asked for soon, or not at all.
const MAX_CLOSES: usize = 14_000;

/// Threads that have told where they are, and have not told yet what they do.
const MAX_WAITING: usize = 4096;

/// Of how many of these the stack is kept: one megabyte in all. It comes right before what the thread
/// does, so that there are hardly more than processors.
const MAX_RAW: usize = 64;

/// What is known of a descriptor's making, or of its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Where the thread was, from the inside out: the first address is where it entered the kernel.
    /// Empty if that is not known.
    pub stack: Arc<[u64]>,
    /// The path that was asked for, as the program gave it.
    pub path: Option<Arc<[u8]>>,
    /// That path went on.
    pub is_cut: bool,
    /// The program it was made in, of a command that is followed.
    pub program: Option<Program>,
    /// What the stack can be unwound from, of such a command: later, for its programs are known after
    /// they have ended.
    pub raw: Option<Arc<RawStack>>,
}

/// A stack as the thread told it: what it can be unwound from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawStack {
    /// The thread's registers, and whose they are.
    pub registers: Registers,
    /// Where frame pointers lead to.
    pub by_frame_pointers: Vec<u64>,
    /// Where `bytes` begin in the process's memory.
    begin: u64,
    /// What stands there.
    bytes: Vec<u8>,
}

impl RawStack {
    fn new(registers: &Registers, by_frame_pointers: Vec<u64>) -> Self {
        Self {
            registers: *registers,
            by_frame_pointers,
            begin: registers.sp & !(PIECE as u64 - 1),
            bytes: Vec::new(),
        }
    }

    /// A stack whose top bytes, from the stack pointer up, are `bytes`.
    #[must_use]
    pub fn of(registers: Registers, by_frame_pointers: Vec<u64>, bytes: Vec<u8>) -> Self {
        Self {
            begin: registers.sp,
            bytes,
            ..Self::new(&registers, by_frame_pointers)
        }
    }

    /// Takes in a piece, if it is the next.
    fn add(&mut self, piece: &StackPiece) {
        let next = self.begin.checked_add(self.bytes.len() as u64);
        if next == Some(piece.address) && self.bytes.len() < MAX_PIECES * PIECE {
            self.bytes.extend_from_slice(&piece.bytes);
        }
    }

    /// The word at that address of the process's memory, if it was told.
    #[must_use]
    pub fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.begin)?).ok()?;
        let word = self.bytes.get(at..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*word))
    }
}

/// Finds the way out of a stack. That takes a look at the process, which may be another by then or
/// none at all.
pub trait Unwind: Debug {
    /// The frames of `stack`, which was told not long before `now`, from the inside out.
    fn frames(&mut self, stack: &RawStack, now: Moment) -> Vec<u64>;

    /// The process runs another program, or has ended.
    fn forget(&mut self, tgid: u32);

    /// Gives back what was not needed lately. To be called once a second or so.
    fn rest(&mut self, now: Moment);
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

/// What a thread has told of what it is about to do.
#[derive(Debug, Default)]
struct Waiting {
    by_frame_pointers: Vec<u64>,
    path: Option<Arc<[u8]>>,
    is_cut: bool,
}

/// Detail by moments, which no two were at once. It comes in the order of the moments but for a few, and goes
/// in that order but for a few: a map would have twice the room that it needs, for the places of those that
/// went.
#[derive(Debug, Default)]
struct Kept {
    /// In order, with the places of those that were forgotten before older ones.
    oldest_first: VecDeque<(Moment, Option<Detail>)>,
    count: usize,
}

/// The detail there is.
#[derive(Default)]
pub struct Details {
    /// By thread.
    waiting: FxHashMap<u32, Waiting>,
    /// By thread: of those that wait.
    raw: FxHashMap<u32, RawStack>,
    /// By when the descriptor was made.
    made: Kept,
    /// By when it was closed.
    closed: Kept,
    /// Of what was made, that which was closed: the first to be at the front.
    made_and_closed: VecDeque<Moment>,
    /// Each is kept once.
    stacks: FxHashSet<Arc<[u64]>>,
    unwind: Option<Box<dyn Unwind>>,
}

impl Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Details")
            .field("made", &self.made.count)
            .field("closed", &self.closed.count)
            .field("stacks", &self.stacks.len())
            .finish_non_exhaustive()
    }
}

impl Details {
    /// Stacks are to be unwound by this. Without, they are as long as frame pointers lead.
    pub fn unwind_by(&mut self, unwind: Box<dyn Unwind>) {
        self.unwind = Some(unwind);
    }

    /// A thread has told where it is.
    pub fn stack(&mut self, stack: &Stack) {
        self.raw.remove(&stack.header.tid);
        self.waiting(stack.header.tid).by_frame_pointers = stack.frames().to_vec();
    }

    /// And its registers.
    pub fn registers(&mut self, registers: &Registers) {
        if self.unwind.is_none() {
            return;
        }
        let tid = registers.header.tid;
        if self.raw.len() >= MAX_RAW && !self.raw.contains_key(&tid) {
            // Those that are under way are as long as frame pointers lead.
            self.raw.clear();
        }
        let by_frame_pointers = std::mem::take(&mut self.waiting(tid).by_frame_pointers);
        let raw = RawStack::new(registers, by_frame_pointers);
        self.raw.insert(tid, raw);
    }

    /// And a piece of its stack.
    pub fn piece(&mut self, piece: &StackPiece) {
        if let Some(raw) = self.raw.get_mut(&piece.header.tid) {
            raw.add(piece);
        }
    }

    /// A thread has told what it opens.
    pub fn path(&mut self, path: &AskedPath) {
        let waiting = self.waiting(path.header.tid);
        // None, if it was not in memory.
        waiting.path = Some(path.bytes())
            .filter(|path| !path.is_empty())
            .map(Into::into);
        waiting.is_cut = path.has(AskedPath::TRUNCATED);
    }

    /// Whether any thread has told something that is yet to be taken.
    #[must_use]
    pub fn is_any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The thread has made a descriptor, at that moment, in that program of a command.
    pub fn made(&mut self, tid: u32, at: Moment, program: Option<Program>) {
        let Some(waiting) = self.waiting.remove(&tid) else {
            return;
        };
        let raw = program.and_then(|_| self.raw.remove(&tid));
        let by_frame_pointers = match &raw {
            Some(raw) => raw.by_frame_pointers.clone(),
            None => waiting.by_frame_pointers,
        };
        let detail = Detail {
            stack: self.take_stack(tid, by_frame_pointers, at),
            path: waiting.path,
            is_cut: waiting.is_cut,
            program,
            raw: raw.map(Arc::new),
        };
        self.made.keep(at, detail, MAX, &mut self.stacks);
    }

    /// The descriptor that was made at that moment was closed by who made it. Copies of it may be
    /// there for a while yet.
    pub fn made_was_closed(&mut self, made: Moment) {
        if self.made.get(made).is_none() {
            return;
        }
        self.made_and_closed.push_back(made);
        if self.made_and_closed.len() > MAX_CLOSED
            && let Some(first) = self.made_and_closed.pop_front()
        {
            forget(self.made.remove(first), &mut self.stacks);
        }
    }

    /// The thread has closed a descriptor, at that moment.
    pub fn closed(&mut self, tid: u32, at: Moment) {
        let Some(waiting) = self.waiting.remove(&tid) else {
            return;
        };
        let stack = self.take_stack(tid, waiting.by_frame_pointers, at);
        if !stack.is_empty() {
            // A path is of an open that failed.
            let detail = Detail {
                stack,
                ..Detail::default()
            };
            self.closed.keep(at, detail, MAX_CLOSES, &mut self.stacks);
        }
    }

    /// The thread has ended: the last of its process, or one of several.
    pub fn ended(&mut self, tid: u32, tgid: u32, is_last: bool) {
        self.waiting.remove(&tid);
        self.raw.remove(&tid);
        if is_last && let Some(unwind) = &mut self.unwind {
            unwind.forget(tgid);
        }
    }

    /// The process runs another program.
    pub fn execed(&mut self, tgid: u32) {
        if let Some(unwind) = &mut self.unwind {
            unwind.forget(tgid);
        }
    }

    /// Gives back what is only kept to be fast. To be called once a second or so.
    pub fn rest(&mut self, now: Moment) {
        if let Some(unwind) = &mut self.unwind {
            unwind.rest(now);
        }
    }

    /// Whether the thread has told where it is, and not yet what it does.
    #[must_use]
    pub fn is_waiting(&self, tid: u32) -> bool {
        self.waiting.contains_key(&tid)
    }

    /// What is known of the descriptor that was made at that moment.
    #[must_use]
    pub fn of(&self, made: Moment) -> Option<&Detail> {
        self.made.get(made)
    }

    /// What is known of the close at that moment: where the thread was, and nothing else. Where another
    /// descriptor was made in the place of the one that was closed, as by dup2, that is where it was.
    #[must_use]
    pub fn of_close(&self, closed: Moment) -> Option<&Detail> {
        let of_close = self.closed.get(closed);
        of_close.or_else(|| self.of(closed))
    }

    /// Stacks that are kept.
    #[must_use]
    pub fn stacks(&self) -> usize {
        self.stacks.len()
    }

    fn waiting(&mut self, tid: u32) -> &mut Waiting {
        if self.waiting.len() >= MAX_WAITING && !self.waiting.contains_key(&tid) {
            // Calls that failed leave theirs; those that are under way lose it.
            self.waiting.clear();
            self.raw.clear();
        }
        self.waiting.entry(tid).or_default()
    }

    /// The stack that the thread has told, unwound; what that took is given back.
    fn take_stack(&mut self, tid: u32, by_frame_pointers: Vec<u64>, now: Moment) -> Arc<[u64]> {
        let frames = match (self.raw.remove(&tid), &mut self.unwind) {
            (Some(raw), Some(unwind)) => unwind.frames(&raw, now),
            (Some(raw), None) => raw.by_frame_pointers,
            (None, _) => by_frame_pointers,
        };
        self.intern(frames)
    }

    fn intern(&mut self, frames: Vec<u64>) -> Arc<[u64]> {
        if let Some(known) = self.stacks.get(&frames[..]) {
            return known.clone();
        }
        let frames: Arc<[u64]> = frames.into();
        self.stacks.insert(frames.clone());
        frames
    }
}

impl Kept {
    fn get(&self, at: Moment) -> Option<&Detail> {
        let (_, detail) = &self.oldest_first[self.place(at).ok()?];
        detail.as_ref()
    }

    /// Where it is, or would be.
    fn place(&self, at: Moment) -> Result<usize, usize> {
        self.oldest_first.binary_search_by_key(&at, |&(at, _)| at)
    }

    /// Keeps no more than `most`, and forgets the stacks of the others.
    fn keep(
        &mut self,
        at: Moment,
        detail: Detail,
        most: usize,
        stacks: &mut FxHashSet<Arc<[u64]>>,
    ) {
        while self.count >= most
            && let Some((_, oldest)) = self.oldest_first.pop_front()
        {
            self.count -= usize::from(oldest.is_some());
            forget(oldest, stacks);
        }
        self.make_room();
        let replaced = match self.place(at) {
            Ok(place) => self.oldest_first[place].1.replace(detail),
            Err(place) => {
                self.oldest_first.insert(place, (at, Some(detail)));
                None
            }
        };
        self.count += usize::from(replaced.is_none());
        forget(replaced, stacks);
    }

    fn remove(&mut self, at: Moment) -> Option<Detail> {
        let place = self.place(at).ok()?;
        let detail = self.oldest_first[place].1.take();
        self.count -= usize::from(detail.is_some());
        detail
    }

    /// Where the list would have to grow, the places of those that went are taken first, if they are worth
    /// going through all of it.
    fn make_room(&mut self) {
        let (places, room) = (self.oldest_first.len(), self.oldest_first.capacity());
        if places == room && places - self.count > places / 8 {
            self.oldest_first.retain(|(_, detail)| detail.is_some());
        }
    }
}

/// Forgets the stack with the last that is of it.
fn forget(detail: Option<Detail>, stacks: &mut FxHashSet<Arc<[u64]>>) {
    if let Some(detail) = detail
        // It, and the set.
        && Arc::strong_count(&detail.stack) <= 2
    {
        stacks.remove(&detail.stack);
    }
}
