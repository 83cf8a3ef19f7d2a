//! The records of the ring.
//!
//! Each begins with a [`Header`]. Where a record says *table* or *file* it means the address of the
//! kernel's `files_struct` or `struct file`: identities while the thing lives, and no more than that.

use core::fmt;

use crate::Plain;

/// Bytes of a task's name, as the kernel keeps it: NUL-terminated within.
pub const COMM_LEN: usize = 16;

/// In [`Header::call`]: no syscall stands behind this record.
pub const NO_CALL: u16 = u16::MAX;

/// In [`Header::flags`]: the descriptor is closed on exec.
pub const CLOEXEC: u8 = 1;

/// In [`Header::flags`] of an [`Exit`]: the whole process is gone, not one thread of it.
pub const EVERY_THREAD: u8 = 1;

/// In [`Header::flags`] of an [`Exit`]: no other task holds the table.
pub const ONLY_HOLDER: u8 = 2;

/// In [`Header::flags`] of a [`Fork`], where more than one task held the parent's table, so that
/// others could change it meanwhile: the child's numbers follow as [`TableBits`]. In those of a
/// [`FdClose`] and a [`SetCloexec`], where it is so of their table.
pub const SHARED_TABLE: u8 = 4;

/// In [`Header::flags`] of a [`Fork`]: the child is a thread of the parent's process, with a table
/// of its own.
pub const CLONED_THREAD: u8 = 2;

/// In [`Header::flags`] of a [`TableBits`] at the exit of a call by which a thread may have come to
/// a table of its own: its process has other threads.
pub const OTHER_THREADS: u8 = 8;

/// In [`Header::flags`] of a [`FdClose`] of a number that was not open: the one the thread closed just
/// before, and near it, was not open either. Of a loop that closes all there could be, the first is
/// told, and the second with this.
pub const IN_A_ROW: u8 = 16;

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A descriptor was made: [`FdOpen`].
    FdOpen = 1,
    /// A descriptor is about to be closed: [`FdClose`].
    FdClose = 2,
    /// Its close-on-exec flag was set or cleared: [`SetCloexec`].
    SetCloexec = 3,
    /// A process, or a thread with a table of its own, was made: [`Fork`].
    Fork = 4,
    /// A process runs another program: [`Exec`].
    Exec = 5,
    /// A process, or a thread with a table of its own, ends: [`Exit`].
    Exit = 6,
    /// Which numbers of a table are open, or close on exec: [`TableBits`].
    TableBits = 7,
    /// The snapshot has come to this task: [`SnapshotTask`].
    SnapshotTask = 8,
    /// The snapshot found this descriptor open: [`SnapshotFile`].
    SnapshotFile = 9,
    /// Where in the program the thread is that makes or closes a descriptor next: [`Stack`].
    Stack = 10,
    /// The path that the thread is about to open: [`AskedPath`].
    AskedPath = 11,
    /// The registers of the thread, for what [`Stack`] tells by them: [`Registers`].
    Registers = 12,
    /// A piece of its stack, for the same: [`StackPiece`].
    StackPiece = 13,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::FdOpen,
        Self::FdClose,
        Self::SetCloexec,
        Self::Fork,
        Self::Exec,
        Self::Exit,
        Self::TableBits,
        Self::SnapshotTask,
        Self::SnapshotFile,
        Self::Stack,
        Self::AskedPath,
        Self::Registers,
        Self::StackPiece,
    ];

    /// Those that tell of detail: they may be left out.
    pub const DETAIL: [Self; 4] = [
        Self::Stack,
        Self::AskedPath,
        Self::Registers,
        Self::StackPiece,
    ];

    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FdOpen => "birth",
            Self::FdClose => "death",
            Self::SetCloexec => "set-cloexec",
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::TableBits => "table-bits",
            Self::SnapshotTask => "snapshot-task",
            Self::SnapshotFile => "snapshot-file",
            Self::Stack => "stack",
            Self::AskedPath => "asked-path",
            Self::Registers => "registers",
            Self::StackPiece => "stack-piece",
        }
    }
}

/// What every record begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// A [`Kind`], as its number.
    pub kind: u8,
    /// [`CLOEXEC`] and the like, by kind.
    pub flags: u8,
    /// Number of the syscall that did it, in the machine's own numbering, or [`NO_CALL`].
    pub call: u16,
    /// The descriptor, where the record is about one.
    pub fd: u32,
    /// The thread, in the initial pid namespace.
    pub tid: u32,
    /// Its process, in the initial pid namespace.
    pub tgid: u32,
}

/// What a descriptor refers to, at the moment of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Payload {
    /// The open file description: address of its `struct file`.
    pub file: u64,
    /// Inode number.
    pub ino: u64,
    /// Device in the kernel's own encoding: major above 20 bits of minor.
    pub dev: u32,
    /// `f_flags`: access mode, `O_APPEND` and the like.
    pub flags: u32,
    /// `i_mode`: type and permissions.
    pub mode: u32,
    /// Hard links of the inode: none, and the file is deleted or never had a name.
    pub nlink: u32,
}

/// A descriptor was made. At the exit of the syscall; where the number was open before, what it
/// referred to was closed by this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FdOpen {
    /// [`Kind::FdOpen`]; flags: [`CLOEXEC`].
    pub header: Header,
    /// The table it is in.
    pub table: u64,
    /// What it refers to.
    pub payload: Payload,
}

/// A descriptor is about to be closed. At the entry of the syscall. If it is not open and no other
/// task holds the table, who might make it meanwhile, this is told of the first two of a row only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FdClose {
    /// [`Kind::FdClose`]; flags: [`SHARED_TABLE`], [`IN_A_ROW`].
    pub header: Header,
    /// The table it is in.
    pub table: u64,
    /// The description it refers to; 0, if it was not open.
    pub file: u64,
}

/// A descriptor's close-on-exec flag was or is about to be set ([`CLOEXEC`] in the flags) or
/// cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SetCloexec {
    /// [`Kind::SetCloexec`]; flags: [`CLOEXEC`], [`SHARED_TABLE`].
    pub header: Header,
    /// The table it is in.
    pub table: u64,
}

/// A task with a table of its own was made, or a process that shares its parent's. Before the task
/// runs. Threads that share their leader's table are not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Fork {
    /// [`Kind::Fork`]; thread and process are the child's; flags: [`SHARED_TABLE`],
    /// [`CLONED_THREAD`].
    pub header: Header,
    /// The child's table: the parent's own if they share it, else a copy of it.
    pub table: u64,
    /// The parent's table.
    pub parent_table: u64,
    /// When the child was started: nanoseconds since boot, as `CLOCK_BOOTTIME`.
    pub start_time: u64,
    /// The thread that forked.
    pub parent_tid: u32,
    /// Its process.
    pub parent_tgid: u32,
}

/// Words of the bitmap that [`Exec`] carries itself: 256 descriptors.
pub const INLINE_WORDS: usize = 4;

/// A process runs another program. Descriptors that close on exec are closed already; which are
/// left is in `open`, and beyond that in the [`TableBits`] that come before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exec {
    /// [`Kind::Exec`]; the thread is the one that called, which then becomes the leader.
    pub header: Header,
    /// Its table: another than before if that was shared.
    pub table: u64,
    /// The new name.
    pub comm: [u8; COMM_LEN],
    /// Open numbers below 256, by 64.
    pub open: [u64; INLINE_WORDS],
}

/// A process ends ([`EVERY_THREAD`] in the flags), or a thread with a table of its own does. A
/// leader with a table of its own that ends before its threads is told as such a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exit {
    /// [`Kind::Exit`]; flags: [`EVERY_THREAD`], [`ONLY_HOLDER`].
    pub header: Header,
}

/// Words of a bitmap in one [`TableBits`]: 2,048 descriptors.
pub const WORDS_PER_CHUNK: usize = 32;

/// Which bitmap of a table a [`TableBits`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bitmap {
    /// `open_fds`: the descriptors that are open.
    Open,
    /// `close_on_exec`: those that close on exec, among others that are not open.
    CloseOnExec,
}

/// A part of one of a table's bitmaps. No number outside of it is spoken of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TableBits {
    /// [`Kind::TableBits`]; flags: [`CLOEXEC`] for [`Bitmap::CloseOnExec`], [`OTHER_THREADS`]; fd:
    /// the first descriptor of `words`.
    pub header: Header,
    /// The table.
    pub table: u64,
    /// How many of `words` are there; what is in the others means nothing.
    pub len: u32,
    /// How many descriptors the whole table has room for.
    pub capacity: u32,
    /// One bit a descriptor.
    pub words: [u64; WORDS_PER_CHUNK],
}

/// The snapshot has come to a task with a table of its own; its descriptors follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SnapshotTask {
    /// [`Kind::SnapshotTask`].
    pub header: Header,
    /// Its table.
    pub table: u64,
    /// When its process was started: nanoseconds since boot, as `CLOCK_BOOTTIME`.
    pub start_time: u64,
    /// Its name.
    pub comm: [u8; COMM_LEN],
    /// The process it is a child of.
    pub parent: u32,
    /// Not used.
    pub reserved: u32,
}

/// The snapshot found a descriptor open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SnapshotFile {
    /// [`Kind::SnapshotFile`]; flags: [`CLOEXEC`].
    pub header: Header,
    /// The table it is in.
    pub table: u64,
    /// What it refers to.
    pub payload: Payload,
}

/// Frames that a [`Stack`] holds, at most.
pub const MAX_FRAMES: usize = 64;

/// Where in its program a thread is, of a process of which detail is wanted. The thread's next
/// [`FdOpen`] or [`FdClose`] in the ring is what it is about; of two descriptors made by one call, the
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Stack {
    /// [`Kind::Stack`].
    pub header: Header,
    /// How many of `frames` are there; what is in the others means nothing.
    pub len: u32,
    /// Not used.
    pub reserved: u32,
    /// Addresses in the process's memory: where it entered the kernel, and then what returns are to.
    /// As far as frame pointers lead.
    pub frames: [u64; MAX_FRAMES],
}

/// In [`Header::flags`] of an [`AskedPath`]: the path goes on.
pub const CUT: u8 = 1;

/// Bytes of a path that an [`AskedPath`] holds, at most.
pub const MAX_PATH: usize = 256;

/// The path that a thread asks to be opened, as it gave it, of a process of which detail is wanted.
/// The thread's next [`FdOpen`], if there is one, is what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct AskedPath {
    /// [`Kind::AskedPath`]; flags: [`CUT`].
    pub header: Header,
    /// How many of `bytes` are there.
    pub len: u32,
    /// Not used.
    pub reserved: u32,
    /// The path, without what ends it.
    pub bytes: [u8; MAX_PATH],
}

/// What a thread's registers were as it entered the kernel: what its stack can be unwound from, where
/// frame pointers do not lead. After its [`Stack`], and about the same; not told where the kernel gives
/// no way to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// [`Kind::Registers`].
    pub header: Header,
    /// Where it was in its program.
    pub ip: u64,
    /// The end of its stack.
    pub sp: u64,
    /// The register that may be a frame pointer.
    pub bp: u64,
    /// Where the function it was in returns to, on processors that have a register for that; on the
    /// others it means nothing.
    pub lr: u64,
}

/// Bytes of a [`StackPiece`]: a part of a page, so that it can be read as a whole or not at all.
pub const PIECE: usize = 2048;

/// Pieces of a stack that are told, at most: 16 KiB.
pub const MAX_PIECES: usize = 8;

/// A piece of the thread's stack. The first is the one that its [`Registers`] say it is in, the others
/// follow on each other outwards, as far as they can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StackPiece {
    /// [`Kind::StackPiece`].
    pub header: Header,
    /// Where it begins in the process's memory: a multiple of [`PIECE`].
    pub address: u64,
    /// What stands there.
    pub bytes: [u8; PIECE],
}

impl Stack {
    /// The frames that are there, from the inside out.
    #[must_use]
    pub fn frames(&self) -> &[u64] {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        &self.frames[..len.min(MAX_FRAMES)]
    }
}

impl AskedPath {
    /// The bytes that are there.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        &self.bytes[..len.min(MAX_PATH)]
    }
}

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident: $size:literal),* $(,)?) => {
        /// A record of the ring, taken apart.
        #[derive(Clone, Copy, Debug)]
        pub enum Event<'a> {
            $($(#[$doc])* $name(&'a $name),)*
        }

        impl<'a> Event<'a> {
            /// Takes a record apart. It must be aligned to 8 bytes, as all in the ring are.
            ///
            /// # Errors
            ///
            /// If the kind is not known, or the size or the alignment is not that of the kind.
            pub fn parse(record: &'a [u8]) -> Result<Self, MalformedEvent> {
                let kind = record.first().copied().unwrap_or(0);
                let malformed = MalformedEvent { kind, size: record.len() };
                $(if kind == Kind::$name as u8 {
                    return view(record).map(Self::$name).ok_or(malformed);
                })*
                Err(malformed)
            }
        }

        $(
            const _: () = assert!(size_of::<$name>() == $size && align_of::<$name>() <= 8);
            // SAFETY: integers only, and the sizes of the fields add up to the asserted size.
            unsafe impl Plain for $name {}

            impl $name {
                /// Its kind.
                pub const KIND: Kind = Kind::$name;

                /// The record, byte by byte.
                #[must_use]
                pub const fn as_bytes(&self) -> &[u8] {
                    // SAFETY: `Self` is `Plain`, so that all its bytes are initialized.
                    unsafe {
                        core::slice::from_raw_parts(core::ptr::from_ref(self).cast(), $size)
                    }
                }
            }
        )*
    };
}

records! {
    /// See there.
    FdOpen: 56,
    /// See there.
    FdClose: 32,
    /// See there.
    SetCloexec: 24,
    /// See there.
    Fork: 48,
    /// See there.
    Exec: 72,
    /// See there.
    Exit: 16,
    /// See there.
    TableBits: 288,
    /// See there.
    SnapshotTask: 56,
    /// See there.
    SnapshotFile: 56,
    /// See there.
    Stack: 536,
    /// See there.
    AskedPath: 280,
    /// See there.
    Registers: 48,
    /// See there.
    StackPiece: 2072,
}

// SAFETY: integers only, and the sizes of the fields add up.
unsafe impl Plain for Header {}
const _: () = assert!(size_of::<Header>() == 16);

fn view<T: Plain>(record: &[u8]) -> Option<&T> {
    let pointer = record.as_ptr().cast::<T>();
    if record.len() != size_of::<T>() || !pointer.is_aligned() {
        return None;
    }
    // SAFETY: the slice has the size and the alignment of `T`, lives as long as the result, and any
    // bytes are a `T`.
    Some(unsafe { &*pointer })
}

impl Header {
    /// What a record begins with, if it is long enough.
    #[must_use]
    pub fn of(record: &[u8]) -> Option<&Self> {
        view(record.get(..size_of::<Self>())?)
    }
}

impl Event<'_> {
    /// What the record begins with.
    #[must_use]
    pub const fn header(&self) -> &Header {
        match self {
            Self::FdOpen(event) => &event.header,
            Self::FdClose(event) => &event.header,
            Self::SetCloexec(event) => &event.header,
            Self::Fork(event) => &event.header,
            Self::Exec(event) => &event.header,
            Self::Exit(event) => &event.header,
            Self::TableBits(event) => &event.header,
            Self::SnapshotTask(event) => &event.header,
            Self::SnapshotFile(event) => &event.header,
            Self::Stack(event) => &event.header,
            Self::AskedPath(event) => &event.header,
            Self::Registers(event) => &event.header,
            Self::StackPiece(event) => &event.header,
        }
    }
}

impl TableBits {
    /// The words that are there.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        &self.words[..len.min(WORDS_PER_CHUNK)]
    }

    /// Which bitmap this is a part of.
    #[must_use]
    pub const fn bitmap(&self) -> Bitmap {
        if self.header.flags & CLOEXEC == 0 {
            Bitmap::Open
        } else {
            Bitmap::CloseOnExec
        }
    }
}

/// Bytes that are no record of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedEvent {
    /// The number in the place of the kind.
    pub kind: u8,
    /// Bytes there were.
    pub size: usize,
}

impl fmt::Display for MalformedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, size } = self;
        write!(f, "no record has kind {kind} and {size} bytes")
    }
}

impl core::error::Error for MalformedEvent {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back() {
        let birth = FdOpen {
            header: Header {
                kind: Kind::FdOpen as u8,
                fd: 7,
                ..Header::default()
            },
            ..FdOpen::default()
        };
        match Event::parse(birth.as_bytes()) {
            Ok(Event::FdOpen(read)) => assert_eq!(*read, birth),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let mut exit = Exit::default();
        let kind_of = |bytes: &[u8]| Event::parse(bytes).map(|_| ()).unwrap_err().kind;
        assert_eq!(kind_of(&[]), 0);
        assert_eq!(kind_of(exit.as_bytes()), 0);
        exit.header.kind = Kind::FdOpen as u8;
        assert_eq!(kind_of(exit.as_bytes()), Kind::FdOpen as u8);
        exit.header.kind = 200;
        assert_eq!(kind_of(exit.as_bytes()), 200);
        exit.header.kind = Kind::Exit as u8;
        assert!(Event::parse(exit.as_bytes()).is_ok());
        assert_eq!(kind_of(&exit.as_bytes()[..15]), Kind::Exit as u8);
    }
}
