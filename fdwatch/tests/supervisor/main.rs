//! A real supervisord: descriptors that it leaks, reports about its logs, and lint of its configuration.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails, fails its test")]

mod lint;
mod reports;
mod tail;
