//! The model against the kernel, on whatever kernel this runs: what the tables are held to is what
//! /proc and kcmp show.
//!
//! Needs nothing but libc, so that it runs where there is nothing else. What is watched is done by
//! children, which are this very program run again, because fdwatch leaves itself out.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and where is in the panic"
)]

mod differential;
mod generator;
mod loss;
mod many;
mod messages;
mod privileges;
#[cfg(target_arch = "x86_64")]
mod stacks;
mod steps;
mod truth;
mod watching;
mod worker;
