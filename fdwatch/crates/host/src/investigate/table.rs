//! The report of a process's descriptors: its table, completed from /proc.

use super::supervisord::SupervisordConfigs;
use crate::proc;
use fdwatch_core::{
    diagnose::{Descriptor, FileInfo, ProcessInfo, TableReport, is_memory},
    model::{FdEntry, FileType, Model, Table},
};

/// Returns the report of a table. `parents` is the table of the process's parent, if it has its own;
/// `ends` returns all open ends of a pipe, as process and descriptor.
pub fn table_report(
    process: ProcessInfo,
    table: Option<&Table>,
    parents: Option<&Table>,
    supervisords: &mut SupervisordConfigs,
    ends: impl Fn(&FdEntry) -> Vec<(u32, u32)>,
) -> TableReport {
    let mut rows = Vec::new();
    for (fd, entry) in table.iter().flat_map(|table| table.iter()) {
        let Some(table) = table else { break };
        let mut descriptor = Descriptor::of(table, fd, entry, &process);
        if descriptor.origin == "unknown" && is_in(parents, fd, entry) {
            descriptor.origin = "fork";
        }
        let file = file(process.pid, fd, entry);
        if let Some(path) = &file.path {
            let uses = supervisords.uses(&process, path);
            descriptor.set_role(&uses, file.deleted);
        }
        if entry.file_type() == FileType::Pipe {
            descriptor.role = supervisords.pipe(&process, || ends(entry));
        }
        rows.push((descriptor, file));
    }
    TableReport { fds: rows, process }
}

/// Returns whether the parent has the same description under the same number, which means that a descriptor
/// of unknown origin was inherited.
fn is_in(parents: Option<&Table>, fd: u32, entry: &FdEntry) -> bool {
    let parents = parents.and_then(|parents| parents.get(fd));
    parents.is_some_and(|parents| parents.file == entry.file)
}

/// Returns all open ends of a pipe, as process and descriptor.
pub fn pipe_ends(model: &Model, pipe: &FdEntry) -> Vec<(u32, u32)> {
    let tables = model.tables();
    let ends = tables.flat_map(|table| {
        let holder = table.holders().first().map(|holder| holder.tgid);
        let own = table.iter().filter(|(_, entry)| {
            entry.file_type() == FileType::Pipe && (entry.dev, entry.ino) == (pipe.dev, pipe.ino)
        });
        own.filter_map(move |(fd, _)| Some((holder?, fd)))
    });
    ends.collect()
}

fn file(pid: u32, fd: u32, entry: &FdEntry) -> FileInfo {
    let name = proc::name(pid, fd);
    FileInfo {
        // A file created without a name (`O_TMPFILE`) is not deleted.
        deleted: name
            .as_ref()
            .is_some_and(|name| name.deleted && !entry.is_temporary() && !is_memory(&name.path)),
        pinned: name.as_ref().and_then(|name| name.pinned),
        ..FileInfo::new(
            name.map(|name| name.path),
            entry.dev,
            entry.ino,
            entry.file_type(),
        )
    }
}
