//! The context of programs on system call tracepoints. Its layout is the same for all calls since 4.7
//! (`struct syscall_trace_enter` and `syscall_trace_exit`, kernel/trace/trace.h); the loader compares
//! it with the `format` files of the running kernel.

use aya_ebpf::{EbpfContext as _, programs::TracePointContext};

const NUMBER: usize = 8;
const RESULT: usize = 16;
const ARGUMENTS: usize = 16;

/// Returns the number of the system call.
#[inline(always)]
pub(crate) fn number(ctx: &TracePointContext) -> u16 {
    read::<u32>(ctx, NUMBER) as u16
}

/// Returns the result of the system call; valid at its exit.
#[inline(always)]
pub(crate) fn result(ctx: &TracePointContext) -> i64 {
    read(ctx, RESULT)
}

/// Returns argument `i` of the system call; valid at its entry.
#[inline(always)]
pub(crate) fn argument(ctx: &TracePointContext, i: usize) -> u64 {
    read(ctx, ARGUMENTS + 8 * i)
}

#[inline(always)]
fn read<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
    // SAFETY: the verifier rejects programs that read outside of the context.
    unsafe { ctx.as_ptr().cast::<u8>().add(offset).cast::<T>().read() }
}
