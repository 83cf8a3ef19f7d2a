//! The way out: one ring for all records, so that their order is the kernel's. What the records are
//! about is not known here.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    macros::map,
    maps::{PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use fdwatch_common::{Kind, LOST_KINDS, Plain};

use crate::kernel::settings;

/// Sized by the loader.
#[map]
static RING: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

/// Records there was no room for, by kind.
#[map]
static LOST: PerCpuArray<[u64; LOST_KINDS]> = PerCpuArray::with_max_entries(1, 0);

/// The reader is woken while the ring is filled to between `Settings::wake_at` and this much more:
/// not by all records that come while it reads. How full it is is only looked at once in a page,
/// and not at all where what crosses to the next page is discarded.
const WAKE_BAND: u64 = 4 * PAGE;

/// `PAGE_SIZE`, or a part of it.
const PAGE: u64 = 4096;

/// Bytes before each record: `BPF_RINGBUF_HDR_SZ`, include/uapi/linux/bpf.h.
const RECORD_HEADER: u64 = 8;

/// Room for a record.
pub(crate) struct Room<T: Plain> {
    entry: RingBufEntry<T>,
    /// Whether it reaches the end of a page.
    is_last_in_page: bool,
}

impl<T: Plain> Room<T> {
    #[inline(always)]
    fn new(mut entry: RingBufEntry<T>) -> Self {
        let place = entry.as_mut_ptr().cast::<u64>();
        // The verifier does no arithmetic on pointers but what moves them: it is told as a number
        // by way of the room itself, which is yet to be written.
        // SAFETY: all records are larger than that, and aligned.
        let address = unsafe {
            place.cast::<*mut u64>().write_volatile(place);
            place.read_volatile()
        };
        let end = (address - RECORD_HEADER) % PAGE + RECORD_HEADER + size_of::<T>() as u64;
        Self {
            entry,
            is_last_in_page: end >= PAGE,
        }
    }

    /// Where it is.
    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.entry.as_mut_ptr()
    }

    /// Puts the record there.
    #[inline(always)]
    pub(crate) fn write(&mut self, record: T) {
        self.entry.write(record);
    }

    /// Hands the record over, and wakes the reader if the ring fills up.
    #[inline(always)]
    pub(crate) fn submit(self) {
        let wakes = self.is_last_in_page
            && filled().wrapping_sub(u64::from(settings!(wake_at))) < WAKE_BAND;
        self.entry.submit(u64::from(if wakes {
            BPF_RB_FORCE_WAKEUP
        } else {
            BPF_RB_NO_WAKEUP
        }));
    }

    /// Gives back room that nothing is to be told in.
    #[inline(always)]
    pub(crate) fn discard(self) {
        self.entry.discard(u64::from(BPF_RB_NO_WAKEUP));
    }
}

/// Room for a record. Counts the loss if there is none.
#[inline(always)]
pub(crate) fn reserve<T: Plain>(kind: Kind) -> Option<Room<T>> {
    let room = try_reserve();
    if room.is_none() {
        count_lost(kind);
    }
    room
}

/// As [`reserve`], where no room is no loss, because the record will be offered again.
#[inline(always)]
pub(crate) fn try_reserve<T: Plain>() -> Option<Room<T>> {
    Some(Room::new(RING.reserve::<T>(0)?))
}

/// Reserves and submits.
#[inline(always)]
pub(crate) fn emit<T: Plain>(kind: Kind, record: T) {
    if let Some(mut room) = reserve::<T>(kind) {
        room.write(record);
        room.submit();
    }
}

/// Bytes of records that are waiting to be read.
#[inline(always)]
pub(crate) fn filled() -> u64 {
    RING.query(u64::from(BPF_RB_AVAIL_DATA))
}

/// Counts what could not be told.
#[inline(always)]
pub(crate) fn count_lost(kind: Kind) {
    if let Some(lost) = LOST.get_ptr_mut(0) {
        // SAFETY: the map gives a pointer to this CPU's own counters, and `LOST_KINDS` is more than
        // there are kinds.
        unsafe { (*lost)[kind as usize] += 1 };
    }
}
