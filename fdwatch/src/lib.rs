//! fdwatch keeps a live, exact model of every process's file descriptors, and finds duplicates: one
//! file held on several descriptors of one process.
//!
//! The way of an event: [`probe`] (what the kernel tells) → [`model`] (every table) → [`duplicates`]
//! (what is held twice) → [`diagnose`] (why, and how bad) → [`report`] (text or JSON). Those between
//! probe and report are pure: no clock, no I/O. [`proc`] and [`investigate`] ask /proc for what the
//! events do not carry; [`commands`] put all of it together.

pub mod agent;
pub mod budget;
pub mod cli;
pub mod commands;
pub mod detail;
pub mod diagnose;
pub mod duplicates;
pub mod engine;
pub mod filter;
pub mod fleet;
pub mod growth;
pub mod investigate;
pub mod leaks;
pub mod mappings;
pub mod model;
mod plural;
pub mod probe;
pub mod proc;
pub mod recording;
pub mod report;
mod slack;
mod spelling;
pub mod supervisor;
pub mod symbols;
pub mod top;
pub mod trace;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod unwind;
pub mod users;
pub mod who;

#[cfg(test)]
mod simulated_host;
