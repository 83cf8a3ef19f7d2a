//! The BPF programs of fdwatch. They write changes of descriptors to a ring and keep no tables.
//!
//! [`kernel`] reads the kernel's structures, and [`ring`] is the only output; each of the other
//! modules contains one family of programs. Two rules keep the traced processes fast. A new
//! descriptor is recorded at the exit of its system call and a closed one at the entry, so that no
//! state is carried from entry to exit. The fields of a record are read by typed loads, or by one
//! read for neighbouring fields.
#![no_std]
#![no_main]

mod bits;
mod close;
mod control;
mod detail;
mod dup;
mod kernel;
mod noop;
mod open;
mod pending;
mod process;
mod received;
mod ring;
mod settings;
mod snapshot;
mod syscall;

/// Checks at compile time that each entry of the table of programs has a function of its type.
macro_rules! check_programs {
    (
        syscalls { $($syscall:ident: $syscall_side:ident [$($syscall_call:literal),* $(,)?],)* }
        paths { $($path:ident: $path_side:ident [$($path_call:literal),* $(,)?],)* }
        noop { $($noop:ident: $noop_side:ident [$($noop_call:literal),* $(,)?],)* }
        tail_calls { $($tail_call:ident: $map:ident,)* }
        raw_tracepoints { $($raw:ident,)* }
        iterators { $($iterator:ident,)* }
    ) => {
        const _: () = {
            use core::ffi::c_void;

            use aya_ebpf::maps::ProgramArray;

            use crate::{
                bits::*, close::*, detail::*, dup::*, noop::*, open::*, process::*, received::*,
                snapshot::*,
            };

            const _: &[fn(*mut c_void) -> u32] =
                &[$($syscall,)* $($path,)* $($noop,)* $($tail_call,)*];
            const _: &[fn() -> &'static ProgramArray] = &[$(|| &$map,)*];
            const _: &[fn(*mut c_void) -> i32] = &[$($raw,)*];
            const _: &[extern "C" fn(*const Context) -> i32] = &[$($iterator,)*];
        };
    };
}

fdwatch_common::programs!(check_programs);

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers that read kernel memory are available to GPL programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
