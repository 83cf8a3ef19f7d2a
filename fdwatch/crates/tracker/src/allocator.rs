//! What the allocator keeps of what was freed. What memory is for is not known here.

/// From this size on, blocks are mappings of their own: bytes. Eight pages, so that what the last page has too
/// much is a little beside it.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 32 << 10;

/// Heaps there may be.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Has large blocks be mappings of their own, always: the kernel has them back as soon as they are freed.
/// glibc puts larger and larger ones into its heaps, once it has freed some, and what is small and stays
/// keeps their room: each burst of work would leave some megabytes more. For the same reason threads share
/// heaps. To be called before there are threads.
pub fn keep_large_apart() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the calls take numbers only; those that it does not know it refuses.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Loading needs tens of megabytes for a moment, and so do the tables of large programs, for the stacks of
/// what is found: the allocator would keep what was freed.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no requirements.
    unsafe {
        libc::malloc_trim(0);
    }
}
