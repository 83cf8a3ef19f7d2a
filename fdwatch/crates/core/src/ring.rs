//! Size of the ring buffer that records wait in.

use std::{num::NonZero, thread};

/// Returns the default size of the ring, in bytes: one MiB per processor and at least two, as a
/// processor can write some ten MiB in a tenth of a second. A power of two.
#[must_use]
pub fn default_ring_bytes() -> u32 {
    const MIN: usize = 2;
    const MAX: usize = 64;
    let processors = thread::available_parallelism().map_or(MIN, NonZero::get);
    let mebibytes = processors.clamp(MIN, MAX).next_power_of_two();
    u32::try_from(mebibytes << 20).unwrap_or(MAX_RING_BYTES)
}

/// Maximum size of the ring, in bytes. Below the kernel's limit, `RINGBUF_MAX_DATA_SZ` in
/// kernel/bpf/ringbuf.c; no host needs more.
pub const MAX_RING_BYTES: u32 = 1 << 30;
