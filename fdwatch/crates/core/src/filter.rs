//! Which findings are wanted. Pure. Where findings come from, and how they are shown, is not known
//! here.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use globset::GlobSet;

use crate::{
    diagnose::{Finding, ProcessInfo, Severity},
    model::FileType,
};

/// What a finding must be like to be told. An empty list asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The processes it may be about.
    pub pids: Vec<u32>,
    /// What its process's name must match one of.
    pub comm: Option<GlobSet>,
    /// What its program's path must match one of.
    pub exe: Option<GlobSet>,
    /// What its control group's path must match one of.
    pub cgroup: Option<GlobSet>,
    /// What its unit must match one of.
    pub unit: Option<GlobSet>,
    /// What its container's id must match one of, or begin with.
    pub container: Option<GlobSet>,
    /// The types its file may be of.
    pub types: Vec<FileType>,
    /// What its file's path must match one of.
    pub path: Option<GlobSet>,
    /// How many descriptors it must be about.
    pub min_fds: Option<usize>,
    /// How much it must matter.
    pub severity: Severity,
}

impl Filter {
    /// Whether a finding about the process may be wanted: cheap to know before all else.
    #[must_use]
    pub fn wants_process(&self, pid: u32) -> bool {
        self.pids.is_empty() || self.pids.contains(&pid)
    }

    /// Whether the finding is wanted.
    #[must_use]
    pub fn wants(&self, finding: &Finding) -> bool {
        // One that is gone was about those that were closed as well.
        let fds = finding.fds.len() + finding.closed.len();
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
    /// Whether something else about a process is wanted: growth, a threshold. Filters on files match none.
    #[must_use]
    pub fn wants_about(&self, process: &ProcessInfo, severity: Option<Severity>) -> bool {
        self.wants_process(process.pid)
            && severity.is_none_or(|severity| severity >= self.severity)
            && matches(self.comm.as_ref(), Some(&process.comm))
            && self.wants_owner(process)
            && self.path.is_none()
    }

    /// Whether it is wanted by what the process runs, and belongs to.
    fn wants_owner(&self, process: &ProcessInfo) -> bool {
        let who = &process.workload;
        let id = who.container.as_ref().map(|container| &container.id);
        matches(self.exe.as_ref(), process.exe.as_ref())
            && matches(self.cgroup.as_ref(), process.cgroup.as_ref())
            && matches(self.unit.as_ref(), who.unit.as_ref())
            && matches(self.container.as_ref(), id)
    }
}

/// Whether a name or path is one of those asked for, if any are. What is not known is none of them.
pub fn matches(globs: Option<&GlobSet>, name: Option<&(impl AsRef<[u8]> + ?Sized)>) -> bool {
    match (globs, name) {
        (None, _) => true,
        (Some(globs), Some(name)) => globs.is_match(Path::new(OsStr::from_bytes(name.as_ref()))),
        (Some(_), None) => false,
    }
}
