//! Findings, and the descriptors and files they consist of.

use serde::{Deserialize, Serialize};

use super::{
    Body, Process,
    name::{Access, Cause, Change, Device, FileType, Hexadecimal, Severity, Text, Time},
};
use crate::Key;

/// File that a process has open on several descriptors, or that was deleted and is still open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Finding {
    /// Whether it appeared, changed or disappeared.
    pub change: Change,
    /// Number of the finding, the same in all its lines; unique in one run of fdwatch.
    pub id: u64,
    /// Process that has the file open.
    pub process: Process,
    /// File.
    pub file: File,
    /// Open descriptors of the file; of many, the lowest and the highest numbers.
    pub fds: Vec<Fd>,
    /// Open descriptors that are not in `fds`.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_fds: u32,
    /// Descriptors that were closed since the last line of this finding.
    pub closed: Vec<Fd>,
    /// Closed descriptors that are not in `closed`.
    pub more_closed: u32,
    /// Seconds from the first to the last duplicate; null while it exists or if unknown.
    pub lifetime: Option<f64>,
    /// How often it appeared since the last line of this finding.
    pub times: u32,
    /// Cause.
    pub cause: Cause,
    /// Severity.
    pub severity: Severity,
    /// What to change.
    pub advice: Text,
    /// Other processes that write the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<OtherWriter>,
    /// Second close of a double close.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_again: Option<ClosedAgain>,
    /// Programs that share the log according to supervisord's configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared_by: Vec<String>,
    /// Key of the finding; only from an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// When it appeared; only in an agent's `/v1/findings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Finding {
    /// Returns the number of open descriptors.
    #[must_use]
    pub fn open(&self) -> usize {
        self.fds.len() + self.more_fds as usize
    }
}

impl Body for Finding {
    const TYPE: &'static str = "finding";
}

/// File, by name and identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct File {
    /// Path as fdwatch sees it, or what the kernel shows instead; null if unreadable.
    pub path: Option<String>,
    /// All bytes of a path that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<Hexadecimal>,
    /// Path as the process sees it, if that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_path: Option<String>,
    /// Path that refers to it on the host while the process exists, if `path` does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// Device.
    pub dev: Device,
    /// Inode.
    pub ino: u64,
    /// Type.
    #[serde(rename = "type")]
    pub kind: FileType,
    /// Whether its path no longer refers to it.
    pub deleted: bool,
    /// Disk space that a deleted file occupies while it is open, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_bytes: Option<u64>,
}

/// Descriptor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Fd {
    /// Number.
    pub fd: u32,
    /// Access mode.
    pub access: Access,
    /// Whether O_APPEND is set.
    pub append: bool,
    /// Whether it closes on exec.
    pub cloexec: bool,
    /// Identifier of the open file description, equal for descriptors that share it; valid in one run of fdwatch.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{16}$")))]
    pub description: String,
    /// How it was created: the call, `fork` or `exec`.
    pub origin: Text,
    /// When it was created; null if before fdwatch.
    pub opened_at: Option<Time>,
    /// Thread that created it; null if before fdwatch.
    pub tid: Option<u32>,
    /// Path that was passed to the call; with detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_path: Option<String>,
    /// User-space stack of the call, innermost frame first; with detail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<StackFrame>,
    /// How it reached the process, oldest step first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<ChainLink>,
    /// Descriptors that the same thread opened shortly before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub around: Vec<NearbyFd>,
    /// Closed connection that it was opened for, by its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlives: Option<u32>,
    /// Purpose according to supervisord's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// When it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Time>,
    /// Thread that closed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<u32>,
    /// User-space stack of the close, innermost frame first; with detail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub closed_stack: Vec<StackFrame>,
    /// Seconds from open to close.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<f64>,
    /// File, where that is not the finding's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
}

/// Other process that writes the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct OtherWriter {
    /// Process.
    pub process: Process,
    /// Its descriptors of the file.
    pub fds: Vec<Fd>,
}

/// Close of a number that was not open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ClosedAgain {
    /// When.
    pub at: Time,
    /// Thread.
    pub tid: u32,
    /// User-space stack, innermost frame first.
    pub stack: Vec<StackFrame>,
}

/// Step of the lineage of a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ChainLink {
    /// `fork`, `exec`, the call that created it, or `unknown`.
    pub how: Text,
    /// When; null if before fdwatch.
    pub at: Option<Time>,
    /// Process after the step.
    pub pid: u32,
    /// Name of the process after the step.
    pub comm: String,
}

/// Descriptor that the same thread opened shortly before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct NearbyFd {
    /// Number.
    pub fd: u32,
    /// How it was created.
    pub origin: Text,
    /// Type of its file.
    #[serde(rename = "type")]
    pub kind: FileType,
    /// Seconds between the two.
    pub seconds_before: f64,
    /// When it was closed; null while open.
    pub closed_at: Option<Time>,
}

/// Frame of a user-space stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct StackFrame {
    /// Address in the process, in hexadecimal.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]+$")))]
    pub address: String,
    /// Function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Bytes from the start of the function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Program or library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in the source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}
