//! Diagnoses findings other than duplicates: files that were rotated while open, files that several
//! processes write, and double closes.

use super::{
    cause::Cause,
    descriptor::{Descriptor, FdHistory},
    duplicate::Context,
    facts::Facts,
    file::{FileInfo, Name},
    finding::{ClosedAgain, Finding, Other},
    process::ProcessInfo,
};
use crate::{
    duplicates::{Change, Closing, DoubleClose, Rotation, SharedFile},
    model::{Access, FileType, Identity, Lineage, Model, Provenance},
};

/// Diagnoses a rotation. `context` is about the rotated file; `new` is the path of the file in its
/// place, whose descriptors are listed as well.
#[must_use]
pub fn diagnose_rotation(
    rotation: &Rotation<'_>,
    context: Context,
    new: Option<Vec<u8>>,
) -> Finding {
    let table = rotation.table;
    let written = |identity: Identity| -> Vec<_> {
        let Some(table) = table else {
            return Vec::new();
        };
        let entries = table.iter();
        entries
            .filter(|(_, entry)| entry.identity() == identity && entry.access().writes())
            .map(|(fd, entry)| Descriptor::of(table, fd, entry, &context.process))
            .collect()
    };
    let file = |identity: Identity, path, deleted, pinned| FileInfo {
        deleted,
        pinned,
        ..FileInfo::new(path, identity.dev, identity.number, FileType::Regular)
    };
    let new_file = file(rotation.new, new, false, None);
    let old = written(rotation.old).into_iter();
    let new = written(rotation.new).into_iter();
    let new = new.map(|descriptor| Descriptor {
        other_file: Some(Box::new(new_file.clone())),
        ..descriptor
    });
    let (path, deleted, pinned) = context.name.map_or((None, false, None), |name| {
        (Some(name.path), name.deleted, name.pinned)
    });
    let mut file = file(rotation.old, path, deleted, pinned);
    file.add_views(&context.process);
    let cause = Cause::Rotated;
    let facts = Facts {
        count: 2,
        is_written: true,
        has_two_descriptions: true,
        ..Facts::new(&[], &file)
    };
    Finding {
        fds: old.chain(new).collect(),
        advice: cause.advice(&facts),
        ..Finding::new(
            rotation.id,
            rotation.change,
            context.process,
            file,
            cause,
            cause.severity(&facts),
        )
    }
}

/// Diagnoses a file that several processes write. `are_related` is whether two writers with their
/// own descriptions belong to the same service. `processes` are the writers in order; none for a
/// process that could not be read. Returns none if no writer is left.
#[must_use]
pub fn diagnose_shared(
    shared: &SharedFile<'_>,
    model: &Model,
    processes: Vec<Option<ProcessInfo>>,
    name: Option<Name>,
    are_related: bool,
) -> Option<Finding> {
    let mut all = Vec::new();
    for (writer, process) in shared.writers.iter().zip(processes) {
        let Some(process) = process else { continue };
        let table = model.table(writer.table);
        let entry = table.and_then(|table| table.get(writer.fd));
        let fd = match table.zip(entry.filter(|entry| entry.file == writer.file)) {
            Some((table, entry)) => Descriptor::of(table, writer.fd, entry, &process),
            None => continue,
        };
        all.push(Other { process, fd });
    }
    let is_overwritten = all.iter().all(|other| other.fd.access == Access::Write)
        && all.iter().any(|other| !other.fd.append);
    let mut all = all.into_iter();
    let first = all.next()?;
    let Identity { dev, number, .. } = shared.identity;
    let file = FileInfo {
        deleted: name.as_ref().is_some_and(|name| name.deleted),
        pinned: name.as_ref().and_then(|name| name.pinned),
        ..FileInfo::new(name.map(|name| name.path), dev, number, FileType::Regular)
    };
    let cause = Cause::SharedFile;
    let facts = Facts {
        is_overwritten,
        is_one_service: are_related,
        ..Facts::new(&[], &file)
    };
    Some(Finding {
        fds: vec![first.fd],
        advice: cause.advice(&facts),
        others: all.collect(),
        ..Finding::new(
            shared.id,
            shared.change,
            first.process,
            file,
            cause,
            cause.severity(&facts),
        )
    })
}

/// Diagnoses a double close in `process`. `is_elsewhere` is whether different code is known to have
/// closed the descriptor first.
#[must_use]
pub fn diagnose_double_close(
    double: &DoubleClose,
    process: ProcessInfo,
    lineage: &Lineage,
    is_elsewhere: bool,
) -> Finding {
    let closed = |closing: &Closing| {
        let history = FdHistory {
            provenance: Provenance::Made,
            lineage,
            process: &process,
        };
        Descriptor {
            closed: Some(closing.at),
            closed_by: closing.tid,
            is_closed_by_same_program: true,
            ..Descriptor::new(double.again.fd, &closing.entry, history)
        }
    };
    let entry = &double.first.entry;
    let file = FileInfo::new(None, entry.dev, entry.ino, entry.file_type());
    let before = double.before.iter().chain([&double.first]);
    let closed = before.map(closed).collect();
    let is_other_thread = double.first.tid.is_some_and(|tid| tid != double.again.tid);
    let cause = Cause::DoubleClose;
    let facts = Facts {
        has_two_closers: is_other_thread || is_elsewhere,
        ..Facts::new(&[entry], &file)
    };
    let severity = cause.severity(&facts);
    Finding {
        closed,
        advice: cause.advice(&facts),
        closed_again: Some(ClosedAgain {
            at: double.again.at,
            tid: double.again.tid,
            stack: Vec::new(),
        }),
        ..Finding::new(double.id, Change::Found, process, file, cause, severity)
    }
}
