//! Compares the model with the running kernel, as shown by /proc and kcmp.
//!
//! Needs only libc, so that it runs in a minimal virtual machine. The observed processes are children that
//! run this same program, because fdwatch ignores its own process.
#![expect(
    clippy::unwrap_used,
    reason = "a failure fails the test, and the panic has its location"
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
