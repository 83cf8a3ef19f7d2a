//! How a descriptor came to its process: who opened it, and the forks and execs since.

use super::{origin::made_by, process::ProcessInfo};
use crate::model::{FdEntry, Lineage, LineageEvent, LineageStep, Moment};

/// A step of a descriptor, and the process that had it from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The call that opened it, or how it was passed on: `fork` or `exec`.
    pub how: &'static str,
    /// When, if it was seen.
    pub at: Option<Moment>,
    /// The process that had it then.
    pub pid: u32,
    /// The name of that process at that time.
    pub comm: Vec<u8>,
}

/// Returns the steps of a descriptor to `process`; none if that process opened it and still runs
/// the same program.
pub(super) fn chain(entry: &FdEntry, lineage: &Lineage, process: &ProcessInfo) -> Vec<Link> {
    let steps = lineage.since(entry.opened);
    let Some(first) = steps.first() else {
        return Vec::new();
    };
    let made = Link {
        how: made_by(entry),
        at: (!entry.is_from_snapshot()).then_some(entry.opened),
        pid: first.tgid,
        comm: first.name().to_vec(),
    };
    let passed = steps.iter().enumerate().map(|(i, step)| {
        let (pid, comm) = steps.get(i + 1).map_or_else(
            || (process.pid, process.comm.clone()),
            |next| (next.tgid, next.name().to_vec()),
        );
        Link {
            how: event(step),
            at: Some(step.at),
            pid,
            comm,
        }
    });
    std::iter::once(made).chain(passed).collect()
}

const fn event(step: &LineageStep) -> &'static str {
    match step.event {
        LineageEvent::Fork => "fork",
        LineageEvent::Exec => "exec",
    }
}
