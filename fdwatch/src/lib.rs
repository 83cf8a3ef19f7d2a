//! fdwatch keeps a live, exact model of every process's file descriptors, and finds duplicates: one
//! file held on several descriptors of one process.
//!
//! The way of an event: [`probe`] (what the kernel tells) → [`model`] (every table) → [`duplicates`]
//! (what is held twice) → [`diagnose`] (why, and how bad) → render (text or JSON). Those between
//! probe and report are pure: no clock, no I/O. [`proc`] and [`investigate`] ask /proc for what the
//! events do not carry; [`commands`] put all of it together.

pub mod cli;
pub mod commands;
