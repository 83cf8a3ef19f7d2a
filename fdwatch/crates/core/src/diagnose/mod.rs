//! Diagnoses duplicates and leaks: cause, severity, and what to do.
//!
//! No I/O: facts from outside the tables, such as a file's path, are passed in.

mod cause;
mod census;
mod chain;
mod cross_process;
mod descriptor;
mod duplicate;
mod facts;
mod file;
mod finding;
mod origin;
mod process;
mod role;
mod severity;
mod story;

pub(crate) use self::origin::call_name;
pub use self::{
    cause::{Cause, remedies},
    census::Census,
    chain::Link,
    cross_process::{diagnose_double_close, diagnose_rotation, diagnose_shared},
    descriptor::{Descriptor, FdHistory, NearbyOpen},
    duplicate::{Context, diagnose},
    file::{FileInfo, Name, is_memory},
    finding::{ClosedAgain, Finding, Other, TableReport},
    origin::origin,
    process::ProcessInfo,
    role::LogUse,
    severity::Severity,
    story::{Sentence, Sharer, numbers, story},
};

#[cfg(test)]
mod tests;
