//! Tests without BPF: documents, JSON schemas and recordings.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails, fails its test")]

mod documents;
mod json_schema;
mod recordings;
