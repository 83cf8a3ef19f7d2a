//! The entry of one descriptor in a table.

use fdwatch_common::{FdOpen, Header, NO_CALL, Payload, SnapshotFile};

use super::moment::Moment;

/// The identity of a file: equal for all descriptors on it.
///
/// Both ends of a pipe share one inode, and all anonymous files do: the access mode and the
/// description distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The inode; of an anonymous file, its description.
    pub number: u64,
    /// The device, in the kernel's encoding.
    pub dev: u32,
    /// The access mode of a pipe's end; 0 otherwise.
    pub end: u8,
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum FileType {
    /// A regular file, including memory files.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link, opened with `O_PATH`.
    Link,
    /// A pipe, named or not.
    Pipe,
    /// A socket.
    Socket,
    /// A character device, such as a terminal or `/dev/null`.
    Character,
    /// A block device.
    Block,
    /// A kernel object without a file, such as an eventfd or an epoll instance.
    Anonymous,
}

impl FileType {
    /// Returns the name that users see.
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

/// Devices of anonymous files: the kernel's own, which share one inode, and pidfds (since 6.9). In
/// the kernel's encoding; 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnonymousDevices(pub [u32; 2]);

impl AnonymousDevices {
    fn contains(self, device: u32) -> bool {
        device != 0 && self.0.contains(&device)
    }
}

/// The access mode of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `O_RDONLY`.
    Read,
    /// `O_WRONLY`.
    Write,
    /// `O_RDWR`.
    ReadWrite,
    /// Neither: `O_PATH`.
    Path,
}

impl Access {
    /// Returns the name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Write => "w",
            Self::ReadWrite => "rw",
            Self::Path => "path",
        }
    }

    /// Returns whether writing is allowed.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// From include/uapi/asm-generic/fcntl.h; `O_PATH` has the same value on all architectures with
/// BPF.
const O_ACCMODE: u32 = 0o3;
const O_APPEND: u32 = 0o2000;
const O_PATH: u32 = 0o10_000_000;
/// `__O_TMPFILE`, the bit that distinguishes `O_TMPFILE` from `O_DIRECTORY`.
const O_TMPFILE: u32 = 0o20_000_000;

/// The entry of a descriptor: its file and how it was opened. There can be millions, so it is
/// packed, which saves four bytes, and contains only fields that are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(4))]
pub struct FdEntry {
    /// Address of the open file description.
    pub file: u64,
    /// The inode.
    pub ino: u64,
    /// When it was opened, or first seen by a snapshot.
    pub opened: Moment,
    /// The device, in the kernel's encoding.
    pub dev: u32,
    /// The thread that opened it; 0 if unknown.
    pub tid: u32,
    /// The system call that opened it, or [`NO_CALL`].
    pub call: u16,
    bits: u16,
}

const _: () = assert!(size_of::<FdEntry>() == 36);

/// Flags in an entry's `bits`.
const CLOSES_ON_EXEC: u16 = 1;
const FROM_SNAPSHOT: u16 = 2;
const UNLINKED: u16 = 4;
const ANONYMOUS: u16 = 8;
const APPENDS: u16 = 16;
const TEMPORARY: u16 = 32;
const ONLY_A_PATH: u16 = 64;
/// Position of the access mode (`O_ACCMODE`) in `bits`.
const ACCESS_SHIFT: u32 = 8;
/// Position of the file type (`S_IFMT`) in `bits`; the mode is stored unshifted.
const TYPE_SHIFT: u32 = 12;

impl FdEntry {
    pub(super) const EMPTY: Self = Self {
        file: 0,
        ino: 0,
        opened: Moment(0),
        dev: 0,
        tid: 0,
        call: NO_CALL,
        bits: 0,
    };

    /// Creates the entry that a record describes.
    pub(super) fn new(
        header: &Header,
        payload: &Payload,
        opened: Moment,
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
            opened,
            dev: payload.dev,
            tid: if from_snapshot { 0 } else { header.tid },
            call: if from_snapshot { NO_CALL } else { header.call },
            bits,
        }
    }

    /// Returns whether both refer to the same description. Its other flags can change, and are not
    /// compared.
    pub(super) fn has_same_description(&self, other: &Self) -> bool {
        (self.file, self.ino, self.dev, self.access())
            == (other.file, other.ino, other.dev, other.access())
    }

    /// Returns whether close-on-exec is set.
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

    /// Returns whether it was open before fdwatch saw events.
    #[must_use]
    pub const fn is_from_snapshot(&self) -> bool {
        self.bits & FROM_SNAPSHOT != 0
    }

    /// Returns whether the file had no name when the descriptor was opened or last audited.
    #[must_use]
    pub const fn was_unlinked(&self) -> bool {
        self.bits & UNLINKED != 0
    }

    pub(super) const fn set_unlinked(&mut self) {
        self.bits |= UNLINKED;
    }

    /// Returns whether the file was created without a name (`O_TMPFILE`).
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        self.bits & TEMPORARY != 0
    }

    /// Returns the file's type.
    #[must_use]
    pub const fn file_type(&self) -> FileType {
        if self.bits & ANONYMOUS != 0 {
            // Since Linux 6.16 their mode is that of regular files.
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

    /// Returns the access mode.
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

    /// Returns the access mode as in `O_ACCMODE`.
    const fn access_mode(&self) -> u8 {
        (self.bits >> ACCESS_SHIFT & 3) as u8
    }

    /// Returns whether writes append (`O_APPEND`).
    #[must_use]
    pub const fn appends(&self) -> bool {
        self.bits & APPENDS != 0
    }

    /// Returns the identity of its file.
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

/// From include/uapi/linux/stat.h, the same on all architectures.
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

    fn entry(mode: u32, flags: u32, file: u64) -> FdEntry {
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
    fn pipe_ends_are_distinct_files() {
        let (read, write) = (entry(0o010_600, 0, 1), entry(0o010_600, 1, 2));
        assert_ne!(read.identity(), write.identity());
        assert_eq!(read.identity(), entry(0o010_600, 0, 3).identity());
    }

    #[test]
    fn anonymous_files_differ_by_description() {
        assert_eq!(entry(0o600, 2, 1).file_type(), FileType::Anonymous);
        assert_ne!(entry(0o600, 2, 1).identity(), entry(0o600, 2, 2).identity());
        assert_eq!(entry(0o600, 2, 1).identity(), entry(0o600, 2, 1).identity());
    }

    #[test]
    fn anonymous_device_overrides_regular_mode() {
        let payload = Payload {
            dev: 14,
            mode: 0o100_600,
            ..Payload::default()
        };
        let entry = FdEntry::new(
            &Header::default(),
            &payload,
            Moment(1),
            false,
            AnonymousDevices([14, 0]),
        );
        assert_eq!(entry.file_type(), FileType::Anonymous);
    }

    #[test]
    fn access_follows_open_flags() {
        assert_eq!(entry(0o100_644, 0o102_001, 1).access(), Access::Write);
        assert!(entry(0o100_644, 0o102_001, 1).appends());
        assert_eq!(entry(0o100_644, 0o10_000_000, 1).access(), Access::Path);
    }
}
