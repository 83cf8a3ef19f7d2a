//! The records of the ring.
//!
//! Each begins with a [`Header`]. A table or a file in a record is the address of the kernel's
//! `files_struct` or `struct file`. An address identifies the object for its lifetime.

use core::mem::offset_of;

/// Size of a task's name in bytes, including the NUL (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;

/// Value of [`Header::call`] in records that no system call caused.
pub const NO_CALL: u16 = u16::MAX;

/// The beginning of every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// The number of the [`Kind`](crate::Kind).
    pub kind: u8,
    /// The bits of the kind's [`Flags`](crate::Flags).
    pub flags: u8,
    /// Number of the system call that caused the record, in the machine's own numbering, or
    /// [`NO_CALL`].
    pub call: u16,
    /// The descriptor, in records about one.
    pub fd: u32,
    /// The thread, in the initial pid namespace.
    pub tid: u32,
    /// The process, in the initial pid namespace.
    pub tgid: u32,
}

/// The file a descriptor refers to when the record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Payload {
    /// The open file description: address of its `struct file`.
    pub file: u64,
    /// Inode number.
    pub ino: u64,
    /// Device in the kernel's encoding: major above 20 bits of minor.
    pub dev: u32,
    /// `f_flags`: access mode, `O_APPEND` and others.
    pub flags: u32,
    /// `i_mode`: type and permissions.
    pub mode: u32,
    /// Hard links of the inode. 0: the file is deleted or never had a name.
    pub nlink: u32,
}

/// A descriptor was created. Written at the exit of the system call. If the descriptor was open
/// before, the call replaced it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FdOpen {
    /// The header.
    pub header: Header,
    /// The table that holds the descriptor.
    pub table: u64,
    /// The file it refers to.
    pub payload: Payload,
}

/// A descriptor is about to be closed. Written at the entry of the system call. Closes of
/// descriptors that are not open are written for the first two of a loop, and always if another task
/// shares the table and could open the descriptor meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FdClose {
    /// The header.
    pub header: Header,
    /// The table that holds the descriptor.
    pub table: u64,
    /// The open file description it refers to; 0 if it is not open.
    pub file: u64,
}

/// A descriptor's close-on-exec flag is about to change. If other tasks share the table, it may have
/// been written after the change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SetCloexec {
    /// The header.
    pub header: Header,
    /// The table that holds the descriptor.
    pub table: u64,
}

/// A process, or a thread with its own table, was created. Written before it runs. Threads that
/// share their leader's table have no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Fork {
    /// The header; thread and process are the child's.
    pub header: Header,
    /// The child's table: the parent's own if they share it, else a copy.
    pub table: u64,
    /// The parent's table.
    pub parent_table: u64,
    /// Start time of the child: nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub start_time: u64,
    /// The thread that forked.
    pub parent_tid: u32,
    /// Its process.
    pub parent_tgid: u32,
}

/// Words of the bitmap in an [`Exec`]: 256 descriptors.
pub const INLINE_WORDS: usize = 4;

/// A process executed a program. Its close-on-exec descriptors are closed already. The open ones are
/// in `open`; those from 256 on are in the [`TableBits`] before this record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exec {
    /// The header; the thread is the one that called, which then becomes the leader.
    pub header: Header,
    /// The process's table: a new one if the old one was shared.
    pub table: u64,
    /// The new name.
    pub comm: [u8; COMM_LEN],
    /// Bitmap of open descriptors below 256.
    pub open: [u64; INLINE_WORDS],
}

/// A process, or a thread with its own table, exited. A leader with its own table that exits before
/// its threads counts as such a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exit {
    /// The header.
    pub header: Header,
}

/// Words of the bitmap in a [`TableBits`]: 2,048 descriptors.
pub const WORDS_PER_CHUNK: usize = 32;

/// A bitmap of a descriptor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bitmap {
    /// `open_fds`: the open descriptors.
    Open,
    /// `close_on_exec`: the descriptors that are closed on exec. It may include others that are not
    /// open.
    CloseOnExec,
}

/// Part of a bitmap of a table. Other descriptors are unspecified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TableBits {
    /// The header; `fd` is the first descriptor of `words`.
    pub header: Header,
    /// The table.
    pub table: u64,
    /// Number of valid `words`.
    pub len: u32,
    /// Number of descriptors that the whole table has room for.
    pub capacity: u32,
    /// One bit per descriptor.
    pub words: [u64; WORDS_PER_CHUNK],
}

/// The snapshot reached a task with its own table. The task's descriptors follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SnapshotTask {
    /// The header.
    pub header: Header,
    /// The task's table.
    pub table: u64,
    /// Start time of its process: nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub start_time: u64,
    /// Its name.
    pub comm: [u8; COMM_LEN],
    /// Its parent process.
    pub parent: u32,
    /// Unused.
    pub reserved: u32,
}

/// The snapshot found an open descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SnapshotFile {
    /// The header.
    pub header: Header,
    /// The table that holds the descriptor.
    pub table: u64,
    /// The file it refers to.
    pub payload: Payload,
}

/// Maximum number of frames in a [`Stack`].
pub const MAX_FRAMES: usize = 64;

/// The call stack of a thread, if detail of its process is enabled. It belongs to the thread's next
/// [`FdOpen`] or [`FdClose`] in the ring; if one call creates two descriptors, to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Stack {
    /// The header.
    pub header: Header,
    /// Number of valid `frames`.
    pub len: u32,
    /// Unused.
    pub reserved: u32,
    /// Addresses in the process's memory: where it entered the kernel, then return addresses, as far
    /// as frame pointers lead.
    pub frames: [u64; MAX_FRAMES],
}

/// Maximum number of bytes in a [`RequestedPath`].
pub const MAX_PATH: usize = 256;

/// The path argument of a thread's open call, if detail of its process is enabled. It belongs to the
/// thread's next [`FdOpen`], unless the call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RequestedPath {
    /// The header.
    pub header: Header,
    /// Number of valid `bytes`.
    pub len: u32,
    /// Unused.
    pub reserved: u32,
    /// The path, without the NUL.
    pub bytes: [u8; MAX_PATH],
}

/// The registers of a thread when it entered the kernel. Its stack is unwound from them where frame
/// pointers do not lead. Follows its [`Stack`], if the kernel gives access to the registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// The header.
    pub header: Header,
    /// The instruction pointer.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The register that may be a frame pointer.
    pub bp: u64,
    /// The return address, on processors with a register for it; undefined on others.
    pub lr: u64,
}

/// Size of a [`StackPiece`] in bytes: part of a page, so that it can be read as a whole or not at
/// all.
pub const PIECE: usize = 2048;

/// Maximum number of pieces of one stack: 16 KiB.
pub const MAX_PIECES: usize = 8;

/// A piece of a thread's stack memory. The first contains the stack pointer of its [`Registers`]; the
/// others follow at increasing addresses, as far as they are readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StackPiece {
    /// The header.
    pub header: Header,
    /// Address in the process's memory: a multiple of [`PIECE`].
    pub address: u64,
    /// The memory.
    pub bytes: [u8; PIECE],
}

impl Stack {
    /// Returns the valid frames, innermost first.
    #[must_use]
    pub fn frames(&self) -> &[u64] {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        &self.frames[..len.min(MAX_FRAMES)]
    }
}

impl RequestedPath {
    /// Returns the valid bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        &self.bytes[..len.min(MAX_PATH)]
    }
}

impl TableBits {
    /// Returns the valid words.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        &self.words[..len.min(WORDS_PER_CHUNK)]
    }

    /// Returns which bitmap this is a part of.
    #[must_use]
    pub const fn bitmap(&self) -> Bitmap {
        if self.has(Self::CLOEXEC) {
            Bitmap::CloseOnExec
        } else {
            Bitmap::Open
        }
    }
}

/// Asserts offsets of fields, in bytes.
macro_rules! offsets {
    ($($record:ident { $($field:ident: $offset:literal),* })*) => {
        $($(const _: () = assert!(offset_of!($record, $field) == $offset);)*)*
    };
}

offsets! {
    Header { kind: 0, flags: 1, call: 2, fd: 4, tid: 8, tgid: 12 }
    Payload { file: 0, ino: 8, dev: 16, flags: 20, mode: 24, nlink: 28 }
    FdOpen { header: 0, table: 16, payload: 24 }
    FdClose { header: 0, table: 16, file: 24 }
    SetCloexec { header: 0, table: 16 }
    Fork { header: 0, table: 16, parent_table: 24, start_time: 32, parent_tid: 40, parent_tgid: 44 }
    Exec { header: 0, table: 16, comm: 24, open: 40 }
    Exit { header: 0 }
    TableBits { header: 0, table: 16, len: 24, capacity: 28, words: 32 }
    SnapshotTask { header: 0, table: 16, start_time: 24, comm: 32, parent: 48, reserved: 52 }
    SnapshotFile { header: 0, table: 16, payload: 24 }
    Stack { header: 0, len: 16, reserved: 20, frames: 24 }
    RequestedPath { header: 0, len: 16, reserved: 20, bytes: 24 }
    Registers { header: 0, ip: 16, sp: 24, bp: 32, lr: 40 }
    StackPiece { header: 0, address: 16, bytes: 24 }
}
