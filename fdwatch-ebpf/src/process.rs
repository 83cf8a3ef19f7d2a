//! The life of processes: fork, exec, exit. Raw tracepoints, for their arguments are typed tasks;
//! the layout of the other kind moved between 6.12 and 6.16.

use aya_ebpf::{
    EbpfContext, helpers::generated::bpf_probe_read_kernel, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use fdwatch_common::{
    Bitmap, CLOEXEC, CLONED_THREAD, EVERY_THREAD, Exec, Exit, Fork, Header, INLINE_WORDS, Kind,
    MAX_BITMAP_CHUNKS, NO_CALL, ONLY_HOLDER, OTHER_THREADS, SHARED_TABLE, TableBits,
    WORDS_PER_CHUNK,
};

use crate::{
    control::{disinherit, inherit, is_stopped},
    kernel::{Caller, Pointer, Table, Task, has_other_threads, settings},
    received::pidfd_of_child,
    ring::{count_lost, emit, reserve},
};

/// In `kernel_clone`, kernel/fork.c: the child has its table and does not run yet.
#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    if is_stopped() {
        return 0;
    }
    tell_fork(&ctx);
    // Made after the child's copy of the table, and not in it.
    pidfd_of_child();
    0
}

#[inline(always)]
fn tell_fork(ctx: &BtfTracePointContext) {
    let (parent, child) = (task(ctx, 0), task(ctx, 1));
    let (tgid, parent_tgid) = (child.tgid(), parent.tgid());
    let (table, parent_table) = (child.table(), parent.table());
    let is_thread = tgid == parent_tgid;
    let shares = table.address() == parent_table.address();
    // A thread that shares with another than its leader holds that one's table as well.
    let is_plain_thread = is_thread && table.address() == child.leader().table_address();
    if is_plain_thread || child.is_kernel_thread() || parent_tgid == settings!(own_tgid) {
        return;
    }
    if !is_thread {
        inherit(parent_tgid, tgid);
    }
    let tell_bits = !shares && parent_table.is_shared();
    let caller = Caller {
        tid: child.tid(),
        tgid,
        asked: 0,
    };
    let header = Header {
        flags: if tell_bits { SHARED_TABLE } else { 0 } | if is_thread { CLONED_THREAD } else { 0 },
        ..header(Kind::Fork, caller)
    };
    emit(
        Kind::Fork,
        Fork {
            header,
            table: table.address(),
            parent_table: parent_table.address(),
            start_time: child.start_time(),
            parent_tid: parent.tid(),
            parent_tgid,
        },
    );
    if tell_bits {
        emit_open(ctx, table, 0, caller);
    }
}

/// In `exec_binprm`, fs/exec.c: the process is one thread again, its table its own, and what closes
/// on exec is closed.
#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let task = task(&ctx, 0);
    let old_tid: i32 = ctx.arg(1);
    let tgid = task.tgid();
    if tgid == settings!(own_tgid) || is_stopped() {
        return 0;
    }
    let table = task.table();
    let caller = Caller {
        tid: old_tid as u32,
        tgid,
        asked: 0,
    };
    const INLINE: u32 = INLINE_WORDS as u32 * 64;
    if table.capacity() > INLINE {
        emit_open(&ctx, table, INLINE, caller);
    }
    let mut open = [0; INLINE_WORDS];
    let words = (table.capacity() / 64).min(INLINE_WORDS as u32);
    // SAFETY: the helper checks the address, and there are no more bytes read than there is room.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut open).cast(),
            words * 8,
            table.open_bitmap() as *const _,
        )
    };
    emit(
        Kind::Exec,
        Exec {
            header: header(Kind::Exec, caller),
            table: table.address(),
            comm: task.comm(),
            open,
        },
    );
    0
}

/// In `do_exit`, kernel/exit.c: after the thread is counted off, before it gives its table back.
#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    let task = task(&ctx, 0);
    let tgid = task.tgid();
    if tgid == settings!(own_tgid) || is_stopped() || task.is_kernel_thread() {
        return 0;
    }
    // Two threads may both see none left, and a process is then told to end twice: no harm.
    let last = task.live_threads() == 0;
    if last {
        disinherit(tgid);
    }
    let table = task.table();
    let is_leaders = table.address() == task.leader().table_address();
    // The leader may have a table of its own, and end before its threads.
    let is_only_holder = !table.is_shared();
    if !last && is_leaders && !(task.tid() == tgid && is_only_holder) {
        return 0;
    }
    let caller = Caller {
        tid: task.tid(),
        tgid,
        asked: 0,
    };
    let header = Header {
        flags: if last { EVERY_THREAD } else { 0 } | if is_only_holder { ONLY_HOLDER } else { 0 },
        ..header(Kind::Exit, caller)
    };
    emit(Kind::Exit, Exit { header });
    0
}

#[inline(always)]
fn task(ctx: &BtfTracePointContext, i: usize) -> Task {
    Task(Pointer::typed(ctx.arg::<*const u8>(i)))
}

#[inline(always)]
fn header(kind: Kind, caller: Caller) -> Header {
    Header {
        kind: kind as u8,
        flags: 0,
        call: NO_CALL,
        fd: 0,
        tid: caller.tid,
        tgid: caller.tgid,
    }
}

/// Tells all of a table's open numbers from `first` on. What is beyond what one run of a program
/// can tell is not told, and counted: [`crate::bits`] tells more, but goes on in another program, as
/// those on raw tracepoints cannot.
#[inline(always)]
fn emit_open(ctx: &impl EbpfContext, table: Table, first: u32, caller: Caller) {
    if emit_bits::<MAX_BITMAP_CHUNKS>(table, Bitmap::Open, first, caller, NO_CALL).is_some() {
        count_lost(Kind::TableBits);
        warn!(
            ctx,
            "process {} has room for {} descriptors, which is more than can be told",
            caller.tgid,
            table.capacity()
        );
    }
}

/// Tells so many chunks of one of a table's bitmaps from `first` on; from where on the rest is, if
/// that is not all. Room is taken before the bits are read: whoever makes a descriptor that these do not show tells
/// of it later in the ring.
#[inline(always)]
pub(crate) fn emit_bits<const CHUNKS: u32>(
    table: Table,
    bitmap: Bitmap,
    first: u32,
    caller: Caller,
    call: u16,
) -> Option<u32> {
    let mut flags = match bitmap {
        Bitmap::Open => 0,
        Bitmap::CloseOnExec => CLOEXEC,
    };
    if call != NO_CALL && has_other_threads() {
        flags |= OTHER_THREADS;
    }
    for i in 0..CHUNKS {
        let fd = first + i * (WORDS_PER_CHUNK as u32 * 64);
        if fd >= table.capacity() {
            return None;
        }
        let mut room = reserve::<TableBits>(Kind::TableBits)?;
        // It may have grown, and moved, meanwhile.
        let table = table.again();
        let capacity = table.capacity();
        let bits = match bitmap {
            Bitmap::Open => table.open_bitmap(),
            Bitmap::CloseOnExec => table.close_on_exec_bitmap(),
        };
        let len = (capacity.saturating_sub(fd) / 64).min(WORDS_PER_CHUNK as u32);
        let record = room.as_mut_ptr();
        // SAFETY: there is room for the whole record; the helper checks the address it reads
        // from, and the verifier that there is room for as much.
        unsafe {
            (&raw mut (*record).header).write(Header {
                kind: Kind::TableBits as u8,
                flags,
                call,
                fd,
                tid: caller.tid,
                tgid: caller.tgid,
            });
            (&raw mut (*record).table).write(table.address());
            (&raw mut (*record).len).write(len);
            (&raw mut (*record).capacity).write(capacity);
            let words = &raw mut (*record).words;
            bpf_probe_read_kernel(
                words.cast(),
                len * 8,
                bits.wrapping_add(u64::from(fd / 8)) as *const _,
            );
        }
        room.submit();
    }
    let next = first + CHUNKS * (WORDS_PER_CHUNK as u32 * 64);
    (next < table.capacity()).then_some(next)
}
