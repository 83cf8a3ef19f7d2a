//! The pure part of fdwatch: from records of the kernel to findings. No clock, no I/O: whatever the
//! records do not carry, such as paths, is handed in.
//!
//! [`engine`] feeds records to the [`model`] (every descriptor table) and to its observers:
//! [`duplicates`] (files held more than once), [`leaks`] (descriptors left open), [`detail`] (stacks and
//! paths). [`diagnose`] turns what they detect into findings with cause, severity and advice.

pub mod budget;
pub mod detail;
pub mod device;
pub mod diagnose;
pub mod duplicates;
pub mod engine;
pub mod filter;
pub mod growth;
pub mod leaks;
mod lost;
pub mod mappings;
pub mod model;
pub mod open_for_write;
pub mod plural;
pub mod recording;
pub mod ring;
pub mod shrink;
pub mod suggest;
pub mod trace;
mod usage;
pub mod workload;

pub use self::{lost::Lost, usage::Usage};

#[cfg(test)]
mod simulated_host;
