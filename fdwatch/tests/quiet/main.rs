//! Tests that measure rates, memory or lost records, or that overload fdwatch. They run one at a time: cargo runs
//! test binaries one after another, and within this one each test holds [`alone`].
#![allow(clippy::unwrap_used, reason = "an unwrap that fails, fails its test")]

mod budget;
mod growth;
mod hostile_clients;
mod hostile_paths;
mod load;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until no other test of this binary runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
