//! The way out: one ring for all records, so that their order is the kernel's.

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

/// The reader is woken by any record that comes while the ring is filled to between
/// `Settings::wake_at` and this much more: by more than one, in case that several are written at
/// once, but not by all that come while it reads.
const WAKE_BAND: u64 = 4096;

/// Room for a record. Counts the loss if there is none.
#[inline(always)]
pub(crate) fn reserve<T: Plain>(kind: Kind) -> Option<RingBufEntry<T>> {
    let entry = RING.reserve::<T>(0);
    if entry.is_none() {
        count_lost(kind);
    }
    entry
}

/// As [`reserve`], where no room is no loss, because the record will be offered again.
#[inline(always)]
pub(crate) fn try_reserve<T: Plain>() -> Option<RingBufEntry<T>> {
    RING.reserve::<T>(0)
}

/// Hands the record over, and wakes the reader if the ring fills up.
#[inline(always)]
pub(crate) fn submit<T: Plain>(entry: RingBufEntry<T>) {
    let past = filled().wrapping_sub(u64::from(settings!(wake_at)));
    entry.submit(u64::from(if past < WAKE_BAND {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }));
}

/// Gives back room that nothing is to be told in.
#[inline(always)]
pub(crate) fn discard<T: Plain>(entry: RingBufEntry<T>) {
    entry.discard(u64::from(BPF_RB_NO_WAKEUP));
}

/// Reserves and submits.
#[inline(always)]
pub(crate) fn emit<T: Plain>(kind: Kind, record: T) {
    if let Some(mut entry) = reserve::<T>(kind) {
        entry.write(record);
        submit(entry);
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
