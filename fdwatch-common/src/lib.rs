//! The interface between the BPF programs and user space: the records of the ring, the settings the
//! programs are loaded with, and the table of programs.
//!
//! This is the only definition of that format. Every type is `repr(C)`, of fixed size, without hidden
//! padding, in native byte order.
#![no_std]

mod event;
pub mod programs;
mod record;
mod settings;

pub use event::{
    Bitmap, COMM_LEN, Exec, Exit, FdClose, FdOpen, Fork, Header, INLINE_WORDS, MAX_FRAMES,
    MAX_PATH, MAX_PIECES, NO_CALL, PIECE, Payload, Registers, RequestedPath, SetCloexec,
    SnapshotFile, SnapshotTask, Stack, StackPiece, TableBits, WORDS_PER_CHUNK,
};
pub use record::{Event, Flags, Kind, LOST_KINDS, MalformedEvent};
pub use settings::{
    BTF_TASK, CAST, CAST_CALL, Casts, DETAIL, EXCLUDED, FileWindow, INHERIT, MAX_BITMAP_CHUNKS,
    MAX_FILE_WINDOW, MAX_INODE_WINDOW, Offsets, PER_PROCESS, STOPPED, Settings, TASK_REGISTERS,
};

/// A type made of plain bytes: any bit pattern is a value, and it has no padding.
///
/// # Safety
///
/// The type is `repr(C)` and contains no padding, no pointers and no types with invalid values.
pub unsafe trait Plain: Copy + 'static {}
