//! The agent: its service, configuration, API, page and sinks.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails, fails its test")]

mod alerts;
mod config;
mod history;
mod lockout;
mod metrics;
mod openapi;
mod otlp;
mod page;
mod service;
