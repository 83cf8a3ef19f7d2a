//! Processes.

use serde::{Deserialize, Serialize};

use super::name::{Text, Time};

/// Process, with what /proc and its control group say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Process {
    /// Process ID in the initial namespace.
    pub pid: u32,
    /// When it was started; null if unknown.
    pub start_time: Option<Time>,
    /// Process ID of its parent; 0 if unknown.
    pub ppid: u32,
    /// Name, chosen by the process itself.
    pub comm: String,
    /// Path of its program; null if unreadable.
    pub exe: Option<String>,
    /// Command line; null if unreadable.
    pub cmdline: Option<Vec<String>>,
    /// Real user ID; null if unreadable.
    pub uid: Option<u32>,
    /// Path of its control group; null if unreadable.
    pub cgroup: Option<String>,
    /// Innermost systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// UID of the Kubernetes pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Program of a supervisord.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<Supervisor>,
}

/// Container of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Container {
    /// ID; for lxc and systemd-nspawn, the name.
    pub id: String,
    /// What runs it, such as `docker`; null if unknown.
    pub runtime: Option<Text>,
}

/// Name that supervisord gave a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Supervisor {
    /// Group.
    pub group: String,
    /// Process within the group.
    pub process: String,
}
