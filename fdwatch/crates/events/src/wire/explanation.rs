//! Explanations of how a process came to hold its descriptors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Body, File, Pinned, Process, StackFrame,
    name::{Cause, Severity, Text, Time},
};

/// How a process came to hold its descriptors, and what to change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Explanation {
    /// Process.
    pub process: Process,
    /// Counts of its descriptors.
    pub descriptors: OpenDescriptors,
    /// Deleted files that it holds open.
    pub pinned: Pinned,
    /// Closes of numbers that were not open, outside of loops.
    pub closed_unopened: u32,
    /// Whether its events were followed; otherwise this is a snapshot.
    pub followed: bool,
    /// Files with something to explain.
    pub files: Vec<ExplainedFile>,
}

impl Body for Explanation {
    const TYPE: &'static str = "explanation";
}

/// Counts of open descriptors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct OpenDescriptors {
    /// Open descriptors.
    pub open: usize,
    /// `RLIMIT_NOFILE`, soft; null if unreadable.
    pub limit: Option<u64>,
    /// By type of file.
    pub by_type: BTreeMap<Text, usize>,
    /// By origin.
    pub by_origin: BTreeMap<Text, usize>,
}

/// File, with its story and advice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ExplainedFile {
    /// File.
    pub file: File,
    /// Cause.
    pub cause: Cause,
    /// Severity.
    pub severity: Severity,
    /// Descriptors that are still open.
    pub open: Vec<u32>,
    /// What happened, oldest first.
    pub story: Vec<Sentence>,
    /// What to change, most effective first.
    pub advice: Vec<Text>,
}

/// One step of a story.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Sentence {
    /// When; null if before fdwatch.
    pub at: Option<Time>,
    /// What happened.
    pub text: String,
    /// User-space stack, innermost frame first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<StackFrame>,
}
