//! What a process's descriptors are, one by one: the table, and what /proc adds to it.

use super::Supervisords;
use crate::proc;
use fdwatch_core::{
    diagnose::{Descriptor, FileInfo, ProcessInfo, TableReport, is_memory},
    model::{FdEntry, FileType, Model, Table},
};

/// The report of a table. `parents` is the table of the process's parent, if that is another; `ends`
/// tells all that is open of a pipe, as processes and their descriptors.
pub fn table_report(
    process: ProcessInfo,
    table: Option<&Table>,
    parents: Option<&Table>,
    supervisords: &mut Supervisords,
    ends: impl Fn(&FdEntry) -> Vec<(u32, u32)>,
) -> TableReport {
    let mut rows = Vec::new();
    for (fd, slot) in table.iter().flat_map(|table| table.iter()) {
        let Some(table) = table else { break };
        let mut descriptor = Descriptor::of(table, fd, slot, &process);
        if descriptor.origin == "unknown" && is_in(parents, fd, slot) {
            descriptor.origin = "fork";
        }
        let file = file(process.pid, fd, slot);
        if let Some(path) = &file.path {
            let uses = supervisords.uses(&process, path);
            descriptor.set_role(&uses, file.deleted);
        }
        if slot.file_type() == FileType::Pipe {
            descriptor.role = supervisords.pipe(&process, || ends(slot));
        }
        rows.push((descriptor, file));
    }
    TableReport { fds: rows, process }
}

/// Where it was not seen how a descriptor was made: one that the parent has under the same number, with
/// the same description, came from there.
fn is_in(parents: Option<&Table>, fd: u32, slot: &FdEntry) -> bool {
    let parents = parents.and_then(|parents| parents.get(fd));
    parents.is_some_and(|parents| parents.file == slot.file)
}

/// All that is open of a pipe: processes, and their descriptors.
pub fn pipe_ends(model: &Model, pipe: &FdEntry) -> Vec<(u32, u32)> {
    let tables = model.tables();
    let ends = tables.flat_map(|table| {
        let holder = table.holders().first().map(|holder| holder.tgid);
        let own = table.iter().filter(|(_, slot)| {
            slot.file_type() == FileType::Pipe && (slot.dev, slot.ino) == (pipe.dev, pipe.ino)
        });
        own.filter_map(move |(fd, _)| Some((holder?, fd)))
    });
    ends.collect()
}

fn file(pid: u32, fd: u32, slot: &FdEntry) -> FileInfo {
    let name = proc::name(pid, fd);
    FileInfo {
        // What never had a name is not deleted.
        deleted: name
            .as_ref()
            .is_some_and(|name| name.deleted && !slot.is_temporary() && !is_memory(&name.path)),
        pinned: name.as_ref().and_then(|name| name.pinned),
        ..FileInfo::new(
            name.map(|name| name.path),
            slot.dev,
            slot.ino,
            slot.file_type(),
        )
    }
}
