//! One descriptor, as the model holds it.

use fdwatch_common::{FdOpen, Header, NO_CALL, Payload, SnapshotFile};

/// A moment: nanoseconds since boot, as `CLOCK_BOOTTIME`. No two changes of a model happen at the
/// same moment, so that moments also order what happened: but for the last moment there is, which
/// only a made-up recording comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Nanoseconds from `earlier` to this; none if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// So many nanoseconds later; the last moment there is, if that is before.
    #[must_use]
    pub const fn after(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// What two descriptors have in common when they are on one file.
///
/// Both ends of a pipe are one inode, and all anonymous files share one: these are told apart by
/// what else there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The inode, or the description of an anonymous file.
    pub number: u64,
    /// The device.
    pub dev: u32,
    /// Which end, of a pipe: its access mode.
    pub end: u8,
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum FileType {
    /// Also memory files.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link, which only `O_PATH` opens.
    Link,
    /// A pipe, named or not.
    Pipe,
    /// A socket.
    Socket,
    /// A character device: terminals, `/dev/null`.
    Character,
    /// A block device.
    Block,
    /// No file at all: an eventfd, an epoll instance and the like.
    Anonymous,
}

impl FileType {
    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Directory => "directory",
            Self::Link => "link",
            Self::Pipe => "pipe",
            Self::Socket => "socket",
            Self::Character => "character",
            Self::Block => "block",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Devices of files that are none: of the kernel's anonymous files, which share one inode, and of
/// pidfds (since 6.9). In the kernel's own encoding, in which 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnonymousDevices(pub [u32; 2]);

impl AnonymousDevices {
    fn contains(self, device: u32) -> bool {
        device != 0 && self.0.contains(&device)
    }
}

/// How a description may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For writing.
    Write,
    /// For both.
    ReadWrite,
    /// For neither: `O_PATH`.
    Path,
}

impl Access {
    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Write => "w",
            Self::ReadWrite => "rw",
            Self::Path => "path",
        }
    }

    /// Whether one may write.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// include/uapi/asm-generic/fcntl.h; `O_PATH` is the same wherever there is BPF.
const O_ACCMODE: u32 = 0o3;
const O_APPEND: u32 = 0o2000;
const O_PATH: u32 = 0o10_000_000;
/// The kernel's own bit of it, `__O_TMPFILE`.
const O_TMPFILE: u32 = 0o20_000_000;

/// A descriptor: what it refers to, and how it came to be. Of these there may be millions: packed,
/// for four bytes less, and nothing is kept that is not asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(4))]
pub struct FdEntry {
    /// The open file description.
    pub file: u64,
    /// The inode.
    pub ino: u64,
    /// When it was made, or first seen by a snapshot.
    pub born: Moment,
    /// The device, in the kernel's encoding.
    pub dev: u32,
    /// The thread that made it; 0 if that is not known.
    pub tid: u32,
    /// The syscall that made it, or [`NO_CALL`].
    pub call: u16,
    bits: u16,
}

const _: () = assert!(size_of::<FdEntry>() == 36);

/// In a slot's bits.
const CLOSES_ON_EXEC: u16 = 1;
const FROM_SNAPSHOT: u16 = 2;
const UNLINKED: u16 = 4;
const ANONYMOUS: u16 = 8;
const APPENDS: u16 = 16;
const TEMPORARY: u16 = 32;
const ONLY_A_PATH: u16 = 64;
/// From here on, the access mode, as in `O_ACCMODE`.
const ACCESS_SHIFT: u32 = 8;
/// And the type, as in `S_IFMT`.
const TYPE_SHIFT: u32 = 12;

impl FdEntry {
    pub(super) const EMPTY: Self = Self {
        file: 0,
        ino: 0,
        born: Moment(0),
        dev: 0,
        tid: 0,
        call: NO_CALL,
        bits: 0,
    };

    /// The descriptor of a record.
    pub(super) fn new(
        header: &Header,
        payload: &Payload,
        born: Moment,
        from_snapshot: bool,
        anonymous: AnonymousDevices,
    ) -> Self {
        const CLOEXEC: u8 = FdOpen::CLOEXEC.bits();
        const _: () = assert!(CLOEXEC == SnapshotFile::CLOEXEC.bits());
        let bits = [
            (CLOSES_ON_EXEC, header.flags & CLOEXEC != 0),
            (FROM_SNAPSHOT, from_snapshot),
            (UNLINKED, payload.nlink == 0),
            (ANONYMOUS, anonymous.contains(payload.dev)),
            (APPENDS, payload.flags & O_APPEND != 0),
            (TEMPORARY, payload.flags & O_TMPFILE != 0),
            (ONLY_A_PATH, payload.flags & O_PATH != 0),
        ];
        let bits = bits
            .into_iter()
            .map(|(bit, is_so)| if is_so { bit } else { 0 });
        let access = (payload.flags & O_ACCMODE) as u16;
        let file_type = (payload.mode & mode_bits::S_IFMT) as u16;
        let bits = bits.fold(access << ACCESS_SHIFT | file_type, |all, bit| all | bit);
        Self {
            file: payload.file,
            ino: payload.ino,
            born,
            dev: payload.dev,
            tid: if from_snapshot { 0 } else { header.tid },
            call: if from_snapshot { NO_CALL } else { header.call },
            bits,
        }
    }

    /// Whether both are one description, as far as can be seen: its other flags may change.
    pub(super) fn is_on_the_same(&self, other: &Self) -> bool {
        (self.file, self.ino, self.dev, self.access())
            == (other.file, other.ino, other.dev, other.access())
    }

    /// Whether it closes on exec.
    #[must_use]
    pub const fn closes_on_exec(&self) -> bool {
        self.bits & CLOSES_ON_EXEC != 0
    }

    pub(super) const fn set_closes_on_exec(&mut self, closes: bool) {
        self.bits = if closes {
            self.bits | CLOSES_ON_EXEC
        } else {
            self.bits & !CLOSES_ON_EXEC
        };
    }

    /// Whether it was there before it could be seen being made.
    #[must_use]
    pub const fn is_from_snapshot(&self) -> bool {
        self.bits & FROM_SNAPSHOT != 0
    }

    /// Whether the file had no name any more, or never had one, when the descriptor was made or
    /// last looked at.
    #[must_use]
    pub const fn was_unlinked(&self) -> bool {
        self.bits & UNLINKED != 0
    }

    pub(super) const fn set_unlinked(&mut self) {
        self.bits |= UNLINKED;
    }

    /// Whether the file was made without a name, to be gone when it is closed.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        self.bits & TEMPORARY != 0
    }

    /// The file's type.
    #[must_use]
    pub const fn file_type(&self) -> FileType {
        if self.bits & ANONYMOUS != 0 {
            // From 6.16 on these say they are regular files.
            return FileType::Anonymous;
        }
        match (self.bits >> TYPE_SHIFT << TYPE_SHIFT) as u32 {
            mode_bits::S_IFREG => FileType::Regular,
            mode_bits::S_IFDIR => FileType::Directory,
            mode_bits::S_IFLNK => FileType::Link,
            mode_bits::S_IFIFO => FileType::Pipe,
            mode_bits::S_IFSOCK => FileType::Socket,
            mode_bits::S_IFCHR => FileType::Character,
            mode_bits::S_IFBLK => FileType::Block,
            _ => FileType::Anonymous,
        }
    }

    /// How it may be used.
    #[must_use]
    pub const fn access(&self) -> Access {
        if self.bits & ONLY_A_PATH != 0 {
            return Access::Path;
        }
        match self.access_mode() {
            0 => Access::Read,
            1 => Access::Write,
            _ => Access::ReadWrite,
        }
    }

    /// As in `O_ACCMODE`.
    const fn access_mode(&self) -> u8 {
        (self.bits >> ACCESS_SHIFT & 3) as u8
    }

    /// Whether what it writes goes to the end.
    #[must_use]
    pub const fn appends(&self) -> bool {
        self.bits & APPENDS != 0
    }

    /// What it has in common with others on the same file.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        let (number, end) = match self.file_type() {
            FileType::Anonymous => (self.file, 0),
            FileType::Pipe => (self.ino, self.access_mode()),
            _ => (self.ino, 0),
        };
        Identity {
            number,
            dev: self.dev,
            end,
        }
    }
}

/// include/uapi/linux/stat.h, the same everywhere.
mod mode_bits {
    pub(super) const S_IFMT: u32 = 0o170_000;
    pub(super) const S_IFSOCK: u32 = 0o140_000;
    pub(super) const S_IFLNK: u32 = 0o120_000;
    pub(super) const S_IFREG: u32 = 0o100_000;
    pub(super) const S_IFBLK: u32 = 0o060_000;
    pub(super) const S_IFDIR: u32 = 0o040_000;
    pub(super) const S_IFCHR: u32 = 0o020_000;
    pub(super) const S_IFIFO: u32 = 0o010_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(mode: u32, flags: u32, file: u64) -> FdEntry {
        let payload = Payload {
            file,
            ino: 7,
            dev: 1,
            flags,
            mode,
            nlink: 1,
        };
        FdEntry::new(
            &Header::default(),
            &payload,
            Moment(1),
            false,
            AnonymousDevices([14, 0]),
        )
    }

    #[test]
    fn the_ends_of_a_pipe_are_two_files() {
        let (read, write) = (slot(0o010_600, 0, 1), slot(0o010_600, 1, 2));
        assert_ne!(read.identity(), write.identity());
        assert_eq!(read.identity(), slot(0o010_600, 0, 3).identity());
    }

    #[test]
    fn anonymous_files_are_one_only_if_their_description_is() {
        assert_eq!(slot(0o600, 2, 1).file_type(), FileType::Anonymous);
        assert_ne!(slot(0o600, 2, 1).identity(), slot(0o600, 2, 2).identity());
        assert_eq!(slot(0o600, 2, 1).identity(), slot(0o600, 2, 1).identity());
    }

    #[test]
    fn the_device_tells_an_anonymous_file_that_says_it_is_regular() {
        let payload = Payload {
            dev: 14,
            mode: 0o100_600,
            ..Payload::default()
        };
        let slot = FdEntry::new(
            &Header::default(),
            &payload,
            Moment(1),
            false,
            AnonymousDevices([14, 0]),
        );
        assert_eq!(slot.file_type(), FileType::Anonymous);
    }

    #[test]
    fn access_is_from_the_flags() {
        assert_eq!(slot(0o100_644, 0o102_001, 1).access(), Access::Write);
        assert!(slot(0o100_644, 0o102_001, 1).appends());
        assert_eq!(slot(0o100_644, 0o10_000_000, 1).access(), Access::Path);
    }
}
