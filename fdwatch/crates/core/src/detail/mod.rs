//! Detail: the stack where a descriptor was opened or closed, and the requested path. Collected for
//! processes that were selected at that time; bounded, and the oldest is dropped first.
//!
//! No I/O. Addresses are those of the process's memory. An [`Unwind`] finds the frames of a raw
//! stack.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt::{self, Debug},
    sync::Arc,
};

use fdwatch_common::{MAX_PIECES, PIECE, Registers, RequestedPath, Stack, StackPiece};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{Moment, Program};

/// Symbol of a function without a name, at an offset in its file.
pub const UNNAMED: &str = "??";

/// Maximum number of descriptors with detail. Copies made by fork share the detail of the original.
/// Together with the gaps, this fits into a queue with a capacity of 65,536.
const MAX: usize = 57_000;

/// Maximum number of closed descriptors with stored detail, for a followed command that opens many.
const MAX_CLOSED: usize = 4096;

/// Maximum number of closes with detail. Their detail is requested soon after the close or never.
const MAX_CLOSES: usize = 14_000;

/// Maximum number of threads that have sent detail but not yet the event it belongs to.
const MAX_PENDING: usize = 4096;

/// Maximum number of raw stacks stored for these threads: one megabyte in all. They are sent right
/// before the event, so there are rarely more than CPUs.
const MAX_RAW: usize = 64;

/// Detail of the opening or closing of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Return addresses, innermost first; the first one is where the thread entered the kernel.
    /// Empty if unknown.
    pub stack: Arc<[u64]>,
    /// The path as the program passed it.
    pub path: Option<Arc<[u8]>>,
    /// Whether the path was truncated.
    pub is_cut: bool,
    /// The program that opened it, for a followed command.
    pub program: Option<Program>,
    /// What the stack can be unwound from, for a followed command. Unwinding happens later, as the
    /// mappings of its programs are stored after they end.
    pub raw: Option<Arc<RawStack>>,
}

/// A stack as captured in the kernel, not yet unwound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawStack {
    /// The thread's registers.
    pub registers: Registers,
    /// The frames found by following frame pointers.
    pub by_frame_pointers: Vec<u64>,
    /// Address of the first of `bytes` in the process's memory.
    begin: u64,
    /// Contents of the stack.
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

    /// Creates a stack whose contents start at the stack pointer.
    #[must_use]
    pub fn of(registers: Registers, by_frame_pointers: Vec<u64>, bytes: Vec<u8>) -> Self {
        Self {
            begin: registers.sp,
            bytes,
            ..Self::new(&registers, by_frame_pointers)
        }
    }

    /// Appends a piece, if it is the next one.
    fn add(&mut self, piece: &StackPiece) {
        let next = self.begin.checked_add(self.bytes.len() as u64);
        if next == Some(piece.address) && self.bytes.len() < MAX_PIECES * PIECE {
            self.bytes.extend_from_slice(&piece.bytes);
        }
    }

    /// Returns the word at an address of the process's memory, if it was captured.
    #[must_use]
    pub fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.begin)?).ok()?;
        let word = self.bytes.get(at..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*word))
    }
}

/// Unwinds stacks. This reads the process, which may have ended or run another program since.
pub trait Unwind: Debug {
    /// Returns the frames of `stack`, captured shortly before `now`, innermost first.
    fn frames(&mut self, stack: &RawStack, now: Moment) -> Vec<u64>;

    /// Drops what is cached for a process that runs another program or has ended.
    fn forget(&mut self, tgid: u32);

    /// Frees caches that were not used recently. To be called about once a second.
    fn free_caches(&mut self, now: Moment);
}

/// A frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The address in the process's memory.
    pub address: u64,
    /// The code at that address, if it was resolved.
    pub place: Option<Place>,
}

/// A location in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The function's name.
    pub symbol: String,
    /// Offset from the function's start, in bytes.
    pub offset: u64,
    /// The executable or library.
    pub module: Option<Vec<u8>>,
    /// The source file, if there is debug information.
    pub file: Option<Vec<u8>>,
    /// The source line.
    pub line: Option<u32>,
}

/// Detail of a thread whose next event it belongs to.
#[derive(Debug, Default)]
struct PendingDetail {
    by_frame_pointers: Vec<u64>,
    path: Option<Arc<[u8]>>,
    is_cut: bool,
}

/// Detail by moment. Entries arrive and are dropped nearly in order, so that a sorted queue with
/// gaps takes half the memory of a map.
#[derive(Debug, Default)]
struct DetailQueue {
    /// Sorted by moment. Entries dropped out of order leave a gap (`None`).
    entries: VecDeque<(Moment, Option<Detail>)>,
    count: usize,
}

/// All stored detail.
#[derive(Default)]
pub struct Details {
    /// By thread.
    pending: FxHashMap<u32, PendingDetail>,
    /// By thread; always one that is in `pending`.
    raw: FxHashMap<u32, RawStack>,
    /// By the moment of opening.
    opened: DetailQueue,
    /// By the moment of closing.
    closed: DetailQueue,
    /// Moments of opening of closed descriptors, oldest first.
    opened_and_closed: VecDeque<Moment>,
    /// All stacks, each stored once.
    stacks: FxHashSet<Arc<[u64]>>,
    unwind: Option<Box<dyn Unwind>>,
}

impl Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Details")
            .field("opened", &self.opened.count)
            .field("closed", &self.closed.count)
            .field("stacks", &self.stacks.len())
            .finish_non_exhaustive()
    }
}

impl Details {
    /// Unwinds stacks with `unwind`. Without it, only frame pointers are followed.
    pub fn unwind_by(&mut self, unwind: Box<dyn Unwind>) {
        self.unwind = Some(unwind);
    }

    /// Stores the frames that a thread sent.
    pub fn stack(&mut self, stack: &Stack) {
        self.raw.remove(&stack.header.tid);
        self.pending(stack.header.tid).by_frame_pointers = stack.frames().to_vec();
    }

    /// Stores the registers that a thread sent.
    pub fn registers(&mut self, registers: &Registers) {
        if self.unwind.is_none() {
            return;
        }
        let tid = registers.header.tid;
        if self.raw.len() >= MAX_RAW && !self.raw.contains_key(&tid) {
            // Their stacks fall back to frame pointers.
            self.raw.clear();
        }
        let by_frame_pointers = std::mem::take(&mut self.pending(tid).by_frame_pointers);
        let raw = RawStack::new(registers, by_frame_pointers);
        self.raw.insert(tid, raw);
    }

    /// Appends a piece of the stack that a thread sent.
    pub fn piece(&mut self, piece: &StackPiece) {
        if let Some(raw) = self.raw.get_mut(&piece.header.tid) {
            raw.add(piece);
        }
    }

    /// Stores the path that a thread passes to an open call.
    pub fn path(&mut self, path: &RequestedPath) {
        let pending = self.pending(path.header.tid);
        // Empty if its page was not in memory.
        pending.path = Some(path.bytes())
            .filter(|path| !path.is_empty())
            .map(Into::into);
        pending.is_cut = path.has(RequestedPath::TRUNCATED);
    }

    /// Returns whether any thread has sent detail whose event is still to come.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Attaches the thread's detail to the descriptor it opened at that moment; `program` is set
    /// for a followed command.
    pub fn opened(&mut self, tid: u32, at: Moment, program: Option<Program>) {
        let Some(pending) = self.pending.remove(&tid) else {
            return;
        };
        let raw = program.and_then(|_| self.raw.remove(&tid));
        let by_frame_pointers = match &raw {
            Some(raw) => raw.by_frame_pointers.clone(),
            None => pending.by_frame_pointers,
        };
        let detail = Detail {
            stack: self.take_stack(tid, by_frame_pointers, at),
            path: pending.path,
            is_cut: pending.is_cut,
            program,
            raw: raw.map(Arc::new),
        };
        self.opened.insert(at, detail, MAX, &mut self.stacks);
    }

    /// Records that the descriptor opened at that moment was closed by its opener. Copies of it may
    /// still be open.
    pub fn opener_closed(&mut self, opened: Moment) {
        if self.opened.get(opened).is_none() {
            return;
        }
        self.opened_and_closed.push_back(opened);
        if self.opened_and_closed.len() > MAX_CLOSED
            && let Some(first) = self.opened_and_closed.pop_front()
        {
            forget(self.opened.remove(first), &mut self.stacks);
        }
    }

    /// Attaches the thread's detail to the close at that moment.
    pub fn closed(&mut self, tid: u32, at: Moment) {
        let Some(pending) = self.pending.remove(&tid) else {
            return;
        };
        let stack = self.take_stack(tid, pending.by_frame_pointers, at);
        if !stack.is_empty() {
            // A path belongs to an open that failed.
            let detail = Detail {
                stack,
                ..Detail::default()
            };
            self.closed.insert(at, detail, MAX_CLOSES, &mut self.stacks);
        }
    }

    /// Drops the detail of a thread that has ended. `is_last`: so has its process.
    pub fn ended(&mut self, tid: u32, tgid: u32, is_last: bool) {
        self.pending.remove(&tid);
        self.raw.remove(&tid);
        if is_last && let Some(unwind) = &mut self.unwind {
            unwind.forget(tgid);
        }
    }

    /// Drops what is cached for a process that runs another program.
    pub fn execed(&mut self, tgid: u32) {
        if let Some(unwind) = &mut self.unwind {
            unwind.forget(tgid);
        }
    }

    /// Frees caches. To be called about once a second.
    pub fn free_caches(&mut self, now: Moment) {
        if let Some(unwind) = &mut self.unwind {
            unwind.free_caches(now);
        }
    }

    /// Returns whether the thread has sent detail whose event is still to come.
    #[must_use]
    pub fn is_pending(&self, tid: u32) -> bool {
        self.pending.contains_key(&tid)
    }

    /// Returns the detail of the descriptor opened at that moment.
    #[must_use]
    pub fn of(&self, opened: Moment) -> Option<&Detail> {
        self.opened.get(opened)
    }

    /// Returns the detail of the close at that moment. If another descriptor replaced the closed
    /// one, as with dup2, that is the detail of its opening.
    #[must_use]
    pub fn of_close(&self, closed: Moment) -> Option<&Detail> {
        let of_close = self.closed.get(closed);
        of_close.or_else(|| self.of(closed))
    }

    /// Returns the number of distinct stacks.
    #[must_use]
    pub fn stacks(&self) -> usize {
        self.stacks.len()
    }

    fn pending(&mut self, tid: u32) -> &mut PendingDetail {
        if self.pending.len() >= MAX_PENDING && !self.pending.contains_key(&tid) {
            // Detail of failed calls is never taken; that of pending calls is lost.
            self.pending.clear();
            self.raw.clear();
        }
        self.pending.entry(tid).or_default()
    }

    /// Takes the thread's stack, unwound, and frees the raw one.
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

impl DetailQueue {
    fn get(&self, at: Moment) -> Option<&Detail> {
        let (_, detail) = &self.entries[self.place(at).ok()?];
        detail.as_ref()
    }

    /// Returns its position, or where to insert it.
    fn place(&self, at: Moment) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&at, |&(at, _)| at)
    }

    /// Adds an entry and drops the oldest ones above `most`, with their stacks.
    fn insert(
        &mut self,
        at: Moment,
        detail: Detail,
        max: usize,
        stacks: &mut FxHashSet<Arc<[u64]>>,
    ) {
        while self.count >= max
            && let Some((_, oldest)) = self.entries.pop_front()
        {
            self.count -= usize::from(oldest.is_some());
            forget(oldest, stacks);
        }
        self.remove_gaps();
        let replaced = match self.place(at) {
            Ok(place) => self.entries[place].1.replace(detail),
            Err(place) => {
                self.entries.insert(place, (at, Some(detail)));
                None
            }
        };
        self.count += usize::from(replaced.is_none());
        forget(replaced, stacks);
    }

    fn remove(&mut self, at: Moment) -> Option<Detail> {
        let place = self.place(at).ok()?;
        let detail = self.entries[place].1.take();
        self.count -= usize::from(detail.is_some());
        detail
    }

    /// Removes the gaps before the queue would grow, if there are enough of them.
    fn remove_gaps(&mut self) {
        let (places, room) = (self.entries.len(), self.entries.capacity());
        if places == room && places - self.count > places / 8 {
            self.entries.retain(|(_, detail)| detail.is_some());
        }
    }
}

/// Drops the stack of a removed entry, if no other entry has it.
fn forget(detail: Option<Detail>, stacks: &mut FxHashSet<Arc<[u64]>>) {
    if let Some(detail) = detail
        // The remaining references are those of the entry and the set.
        && Arc::strong_count(&detail.stack) <= 2
    {
        stacks.remove(&detail.stack);
    }
}
