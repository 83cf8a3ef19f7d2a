//! The table of record kinds. It generates [`Kind`], [`Event`], the flags of each kind and the
//! counters of lost records.

use core::{fmt, marker::PhantomData, ops::BitOr, ptr, slice};

use crate::{
    Plain,
    event::{
        Exec, Exit, FdClose, FdOpen, Fork, Header, Registers, RequestedPath, SetCloexec,
        SnapshotFile, SnapshotTask, Stack, StackPiece, TableBits,
    },
};

/// A set of flags in the [`Header::flags`] of a record of type `R`.
pub struct Flags<R> {
    bits: u8,
    record: PhantomData<fn() -> R>,
}

impl<R> Flags<R> {
    /// The empty set.
    pub const NONE: Self = Self::from_bits(0);

    const fn from_bits(bits: u8) -> Self {
        Self {
            bits,
            record: PhantomData,
        }
    }

    /// Returns the value of [`Header::flags`].
    #[must_use]
    #[inline(always)]
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Returns these flags if the condition holds, and the empty set otherwise.
    #[must_use]
    #[inline(always)]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl<R> Clone for Flags<R> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Flags<R> {}

impl<R> BitOr for Flags<R> {
    type Output = Self;

    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self::from_bits(self.bits | other.bits)
    }
}

/// Expects kinds in the order of their numbers, which begin at 1: name, number, name in JSON and
/// metrics, size in bytes, flags.
macro_rules! records {
    ($(
        $(#[$doc:meta])*
        $name:ident = $number:literal, $text:literal, $size:literal bytes
        $({ $($(#[$flag_doc:meta])* $flag:ident = $bit:literal,)+ })?
    )*) => {
        /// The kind of a record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $number,)*
        }

        impl Kind {
            /// All kinds, in the order of their numbers.
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$name),*];

            /// Returns the name in JSON and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        /// A record of the ring, by kind.
        #[derive(Clone, Copy, Debug)]
        pub enum Event<'a> {
            $($(#[$doc])* $name(&'a $name),)*
        }

        impl<'a> Event<'a> {
            /// Parses a record, which must be aligned to 8 bytes. All records in the ring are.
            ///
            /// # Errors
            ///
            /// If the kind is unknown, or the size or the alignment is not that of the kind.
            pub fn parse(record: &'a [u8]) -> Result<Self, MalformedEvent> {
                let kind = record.first().copied().unwrap_or(0);
                let malformed = MalformedEvent { kind, size: record.len() };
                $(if kind == Kind::$name as u8 {
                    return view(record).map(Self::$name).ok_or(malformed);
                })*
                Err(malformed)
            }

            /// Returns the record's header.
            #[must_use]
            pub const fn header(&self) -> &Header {
                match self {
                    $(Self::$name(record) => &record.header,)*
                }
            }
        }

        $(
            const _: () = assert!(size_of::<$name>() == $size && align_of::<$name>() <= 8);
            // SAFETY: integers only, and the sizes of the fields add up to the asserted size.
            unsafe impl Plain for $name {}

            impl $name {
                /// The kind of these records.
                pub const KIND: Kind = Kind::$name;

                $($($(#[$flag_doc])* pub const $flag: Flags<Self> = Flags::from_bits($bit);)+)?

                /// Returns whether any of the flags is set.
                #[must_use]
                pub const fn has(&self, flags: Flags<Self>) -> bool {
                    self.header.flags & flags.bits() != 0
                }

                /// Returns the bytes of the record.
                #[must_use]
                pub const fn as_bytes(&self) -> &[u8] {
                    // SAFETY: `Self` is `Plain`: all of its bytes are initialized.
                    unsafe { slice::from_raw_parts(ptr::from_ref(self).cast(), $size) }
                }
            }

            $(
                const _: () = assert!(
                    0 $(+ $bit)+ == 0_u32 $(| $bit)+ && 0_u32 $(| $bit)+ <= u8::MAX as u32,
                    "each flag of a kind has its own bit"
                );
            )?
        )*
    };
}

records! {
    /// A descriptor was created.
    FdOpen = 1, "birth", 56 bytes {
        /// The descriptor is closed on exec.
        CLOEXEC = 1,
    }
    /// A descriptor is about to be closed.
    FdClose = 2, "death", 32 bytes {
        /// More than one task holds the table.
        SHARED_TABLE = 4,
        /// The descriptor was not open, and neither was the one the thread closed just before, whose
        /// number is near. Of a loop that closes every possible descriptor, the first record lacks
        /// this flag, the second has it, and the others are not written.
        CONSECUTIVE = 16,
    }
    /// A close-on-exec flag was set or cleared.
    SetCloexec = 3, "set-cloexec", 24 bytes {
        /// The descriptor is closed on exec from now on.
        CLOEXEC = 1,
        /// More than one task holds the table.
        SHARED_TABLE = 4,
    }
    /// A process, or a thread with its own table, was created.
    Fork = 4, "fork", 48 bytes {
        /// The child is a thread of the parent's process, with its own table.
        THREAD = 2,
        /// More than one task held the parent's table and could change it during the fork. The
        /// child's open descriptors follow as [`TableBits`].
        SHARED_TABLE = 4,
    }
    /// A process executed a program.
    Exec = 5, "exec", 72 bytes
    /// A process, or a thread with its own table, exited.
    Exit = 6, "exit", 16 bytes {
        /// The last thread exited: the process is gone.
        LAST_THREAD = 1,
        /// No other task holds the table.
        LAST_HOLDER = 2,
    }
    /// Part of a table's bitmap of open or of close-on-exec descriptors.
    TableBits = 7, "table-bits", 288 bytes {
        /// The bitmap is [`Bitmap::CloseOnExec`](crate::Bitmap::CloseOnExec).
        CLOEXEC = 1,
        /// Written at the exit of a call that may have given the thread its own table: the process
        /// has other threads.
        MULTITHREADED = 8,
    }
    /// The snapshot reached a task.
    SnapshotTask = 8, "snapshot-task", 56 bytes
    /// The snapshot found an open descriptor.
    SnapshotFile = 9, "snapshot-file", 56 bytes {
        /// The descriptor is closed on exec.
        CLOEXEC = 1,
    }
    /// The call stack of a thread, written before the [`FdOpen`] or [`FdClose`] it belongs to.
    Stack = 10, "stack", 536 bytes
    /// The path argument of a thread's open call.
    RequestedPath = 11, "asked-path", 280 bytes {
        /// The path is longer than the record.
        TRUNCATED = 1,
    }
    /// The registers of a thread, which continue its [`Stack`].
    Registers = 12, "registers", 48 bytes
    /// A piece of a thread's stack memory, which continues its [`Stack`].
    StackPiece = 13, "stack-piece", 2072 bytes
}

/// Number of counters of lost records: one for each [`Kind`], indexed by its number.
pub const LOST_KINDS: usize = Kind::ALL.len() + 1;

const _: () = {
    let mut index = 0;
    while index < Kind::ALL.len() {
        assert!(
            Kind::ALL[index] as usize == index + 1,
            "kinds are numbered from 1, without gaps"
        );
        index += 1;
    }
};

impl Kind {
    /// The kinds of detail records. They are dropped first when the ring fills up.
    pub const DETAIL: [Self; 4] = [
        Self::Stack,
        Self::RequestedPath,
        Self::Registers,
        Self::StackPiece,
    ];
}

// SAFETY: integers only, and the sizes of the fields add up.
unsafe impl Plain for Header {}
const _: () = assert!(size_of::<Header>() == 16);

impl Header {
    /// Returns the header of a record; `None` if the record is too short or not aligned.
    #[must_use]
    pub fn of(record: &[u8]) -> Option<&Self> {
        view(record.get(..size_of::<Self>())?)
    }
}

fn view<T: Plain>(record: &[u8]) -> Option<&T> {
    let pointer = record.as_ptr().cast::<T>();
    if record.len() != size_of::<T>() || !pointer.is_aligned() {
        return None;
    }
    // SAFETY: the slice has the size and the alignment of `T` and lives as long as the result, and
    // any bytes are a valid `T`.
    Some(unsafe { &*pointer })
}

/// Bytes that are not a valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedEvent {
    /// The byte in place of the kind.
    pub kind: u8,
    /// The number of bytes.
    pub size: usize,
}

impl fmt::Display for MalformedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, size } = self;
        write!(f, "malformed record: kind {kind}, {size} bytes")
    }
}

impl core::error::Error for MalformedEvent {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed_record_equals_written_one() {
        let open = FdOpen {
            header: Header {
                kind: Kind::FdOpen as u8,
                flags: FdOpen::CLOEXEC.bits(),
                fd: 7,
                ..Header::default()
            },
            ..FdOpen::default()
        };
        match Event::parse(open.as_bytes()) {
            Ok(Event::FdOpen(parsed)) => {
                assert_eq!(*parsed, open);
                assert!(parsed.has(FdOpen::CLOEXEC));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn malformed_records_are_rejected() {
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

    #[test]
    fn flags_combine_within_one_kind() {
        let flags = Exit::LAST_THREAD.when(true) | Exit::LAST_HOLDER.when(false);
        assert_eq!(flags.bits(), Exit::LAST_THREAD.bits());
        assert_eq!((flags | Exit::LAST_HOLDER).bits(), 3);
    }
}
