//! `fdwatch fds PID`: a process's descriptors, with their origins as far as a look can tell.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::{WritingOutput as _, check_pid, reporter, snapshot};
use crate::{
    cli::Fds,
    diagnose::{Descriptor, FileInfo, is_memory},
    investigate::{self, Supervisords},
    model::{FileType, Model, Slot, Table},
    proc,
    report::TableReport,
};

pub(super) fn run(fds: &Fds) -> Result<ExitCode> {
    check_pid(fds.pid)?;
    let snapshot = snapshot::take(fds.source.proc, true)?;
    let model = &snapshot.engine.model;
    let process = investigate::process(fds.pid, model);
    let table = model.table_of(fds.pid);
    if table.is_none() && !proc::has_no_descriptors(fds.pid) {
        bail!(
            "the descriptors of process {} cannot be read: it has ended, or the kernel hides them",
            fds.pid
        );
    }
    let mut supervisords = Supervisords::default();
    let mut rows = Vec::new();
    for (fd, slot) in table.iter().flat_map(|table| table.iter()) {
        let Some(table) = table else { break };
        let mut descriptor = Descriptor {
            origin: origin(model, process.ppid, fd, slot, table),
            ..Descriptor::of(table, fd, slot, &process)
        };
        let file = file(fds.pid, fd, slot);
        if let Some(path) = &file.path {
            let uses = supervisords.uses(&process, path);
            descriptor.set_role(&uses, file.deleted);
        }
        if slot.file_type() == FileType::Pipe {
            descriptor.role = supervisords.pipe(&process, || ends(model, slot));
        }
        rows.push((descriptor, file));
    }
    let report = TableReport { fds: rows, process };
    let mut reporter = reporter(fds.output.format());
    reporter.table(&report, model.now()).writing_output()?;
    Ok(ExitCode::SUCCESS)
}

/// A look does not show how a descriptor was made; but one that the parent has under the same
/// number, with the same description, came from there.
fn origin(model: &Model, ppid: u32, fd: u32, slot: &Slot, table: &Table) -> &'static str {
    let parents = model
        .table_of(ppid)
        .filter(|parent| parent.id() != table.id());
    let parents = parents.and_then(|parent| parent.get(fd));
    if parents.is_some_and(|parents| parents.file == slot.file) {
        "fork"
    } else {
        "unknown"
    }
}

/// All that is open of a pipe: processes, and their descriptors.
fn ends(model: &Model, pipe: &Slot) -> Vec<(u32, u32)> {
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

fn file(pid: u32, fd: u32, slot: &Slot) -> FileInfo {
    let name = proc::name(pid, fd);
    FileInfo {
        // What never had a name is not deleted.
        deleted: name
            .as_ref()
            .is_some_and(|name| name.deleted && !slot.is_temporary() && !is_memory(&name.path)),
        pinned: name.as_ref().and_then(|name| name.pinned),
        process_path: None,
        host_path: None,
        path: name.map(|name| name.path),
        dev: slot.dev,
        ino: slot.ino,
        file_type: slot.file_type(),
    }
}
