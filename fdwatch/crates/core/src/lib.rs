//! The pure part of fdwatch: turns kernel records into findings. No clock and no I/O; data that the
//! records lack, such as paths, is passed in.
//!
//! [`engine`] feeds records to the [`model`] (every descriptor table) and its observers:
//! [`duplicates`] (files that are open more than once) and [`leaks`] (descriptors left open).
//! [`detail`] stores stacks and requested paths. [`diagnose`] turns duplicates and leaks into
//! findings with cause, severity and advice.

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
