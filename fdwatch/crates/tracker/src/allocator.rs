//! Settings of the allocator that keep the resident memory small. They only apply to glibc.

/// Minimum size of blocks that get a mapping of their own, in bytes. At eight pages, the unused rest of the
/// last page is small in comparison.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: libc::c_int = 32 << 10;

/// Maximum number of heaps (`M_ARENA_MAX`).
#[cfg(target_env = "gnu")]
const MAX_HEAPS: libc::c_int = 2;

/// Fixes the size from which blocks get a mapping of their own, which is unmapped when the block is freed.
///
/// glibc raises this size as large blocks are freed. These then come from its heaps, where small blocks
/// that live long keep their pages, and each burst of work would leave some megabytes resident. Threads
/// share heaps for the same reason. Must be called before threads are started.
pub(crate) fn fix_mmap_threshold() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the calls take numbers only; glibc ignores unknown ones.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        libc::mallopt(libc::M_ARENA_MAX, MAX_HEAPS);
    }
}

/// Returns freed memory to the kernel. Loading the programs, and the unwind tables of large programs, need
/// tens of megabytes for a moment.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no requirements.
    unsafe {
        libc::malloc_trim(0);
    }
}
