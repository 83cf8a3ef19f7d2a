//! Response of `/v1/written`.

use serde::{Deserialize, Serialize};

use super::Body;

/// Files of network file systems that are open for writing on a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Written {
    /// Descriptors that were not examined because there are more than 4096 files.
    pub left_out: u64,
    /// Files that are not listed.
    pub more: usize,
    /// Files, each with one program.
    pub files: Vec<WrittenFile>,
}

impl Body for Written {
    const TYPE: &'static str = "written";
}

/// File of a network file system, and a program that has it open for writing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct WrittenFile {
    /// Mounted file system, such as `nas:/export`.
    pub network: String,
    /// Inode, the same on all hosts that mount it.
    pub ino: u64,
    /// Program, as in the fleet's signatures.
    pub program: String,
    /// Path on this host; null if unreadable.
    pub path: Option<String>,
    /// Descriptors of the program that can write to it.
    pub writers: u32,
}
