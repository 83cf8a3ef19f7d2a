//! Response of `/v1/version`.

use serde::{Deserialize, Serialize};

use super::{
    Body,
    name::{Severity, Text},
};

/// Version of an agent, and what it follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Version {
    /// Version of fdwatch.
    pub version: Text,
    /// Version of the API.
    #[cfg_attr(feature = "schema", schemars(extend("const" = "v1")))]
    pub api: Text,
    /// Process ID of the agent.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub pid: u32,
    /// Release of the kernel.
    pub kernel: String,
    /// What the agent follows.
    pub follows: Scope,
    /// Processes.
    pub processes: usize,
    /// Open descriptors, each table counted once.
    pub descriptors: usize,
}

impl Body for Version {
    const TYPE: &'static str = "version";
}

/// What an agent follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Scope {
    /// Least severity that it reports.
    pub severity: Severity,
    /// Whether it reports files of all types, or regular files only.
    pub all_types: bool,
}
