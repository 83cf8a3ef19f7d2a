//! Traced calls.

use serde::{Deserialize, Serialize};

use super::{
    Body,
    name::{Access, FileType, Text},
};

/// Call that created, changed or closed a descriptor, or started or ended a process, from
/// `fdwatch trace`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Call {
    /// Process ID.
    pub pid: u32,
    /// Thread ID.
    pub tid: u32,
    /// Name of the process.
    pub comm: String,
    /// Name of the call, or `fork`, `exec`, `exit`.
    pub call: Text,
    /// Descriptor; of calls on a range, its first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd: Option<u32>,
    /// Access mode of a created descriptor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Whether O_APPEND is set on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<bool>,
    /// Whether the descriptor closes on exec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloexec: Option<bool>,
    /// Type of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_type: Option<FileType>,
    /// Path that was passed to the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_path: Option<String>,
    /// File that the descriptor refers to according to /proc, if no path was passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Error of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("const" = "EBADF")))]
    pub error: Option<Text>,
    /// Process ID of a created child.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<u32>,
}

impl Body for Call {
    const TYPE: &'static str = "call";
}
