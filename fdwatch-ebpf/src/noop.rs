//! Programs that do nothing, on tracepoints that every open and every close passes. Their cost is
//! the kernel's own, the lower limit for probes of this design. For benchmarks only.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};

#[tracepoint]
pub(crate) fn sys_exit_noop(_: TracePointContext) -> u32 {
    0
}

#[tracepoint]
pub(crate) fn sys_enter_noop(_: TracePointContext) -> u32 {
    0
}
