//! A finding: a problem to report.

use super::{
    cause::Cause, descriptor::Descriptor, file::FileInfo, process::ProcessInfo, severity::Severity,
};
use crate::{detail::Frame, duplicates::Change, model::Moment};

/// A problem to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its ID.
    pub id: u64,
    /// What happened to it.
    pub change: Change,
    /// The process.
    pub process: ProcessInfo,
    /// The file.
    pub file: FileInfo,
    /// The open descriptors, in order; of many, the lowest and the highest numbers.
    pub fds: Vec<Descriptor>,
    /// Number of further open descriptors.
    pub more_fds: u32,
    /// Descriptors closed since the last report, in order of closing.
    pub closed: Vec<Descriptor>,
    /// Number of further closed descriptors.
    pub more_closed: u32,
    /// How long it existed, in nanoseconds, if it is gone.
    pub lifetime: Option<u64>,
    /// How often it appeared since the last report.
    pub times: u32,
    /// Its cause.
    pub cause: Cause,
    /// Its severity.
    pub severity: Severity,
    /// What to do about it.
    pub advice: &'static str,
    /// Other processes that write the file through their own descriptions.
    pub others: Vec<Other>,
    /// The second close, of a double close.
    pub closed_again: Option<ClosedAgain>,
    /// Processes whose log the file is, according to the configuration of supervisord.
    pub shared_by: Vec<String>,
}

impl Finding {
    /// Creates a finding without descriptors and advice.
    #[must_use]
    pub fn new(
        id: u64,
        change: Change,
        process: ProcessInfo,
        file: FileInfo,
        cause: Cause,
        severity: Severity,
    ) -> Self {
        Self {
            id,
            change,
            process,
            file,
            fds: Vec::new(),
            more_fds: 0,
            closed: Vec::new(),
            more_closed: 0,
            lifetime: None,
            times: 1,
            cause,
            severity,
            advice: "",
            others: Vec::new(),
            closed_again: None,
            shared_by: Vec::new(),
        }
    }

    /// Returns the number of open descriptors.
    #[must_use]
    pub fn open(&self) -> usize {
        self.fds.len() + self.more_fds as usize
    }
}

/// Another process that writes the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The process.
    pub process: ProcessInfo,
    /// Its descriptor.
    pub fd: Descriptor,
}

/// A close of a number that was not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedAgain {
    /// When it was closed.
    pub at: Moment,
    /// The closing thread.
    pub tid: u32,
    /// The stack, innermost first.
    pub stack: Vec<Frame>,
}

/// The descriptors of a process.
#[derive(Clone, Debug)]
pub struct TableReport {
    /// The process.
    pub process: ProcessInfo,
    /// Its descriptors in order, with their files.
    pub fds: Vec<(Descriptor, FileInfo)>,
}
