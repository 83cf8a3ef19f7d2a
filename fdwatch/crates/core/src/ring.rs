//! Size of the ring buffer that records wait in.

use std::{num::NonZero, thread};

/// Default size of the ring, in bytes: one MiB for each processor, and no fewer than two, as each can
/// write some ten in a tenth of a second. A power of two.
#[must_use]
pub fn default_ring_bytes() -> u32 {
    const FEWEST: usize = 2;
    const MAX: usize = 64;
    let processors = thread::available_parallelism().map_or(FEWEST, NonZero::get);
    let mebibytes = processors.clamp(FEWEST, MAX).next_power_of_two();
    u32::try_from(mebibytes << 20).unwrap_or(MAX_RING_BYTES)
}

/// Largest size of the ring, in bytes: the kernel allows no more than a quarter of what 32 bits of
/// pages count (`RINGBUF_MAX_DATA_SZ`, kernel/bpf/ringbuf.c), and no host needs more than this.
pub const MAX_RING_BYTES: u32 = 1 << 30;
