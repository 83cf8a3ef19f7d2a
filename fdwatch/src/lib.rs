//! fdwatch keeps a live, exact model of every process's file descriptors, and finds duplicates: one
//! file held on several descriptors of one process.
//!
//! The way of an event: [`probe`] (what the kernel tells) → [`model`] (every table) → [`duplicates`]
//! (what is held twice) → [`diagnose`] (why, and how bad) → [`report`] (text or JSON). Those between
//! probe and report are pure: no clock, no I/O. [`proc`] and [`investigate`] ask /proc for what the
//! events do not carry; [`commands`] put all of it together.

pub mod agent;
pub mod cli;
pub mod commands;
pub mod fleet;
pub mod report;
pub mod top;

pub use fdwatch_core::{
    budget, detail, device, diagnose, duplicates, engine, filter, growth, leaks, mappings, model,
    open_for_write, plural, recording, shrink, suggest, trace, workload,
};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub use fdwatch_host::unwind;
pub use fdwatch_host::{investigate, proc, symbols, users};
pub use fdwatch_probe as probe;
pub use fdwatch_supervisor as supervisor;
