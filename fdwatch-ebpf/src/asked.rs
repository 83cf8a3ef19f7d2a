//! What userspace asks for while the programs run, by process: the only way back from there.

use core::{ptr, sync::atomic::AtomicU64};

use aya_ebpf::{macros::map, maps::HashMap};
use fdwatch_common::{ASKED_OF_SOME, DETAIL};

/// What is asked of all ([`DETAIL`], [`ASKED_OF_SOME`]): a load, where the common way is that nothing
/// is. And how many records of detail may still be written until userspace allows more, for what is
/// told in detail must not take the room of what is told at all. (64 bits, for BPF has no smaller
/// atomics.)
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.asked")]
static ASKED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// What is asked of some, by the number of their process.
#[map]
static PROCESSES: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

/// What is asked of the process.
#[inline(always)]
pub(crate) fn asked_of(tgid: u32) -> u32 {
    // SAFETY: it is valid for reads. Volatile, because to the compiler no one ever writes it.
    let of_all = unsafe { ptr::read_volatile(ASKED[0].as_ptr()) } as u32;
    if of_all & ASKED_OF_SOME == 0 {
        return of_all;
    }
    let own = PROCESSES.get_ptr(tgid).map_or(0, |own| {
        // SAFETY: the map gives pointers to its values, which outlive the program's run.
        unsafe { *own }
    });
    of_all & DETAIL | own
}

/// Whether one more record of detail may be written.
#[inline(always)]
pub(crate) fn take_allowance() -> bool {
    let allowance = ASKED[1].as_ptr();
    // SAFETY: it is valid for reads and writes. That other processors may do the same makes it some
    // more records, or some fewer.
    unsafe {
        let left = ptr::read_volatile(allowance);
        if left > 0 {
            ptr::write_volatile(allowance, left - 1);
        }
        left > 0
    }
}
