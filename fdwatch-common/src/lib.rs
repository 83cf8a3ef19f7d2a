//! What the BPF programs and userspace say to one another: the records of the ring, and the
//! settings the programs are loaded with.
//!
//! This is the one home of the format. Every type is `repr(C)`, of fixed size and without hidden
//! padding, in the machine's own byte order. There is no logic here beyond taking a record apart,
//! and nothing in here knows aya, the model or the operating system.
#![no_std]

mod event;
mod settings;

pub use event::{
    AskedPath, Bitmap, CLOEXEC, CLONED_THREAD, COMM_LEN, CUT, EVERY_THREAD, Event, Exec, Exit,
    FdClose, FdOpen, Fork, Header, IN_A_ROW, INLINE_WORDS, Kind, MAX_FRAMES, MAX_PATH, MAX_PIECES,
    MalformedEvent, NO_CALL, ONLY_HOLDER, OTHER_THREADS, PIECE, Payload, Registers, SHARED_TABLE,
    SetCloexec, SnapshotFile, SnapshotTask, Stack, StackPiece, TableBits, WORDS_PER_CHUNK,
};
pub use settings::{
    ASKED_OF_SOME, BTF_TASK, CAST, CAST_CALL, Casts, DETAIL, FileWindow, INHERITED, LOST_KINDS,
    MAX_BITMAP_CHUNKS, MAX_FILE_WINDOW, MAX_INODE_WINDOW, NOT_FOLLOWED, Offsets, STOPPED, Settings,
    TASK_REGISTERS,
};

/// A type that is nothing but bytes: any bit pattern is a value, and no byte of it is padding.
///
/// # Safety
///
/// The implementor is `repr(C)`, holds no padding, no pointer and no type with invalid values.
pub unsafe trait Plain: Copy + 'static {}
