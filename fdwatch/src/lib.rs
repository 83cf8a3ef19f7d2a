//! The `fdwatch` command: its arguments, its subcommands, and how it prints errors.
//!
//! An event passes through `fdwatch-probe` (decodes the kernel's records), `fdwatch-core` (keeps the
//! descriptor tables, detects duplicates and leaks, finds their causes), `fdwatch-host` (adds what /proc
//! and program files know) and `fdwatch-render` (text and JSON). [`commands`] connects them.

pub mod cli;
pub mod commands;
pub mod error;
