//! The BPF programs of fdwatch: they tell the ring what happens to descriptors, and keep no tables
//! of their own.
//!
//! What a program needs of the kernel's structures is in [`kernel`], how records leave is in
//! [`ring`]; the others are one family of programs each. Two rules keep the traced processes fast: a
//! descriptor's birth is taken at the exit of its syscall and its death at the entry, so that nothing
//! is carried from one to the other; and what a record needs is got by typed loads or by one read for
//! neighbouring fields. None of them knows what a duplicate is, nor who reads the ring.
#![no_std]
#![no_main]

mod bits;
mod close;
mod control;
mod detail;
mod dup;
mod floor;
mod kernel;
mod open;
mod pending;
mod process;
mod received;
mod ring;
mod snapshot;
mod syscall;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers that read kernel memory are for GPL programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
