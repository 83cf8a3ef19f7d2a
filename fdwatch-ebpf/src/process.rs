//! fork, exec and exit of processes. On raw tracepoints, whose arguments are typed tasks; the layout
//! of the formatted ones changed between 6.12 and 6.16.

use aya_ebpf::{
    EbpfContext, helpers::generated::bpf_probe_read_kernel, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use fdwatch_common::{
    Bitmap, Exec, Exit, Flags, Fork, Header, INLINE_WORDS, Kind, MAX_BITMAP_CHUNKS, NO_CALL,
    TableBits, WORDS_PER_CHUNK,
};

use crate::{
    control::{inherit_flags, is_stopped, remove_inherited_flags},
    kernel::{Caller, Pointer, Table, Task, has_other_threads},
    received::emit_child_pidfd,
    ring::{count_lost, emit, reserve},
    settings::settings,
};

/// Records a fork. Runs in `kernel_clone`, kernel/fork.c: the child has its table and has not run
/// yet.
#[btf_tracepoint(function = "sched_process_fork")]
pub(crate) fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    if is_stopped() {
        return 0;
    }
    emit_fork(&ctx);
    // Created after the child's table was copied: the copy lacks it.
    emit_child_pidfd();
    0
}

#[inline(always)]
fn emit_fork(ctx: &BtfTracePointContext) {
    let (parent, child) = (task(ctx, 0), task(ctx, 1));
    let (tgid, parent_tgid) = (child.tgid(), parent.tgid());
    let (table, parent_table) = (child.table(), parent.table());
    let is_thread = tgid == parent_tgid;
    let shares = table.address() == parent_table.address();
    // Not a thread that shares the table of a thread other than its leader.
    let is_plain_thread = is_thread && table.address() == child.leader().table_address();
    if is_plain_thread || child.is_kernel_thread() || parent_tgid == settings!(own_tgid) {
        return;
    }
    if !is_thread {
        inherit_flags(parent_tgid, tgid);
    }
    let emits_bits = !shares && parent_table.is_shared();
    let caller = Caller {
        tid: child.tid(),
        tgid,
        flags: 0,
    };
    let flags = Fork::SHARED_TABLE.when(emits_bits) | Fork::THREAD.when(is_thread);
    let header = Header {
        flags: flags.bits(),
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
    if emits_bits {
        emit_open(ctx, table, 0, caller);
    }
}

/// Records an exec. Runs in `exec_binprm`, fs/exec.c: the process has a single thread and its own
/// table, and its close-on-exec descriptors are closed.
#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
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
        flags: 0,
    };
    const INLINE: u32 = INLINE_WORDS as u32 * 64;
    if table.capacity() > INLINE {
        emit_open(&ctx, table, INLINE, caller);
    }
    let mut open = [0; INLINE_WORDS];
    let words = (table.capacity() / 64).min(INLINE_WORDS as u32);
    // SAFETY: the helper checks the address, and reads no more than `open` has room for.
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

/// Records an exit. Runs in `do_exit`, kernel/exit.c: after the thread is subtracted from the live
/// threads, and before it releases its table.
#[btf_tracepoint(function = "sched_process_exit")]
pub(crate) fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    let task = task(&ctx, 0);
    let tgid = task.tgid();
    if tgid == settings!(own_tgid) || is_stopped() || task.is_kernel_thread() {
        return 0;
    }
    // Two threads may both be the last. The second record has no effect.
    let last = task.live_threads() == 0;
    if last {
        remove_inherited_flags(tgid);
    }
    let table = task.table();
    let is_leaders = table.address() == task.leader().table_address();
    // The leader may have its own table and exit before its threads.
    let is_last_holder = !table.is_shared();
    if !last && is_leaders && !(task.tid() == tgid && is_last_holder) {
        return 0;
    }
    let caller = Caller {
        tid: task.tid(),
        tgid,
        flags: 0,
    };
    let flags = Exit::LAST_THREAD.when(last) | Exit::LAST_HOLDER.when(is_last_holder);
    let header = Header {
        flags: flags.bits(),
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

/// Records a table's open descriptors from `first` on. Those that one run of a program cannot record
/// are counted as lost: [`crate::bits`] continues in another program, which is impossible on raw
/// tracepoints.
#[inline(always)]
fn emit_open(ctx: &impl EbpfContext, table: Table, first: u32, caller: Caller) {
    if emit_table_bits::<MAX_BITMAP_CHUNKS>(table, Bitmap::Open, first, caller, NO_CALL).is_some() {
        count_lost(Kind::TableBits);
        warn!(
            ctx,
            "process {}: table of {} descriptors is too large to record",
            caller.tgid,
            table.capacity()
        );
    }
}

/// Records up to `CHUNKS` chunks of a bitmap from `first` on, and returns the first descriptor that
/// is left, if any. Reserves room before it reads the bits: a descriptor that they lack, because
/// another thread is opening it, has a later record in the ring.
#[inline(always)]
pub(crate) fn emit_table_bits<const CHUNKS: u32>(
    table: Table,
    bitmap: Bitmap,
    first: u32,
    caller: Caller,
    call: u16,
) -> Option<u32> {
    let mut flags = match bitmap {
        Bitmap::Open => Flags::NONE,
        Bitmap::CloseOnExec => TableBits::CLOEXEC,
    };
    if call != NO_CALL && has_other_threads() {
        flags = flags | TableBits::MULTITHREADED;
    }
    for i in 0..CHUNKS {
        let fd = first + i * (WORDS_PER_CHUNK as u32 * 64);
        if fd >= table.capacity() {
            return None;
        }
        let mut room = reserve::<TableBits>(Kind::TableBits)?;
        // The table may have grown, and moved, meanwhile.
        let table = table.reload();
        let capacity = table.capacity();
        let bits = match bitmap {
            Bitmap::Open => table.open_bitmap(),
            Bitmap::CloseOnExec => table.close_on_exec_bitmap(),
        };
        let len = (capacity.saturating_sub(fd) / 64).min(WORDS_PER_CHUNK as u32);
        let record = room.as_mut_ptr();
        // SAFETY: there is room for the whole record; the helper checks the address it reads
        // from, and the verifier checks the length.
        unsafe {
            (&raw mut (*record).header).write(Header {
                kind: Kind::TableBits as u8,
                flags: flags.bits(),
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
