//! Programs that do nothing, on the two tracepoints that every open and close passes: what they cost
//! is the kernel's own, and no probe of this design can cost less. For benchmarks alone.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};

#[tracepoint]
fn floor_at_exit(_: TracePointContext) -> u32 {
    0
}

#[tracepoint]
fn floor_at_entry(_: TracePointContext) -> u32 {
    0
}
