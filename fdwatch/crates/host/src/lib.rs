//! Facts from the host that complete the kernel's records: /proc, symbols, stack unwinding, users, and
//! the configuration of a running supervisord. [`investigate`] adds them to findings.

pub mod investigate;
pub mod proc;
pub mod proc_snapshot;
pub mod supervisor_host;
pub mod symbols;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod unwind;
pub mod users;
