//! Looks up processes and names of files in /proc, and falls back to the model.

use std::{fs, os::unix::fs::MetadataExt as _};

use fdwatch_core::{
    diagnose::{Name, ProcessInfo, is_memory},
    duplicates::Path,
    model::{FdEntry, Identity, Model, Process, Table},
};

use crate::proc;

/// Returns the path of a descriptor, if it has one and still refers to the file in the table.
pub fn path_of(pid: u32, fd: u32, entry: &FdEntry) -> Option<Path> {
    let name = proc::name(pid, fd).filter(|name| !is_memory(&name.path))?;
    is_same_file(pid, fd, entry).then_some(Path {
        bytes: name.path,
        deleted: name.deleted,
    })
}

/// Returns the name of a file from any of its descriptors in the table.
pub(super) fn file_name(table: Option<&Table>, identity: Identity) -> Option<Name> {
    let table = table?;
    let fds: Vec<_> = table.on_file(identity).take(MAX_TRIED).collect();
    name_of(table, &fds)
}

/// Descriptors of a file that are tried for its name. More fail only if the process has ended.
const MAX_TRIED: usize = 8;

/// Returns the name of the file that all the descriptors `fds` refer to.
pub(super) fn name_of(table: &Table, fds: &[u32]) -> Option<Name> {
    let pid = table.holders().first()?.tid;
    fds.iter().take(MAX_TRIED).find_map(|&fd| {
        let entry = table.get(fd)?;
        let name = proc::name(pid, fd)?;
        is_same_file(pid, fd, entry).then_some(name)
    })
}

/// Returns whether a descriptor still refers to the file in the table: its number may have been reused. Inodes
/// are compared only if the devices match, because subvolumes and overlays show a different device.
fn is_same_file(pid: u32, fd: u32, entry: &FdEntry) -> bool {
    let Ok(metadata) = fs::metadata(format!("/proc/{pid}/fd/{fd}")) else {
        return false;
    };
    fdwatch_core::device::kernel_device(metadata.dev()) != entry.dev || metadata.ino() == entry.ino
}

/// Returns the process `tgid` as in /proc, or as in the model if it has exited.
pub fn process(tgid: u32, model: &Model) -> ProcessInfo {
    process_of(tgid, model.process_or_ended(tgid))
}

/// Returns the process `tgid` as in /proc, or as in `known` if it has exited.
pub fn process_of(tgid: u32, known: Option<&Process>) -> ProcessInfo {
    let start_time = known.map_or(0, |known| known.start_time);
    proc::process(tgid, start_time).unwrap_or_else(|| info_of(tgid, known))
}

/// Returns the process `tgid` as in the model.
pub(super) fn recorded_process(tgid: u32, model: &Model) -> ProcessInfo {
    info_of(tgid, model.process_or_ended(tgid))
}

fn info_of(tgid: u32, known: Option<&Process>) -> ProcessInfo {
    ProcessInfo {
        pid: tgid,
        start_time: known.map_or(0, |known| known.start_time),
        ppid: known.map_or(0, |known| known.parent),
        comm: known.map_or_else(Vec::new, |known| known.name().to_vec()),
        ..ProcessInfo::default()
    }
}
