//! Diagnoses duplicates.

use super::{
    cause::{Cause, cause},
    descriptor::Descriptor,
    facts::Facts,
    file::{FileInfo, Name, is_memory},
    finding::Finding,
    process::ProcessInfo,
    severity::Severity,
};
use crate::{
    duplicates::{Change, Duplicate},
    model::{FdEntry, Provenance, Table},
};

/// Facts about a duplicate from outside the tables.
#[derive(Clone, Debug)]
pub struct Context {
    /// The process.
    pub process: ProcessInfo,
    /// The kernel's name for the file.
    pub name: Option<Name>,
    /// Whether another file is at the path now.
    pub replaced: bool,
    /// Descriptors that the parent has under the same number and with the same description. Those
    /// of unknown provenance are attributed to it.
    pub from_parent: Vec<u32>,
    /// Whether the parent has the file open more than once as well. Then the duplicate is the
    /// parent's, unless the process runs another program or has added to it.
    pub parent_holds_it: bool,
}

/// Diagnoses a duplicate.
#[must_use]
pub fn diagnose(duplicate: &Duplicate<'_>, context: Context) -> Finding {
    let table = duplicate.table;
    let held: Vec<_> = duplicate
        .fds
        .iter()
        .filter_map(|&fd| {
            let (table, entry) = (table?, table?.get(fd)?);
            let provenance = match table.provenance(entry) {
                Provenance::Unknown if context.from_parent.contains(&fd) => Provenance::Inherited,
                seen => seen,
            };
            Some((fd, entry, provenance))
        })
        .collect();
    // A duplicate that is gone is diagnosed by its former descriptors.
    let is_gone = duplicate.change == Change::Gone;
    let closed = duplicate.closed.iter().filter(|_| is_gone);
    let all: Vec<_> = held
        .into_iter()
        .chain(closed.map(|closed| (closed.fd, &closed.entry, closed.provenance)))
        .collect();
    let numbers: Vec<u32> = all.iter().map(|&(fd, ..)| fd).collect();
    let entries: Vec<&FdEntry> = all.iter().map(|&(_, entry, _)| entry).collect();
    let provenances: Vec<Provenance> = all.iter().map(|&(_, _, provenance)| provenance).collect();
    let file = entries
        .first()
        .map_or_else(FdEntry::default, |entry| **entry);
    let unlinked = context.name.as_ref().is_some_and(|name| name.deleted)
        || entries.iter().all(|entry| entry.was_unlinked());
    let nameless = entries.iter().any(|entry| entry.is_temporary())
        || context
            .name
            .as_ref()
            .is_some_and(|name| is_memory(&name.path));
    let mut file = FileInfo {
        process_path: None,
        host_path: None,
        // A file that never had a name is not deleted.
        deleted: unlinked && !nameless,
        pinned: context
            .name
            .as_ref()
            .and_then(|name| name.pinned)
            .filter(|_| !nameless),
        path: context.name.map(|name| name.path),
        dev: file.dev,
        ino: file.ino,
        file_type: file.file_type(),
    };
    file.add_views(&context.process);
    // As many at both ends.
    let listed = duplicate.fds.len().min(duplicate.max_listed);
    let (first, rest) = duplicate.fds.split_at(listed.div_ceil(2));
    let (left_out, last) = rest.split_at(rest.len() - listed / 2);
    let mut fds: Vec<_> = first
        .iter()
        .chain(last)
        .filter_map(|&fd| {
            let table = table?;
            let mut descriptor = Descriptor::of(table, fd, table.get(fd)?, &context.process);
            if descriptor.origin == "unknown" && context.from_parent.contains(&fd) {
                descriptor.origin = "fork";
            }
            Some(descriptor)
        })
        .collect();
    let mut closed: Vec<_> = duplicate
        .closed
        .iter()
        .map(|closed| Descriptor::closed(closed, table, &context.process))
        .collect();
    for descriptor in fds.iter_mut().chain(&mut closed) {
        descriptor.add_recent_opens(duplicate.recent_opens);
    }
    let cause = if file.deleted && context.replaced {
        Cause::Rotated
    } else if file.deleted && entries.len() < 2 {
        Cause::Deleted
    } else {
        cause(&entries, &provenances, &numbers)
    };
    let facts = Facts {
        outlives_connection: fds.iter().any(|fd| fd.outlives().is_some()),
        ..Facts::new(&entries, &file)
    };
    let is_inherited = provenances
        .iter()
        .all(|&provenance| provenance == Provenance::Inherited);
    let severity = if context.parent_holds_it && is_inherited {
        Severity::Info
    } else if context
        .process
        .fd_limit
        .is_some_and(|limit| uses_up(limit, table.map_or(0, Table::len), entries.len()))
    {
        Severity::Critical
    } else {
        cause.severity(&facts)
    };
    Finding {
        id: duplicate.id,
        change: duplicate.change,
        process: context.process,
        advice: cause.advice(&facts),
        fds,
        more_fds: u32::try_from(left_out.len()).unwrap_or(u32::MAX),
        closed,
        more_closed: duplicate.more_closed,
        lifetime: duplicate
            .ended
            .filter(|_| duplicate.change == Change::Gone)
            .map(|ended| ended.since(duplicate.since)),
        times: duplicate.times,
        cause,
        severity,
        others: Vec::new(),
        closed_again: None,
        shared_by: Vec::new(),
        file,
    }
}

/// Returns whether a process with `open` of at most `limit` descriptors is about to run out of
/// them, and the `count` descriptors of a duplicate contribute to that.
fn uses_up(limit: u64, open: usize, count: usize) -> bool {
    let exceeds = |count: usize, percent: u64| count as u64 >= limit * percent / 100;
    exceeds(open, 80) && exceeds(count, 10)
}
