//! Which findings to report.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use globset::GlobSet;

use crate::{
    diagnose::{Finding, ProcessInfo, Severity},
    model::FileType,
};

/// Conditions that a finding must meet. An empty list accepts everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Accepted processes.
    pub pids: Vec<u32>,
    /// Patterns for the process's name.
    pub comm: Option<GlobSet>,
    /// Patterns for the path of its executable.
    pub exe: Option<GlobSet>,
    /// Patterns for the path of its cgroup.
    pub cgroup: Option<GlobSet>,
    /// Patterns for its systemd unit.
    pub unit: Option<GlobSet>,
    /// Patterns for the ID of its container.
    pub container: Option<GlobSet>,
    /// Accepted file types.
    pub types: Vec<FileType>,
    /// Patterns for the file's path.
    pub path: Option<GlobSet>,
    /// Minimum number of descriptors.
    pub min_fds: Option<usize>,
    /// Minimum severity.
    pub severity: Severity,
}

impl Filter {
    /// Returns whether findings about the process can be accepted. Cheap, so it is checked first.
    #[must_use]
    pub fn wants_process(&self, pid: u32) -> bool {
        self.pids.is_empty() || self.pids.contains(&pid)
    }

    /// Returns whether to report the finding.
    #[must_use]
    pub fn wants(&self, finding: &Finding) -> bool {
        // A finding that is gone also concerns its closed descriptors.
        let fds = finding.open() + finding.closed.len();
        self.wants_process(finding.process.pid)
            && finding.severity >= self.severity
            && self.min_fds.is_none_or(|least| fds >= least)
            && matches(self.comm.as_ref(), Some(&finding.process.comm))
            && self.wants_owner(&finding.process)
            && (self.types.is_empty() || self.types.contains(&finding.file.file_type))
            && matches(self.path.as_ref(), finding.file.path.as_ref())
    }
}

impl Filter {
    /// Returns whether to report an event without a file, such as growth or a threshold. Conditions
    /// on paths exclude all of these.
    #[must_use]
    pub fn wants_about(&self, process: &ProcessInfo, severity: Option<Severity>) -> bool {
        self.wants_process(process.pid)
            && severity.is_none_or(|severity| severity >= self.severity)
            && matches(self.comm.as_ref(), Some(&process.comm))
            && self.wants_owner(process)
            && self.path.is_none()
    }

    /// Checks what the process runs and which workload it belongs to.
    fn wants_owner(&self, process: &ProcessInfo) -> bool {
        let workload = &process.workload;
        let id = workload.container.as_ref().map(|container| &container.id);
        matches(self.exe.as_ref(), process.exe.as_ref())
            && matches(self.cgroup.as_ref(), process.cgroup.as_ref())
            && matches(self.unit.as_ref(), workload.unit.as_ref())
            && matches(self.container.as_ref(), id)
    }
}

/// Returns whether the name matches the patterns, if there are any. An unknown name matches none.
pub fn matches(globs: Option<&GlobSet>, name: Option<&(impl AsRef<[u8]> + ?Sized)>) -> bool {
    match (globs, name) {
        (None, _) => true,
        (Some(globs), Some(name)) => globs.is_match(Path::new(OsStr::from_bytes(name.as_ref()))),
        (Some(_), None) => false,
    }
}
