//! Control flags, global and by process. User space sets them while the programs run.

use core::{ptr, sync::atomic::AtomicU64};

use aya_ebpf::{macros::map, maps::HashMap};
use fdwatch_common::{DETAIL, INHERIT, Kind, PER_PROCESS, STOPPED};

use crate::ring::count_lost;

/// The global flags ([`DETAIL`], [`PER_PROCESS`], [`INHERIT`], [`STOPPED`]), and the number of
/// detail records that may still be written until user space allows more: detail must not displace
/// events. A static, because it is read by a single load; 64 bits wide, because BPF has no smaller
/// atomics.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.control")]
static CONTROL: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Flags by process. The loader enlarges the map where children inherit flags.
#[map]
static PROCESS_FLAGS: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

#[inline(always)]
fn global_flags() -> u32 {
    // SAFETY: valid for reads. Volatile, because the compiler sees no writes to it.
    unsafe { ptr::read_volatile(CONTROL[0].as_ptr()) as u32 }
}

/// Returns whether the programs are to record nothing.
#[inline(always)]
pub(crate) fn is_stopped() -> bool {
    global_flags() & STOPPED != 0
}

/// Returns the process's own flags.
#[inline(always)]
fn process_flags(tgid: u32) -> u32 {
    PROCESS_FLAGS.get_ptr(tgid).map_or(0, |flags| {
        // SAFETY: the map returns pointers to its values, which outlive the program's run.
        unsafe { *flags }
    })
}

/// Returns the flags that apply to the process.
#[inline(always)]
pub(crate) fn effective_flags(tgid: u32) -> u32 {
    let global = global_flags();
    if global & PER_PROCESS == 0 {
        return global;
    }
    let own = process_flags(tgid);
    global & DETAIL | own
}

/// Copies the parent's flags to the child if they are inherited.
#[inline(always)]
pub(crate) fn inherit_flags(parent: u32, child: u32) {
    if global_flags() & INHERIT == 0 {
        return;
    }
    let flags = process_flags(parent);
    if flags & INHERIT != 0 && PROCESS_FLAGS.insert(child, flags, 0).is_err() {
        // The map is full: the child's events are recorded, without stacks and paths.
        count_lost(Kind::Stack);
    }
}

/// Removes inherited flags of a process that has exited: its number may be reused.
#[inline(always)]
pub(crate) fn remove_inherited_flags(tgid: u32) {
    if global_flags() & INHERIT != 0 && process_flags(tgid) & INHERIT != 0 {
        let _ = PROCESS_FLAGS.remove(tgid);
    }
}

/// Uses up one of the allowed detail records. Returns false if none is left.
#[inline(always)]
pub(crate) fn use_detail_allowance() -> bool {
    let allowance = CONTROL[1].as_ptr();
    // SAFETY: valid for reads and writes. A race between processors changes the allowance by a few
    // records.
    unsafe {
        let left = ptr::read_volatile(allowance);
        if left > 0 {
            ptr::write_volatile(allowance, left - 1);
        }
        left > 0
    }
}
