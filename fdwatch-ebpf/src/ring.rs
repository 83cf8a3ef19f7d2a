//! The only output: one ring for all records, which preserves the order of writing.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    macros::map,
    maps::{PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use fdwatch_common::{Kind, LOST_KINDS, Plain};

use crate::settings::settings;

/// The ring buffer; the loader sets its size.
#[map]
static RING: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

/// Numbers of records that did not fit into the ring, by kind.
#[map]
static LOST: PerCpuArray<[u64; LOST_KINDS]> = PerCpuArray::with_max_entries(1, 0);

/// Width of the band of fill levels, in bytes from `Settings::wake_at` up, in which records wake the reader.
/// Above it the reader is already awake, and records do not wake it again. The fill level is queried once per
/// page, and not at all if the record that crosses into the next page is discarded.
const WAKE_BAND: u64 = 4 * PAGE;

/// `PAGE_SIZE`, or a divisor of it.
const PAGE: u64 = 4096;

/// Bytes before each record: `BPF_RINGBUF_HDR_SZ`, include/uapi/linux/bpf.h.
const RECORD_HEADER: u64 = 8;

/// Reserved room for a record.
pub(crate) struct Room<T: Plain> {
    entry: RingBufEntry<T>,
    /// Whether the record reaches the end of a page.
    is_last_in_page: bool,
}

impl<T: Plain> Room<T> {
    #[inline(always)]
    fn new(mut entry: RingBufEntry<T>) -> Self {
        let place = entry.as_mut_ptr().cast::<u64>();
        // The verifier allows no arithmetic on pointers except moving them. Storing the pointer into
        // the room, which is not written yet, and loading it again makes it a number.
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

    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.entry.as_mut_ptr()
    }

    #[inline(always)]
    pub(crate) fn write(&mut self, record: T) {
        self.entry.write(record);
    }

    /// Submits the record, and wakes the reader if the ring fills up.
    #[inline(always)]
    pub(crate) fn submit(self) {
        let wakes = self.is_last_in_page
            && unread_bytes().wrapping_sub(u64::from(settings!(wake_at))) < WAKE_BAND;
        self.entry.submit(u64::from(if wakes {
            BPF_RB_FORCE_WAKEUP
        } else {
            BPF_RB_NO_WAKEUP
        }));
    }

    /// Discards the room without writing a record.
    #[inline(always)]
    pub(crate) fn discard(self) {
        self.entry.discard(u64::from(BPF_RB_NO_WAKEUP));
    }
}

/// Reserves room for a record. Counts the record as lost if there is none.
#[inline(always)]
pub(crate) fn reserve<T: Plain>(kind: Kind) -> Option<Room<T>> {
    let room = try_reserve();
    if room.is_none() {
        count_lost(kind);
    }
    room
}

/// Reserves room for a record that is retried if there is none; failures are not counted.
#[inline(always)]
pub(crate) fn try_reserve<T: Plain>() -> Option<Room<T>> {
    Some(Room::new(RING.reserve::<T>(0)?))
}

/// Writes a record: reserves room, fills it and submits it.
#[inline(always)]
pub(crate) fn emit<T: Plain>(kind: Kind, record: T) {
    if let Some(mut room) = reserve::<T>(kind) {
        room.write(record);
        room.submit();
    }
}

/// Returns the number of bytes in the ring that the reader has not consumed.
#[inline(always)]
pub(crate) fn unread_bytes() -> u64 {
    RING.query(u64::from(BPF_RB_AVAIL_DATA))
}

/// Counts a record that could not be written.
#[inline(always)]
pub(crate) fn count_lost(kind: Kind) {
    if let Some(lost) = LOST.get_ptr_mut(0) {
        // SAFETY: the map returns a pointer to this processor's own counters, and each kind has one.
        unsafe { (*lost)[kind as usize] += 1 };
    }
}
