//! What userspace asks for while the programs run, by process: the only way back from there. Why it
//! is asked for is not known here.

use core::{ptr, sync::atomic::AtomicU64};

use aya_ebpf::{macros::map, maps::HashMap};
use fdwatch_common::{ASKED_OF_SOME, DETAIL, INHERITED, Kind, STOPPED};

use crate::ring::count_lost;

/// What is asked of all ([`DETAIL`], [`ASKED_OF_SOME`], [`STOPPED`]): a load, where the common way is that nothing
/// is. And how many records of detail may still be written until userspace allows more, for what is
/// told in detail must not take the room of what is told at all. (64 bits, for BPF has no smaller
/// atomics.)
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.asked")]
static ASKED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// What is asked of some, by the number of their process. The loader makes room for more where
/// children inherit it.
#[map]
static PROCESSES: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

/// What is asked of all.
#[inline(always)]
fn asked_of_all() -> u32 {
    // SAFETY: it is valid for reads. Volatile, because to the compiler no one ever writes it.
    unsafe { ptr::read_volatile(ASKED[0].as_ptr()) as u32 }
}

/// Whether nothing is to be told any more, and the programs are to do nothing.
#[inline(always)]
pub(crate) fn is_stopped() -> bool {
    asked_of_all() & STOPPED != 0
}

/// What is asked of the process alone.
#[inline(always)]
fn asked_of_one(tgid: u32) -> u32 {
    PROCESSES.get_ptr(tgid).map_or(0, |own| {
        // SAFETY: the map gives pointers to its values, which outlive the program's run.
        unsafe { *own }
    })
}

/// What is asked of the process.
#[inline(always)]
pub(crate) fn asked_of(tgid: u32) -> u32 {
    let of_all = asked_of_all();
    if of_all & ASKED_OF_SOME == 0 {
        return of_all;
    }
    let own = asked_of_one(tgid);
    of_all & DETAIL | own
}

/// What the parent's children inherit is asked of the child from here on.
#[inline(always)]
pub(crate) fn inherit(parent: u32, child: u32) {
    if asked_of_all() & INHERITED == 0 {
        return;
    }
    let asked = asked_of_one(parent);
    if asked & INHERITED != 0 && PROCESSES.insert(child, asked, 0).is_err() {
        // There are too many at once: it is followed, but there are no stacks and paths of it.
        count_lost(Kind::Stack);
    }
}

/// The process has ended: what it had inherited is not to be that of another of its number.
#[inline(always)]
pub(crate) fn disinherit(tgid: u32) {
    if asked_of_all() & INHERITED != 0 && asked_of_one(tgid) & INHERITED != 0 {
        let _ = PROCESSES.remove(tgid);
    }
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
