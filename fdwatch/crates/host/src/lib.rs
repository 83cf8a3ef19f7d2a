//! What the host adds to the kernel's records: /proc, symbols, stacks without frame pointers, users,
//! and the configuration of a running supervisord. [`investigate`] completes findings with all of it.

pub mod investigate;
pub mod proc;
pub mod proc_snapshot;
pub mod supervisor_host;
pub mod symbols;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod unwind;
pub mod users;
