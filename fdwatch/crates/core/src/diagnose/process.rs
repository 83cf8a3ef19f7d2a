//! The process of a finding.

use crate::workload::Workload;

/// The process of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its number.
    pub pid: u32,
    /// When it was started: nanoseconds since boot; 0 if unknown.
    pub start_time: u64,
    /// Its parent; 0 if unknown.
    pub ppid: u32,
    /// Its name, which it can set to arbitrary bytes.
    pub comm: Vec<u8>,
    /// Path of its executable, if readable.
    pub exe: Option<Vec<u8>>,
    /// Its command line, if readable.
    pub cmdline: Option<Vec<Vec<u8>>>,
    /// Its limit of open descriptors (soft `RLIMIT_NOFILE`), if readable.
    pub fd_limit: Option<u64>,
    /// Its real user ID, if readable.
    pub uid: Option<u32>,
    /// The path of its cgroup, if readable.
    pub cgroup: Option<String>,
    /// The workload that the cgroup identifies.
    pub workload: Workload,
    /// Its root directory as seen by fdwatch, if it differs from fdwatch's own.
    pub root: Option<Vec<u8>>,
    /// Whether it has its own mount namespace, as in a container.
    pub has_own_mounts: bool,
    /// Its group and process name in the configuration of supervisord.
    pub supervisor: Option<(String, String)>,
}
