//! Explains how a process came to hold its descriptors: those with findings, or one that was requested.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Result, bail};

use crate::collector::FindingCollector;
use fdwatch_core::{
    diagnose::{Census, Descriptor, Finding, Severity, Sharer},
    duplicates::{Change, Duplicate},
    engine::Engine,
    model::{FileType, Model},
};
use fdwatch_events::{Explanation, FileStory, Pinned};
use fdwatch_host::investigate;
use fdwatch_options::Target;

/// Maximum number of closed descriptors reported per file: the latest.
const MAX_CLOSED: usize = 64;

/// Maximum number of files explained if none was requested: the most severe.
const MAX_FILES: usize = 20;

/// Maximum number of sharers reported per descriptor.
const MAX_SHARERS: usize = 8;

/// Request for an explanation.
pub struct ExplainRequest<'a> {
    /// The process.
    pub pid: u32,
    /// Descriptor or file; all files with findings if `None`.
    pub target: Option<&'a Target>,
    /// Whether events of the process were followed, so that the history is complete.
    pub followed: bool,
}

/// Explains the descriptors of a process from its findings.
///
/// # Errors
///
/// If the process does not hold the requested descriptor or file.
pub fn explanation(
    request: &ExplainRequest<'_>,
    found: impl Iterator<Item = Finding>,
    collector: &mut FindingCollector,
    engine: &Engine,
) -> Result<Explanation> {
    let files = files(request, found, collector, engine)?;
    let model = &engine.model;
    let pid = request.pid;
    let table = model.table_of(pid);
    let files = files.into_iter().map(|finding| {
        let sharers = sharers(&finding, model);
        FileStory { sharers, finding }
    });
    Ok(Explanation {
        process: investigate::process(pid, model),
        census: table.map_or_else(Census::default, Census::of),
        pinned: table.map_or_else(Pinned::default, |table| investigate::pinned(pid, table)),
        closed_unopened: model.process(pid).map_or(0, |known| known.closed_unopened),
        followed: request.followed,
        files: files.collect(),
    })
}

/// Returns the files to explain, most severe first; or the requested one.
fn files(
    request: &ExplainRequest<'_>,
    found: impl Iterator<Item = Finding>,
    collector: &mut FindingCollector,
    engine: &Engine,
) -> Result<Vec<Finding>> {
    let Some(target) = request.target else {
        let mut files: Vec<_> = found
            .filter(|finding| {
                finding.file.file_type == FileType::Regular || finding.severity > Severity::Info
            })
            .collect();
        files.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        files.truncate(MAX_FILES);
        return Ok(files);
    };
    let pid = request.pid;
    let table = engine.model.table_of(pid);
    let of_path = match target {
        Target::Path(path) => identity_of(pid, path),
        Target::Fd(_) => None,
    };
    let has = |fds: &[Descriptor], fd| fds.iter().any(|own| own.fd == fd);
    let matches = |finding: &Finding| match target {
        &Target::Fd(fd) if table.is_some_and(|table| table.get(fd).is_some()) => {
            has(&finding.fds, fd)
        }
        &Target::Fd(fd) => has(&finding.closed, fd),
        Target::Path(path) => {
            Some((finding.file.dev, finding.file.ino)) == of_path
                || finding.file.path.as_deref() == Some(path.as_bytes())
        }
    };
    let mut found: Vec<_> = found.filter(matches).collect();
    let entry = table.and_then(|table| match target {
        &Target::Fd(fd) => table.get(fd),
        Target::Path(_) => {
            let mut entries = table.iter().map(|(_, entry)| entry);
            entries.find(|entry| Some((entry.dev, entry.ino)) == of_path)
        }
    });
    if found.is_empty()
        && let (Some(table), Some(entry)) = (table, entry)
    {
        let fds: Vec<_> = table.on_file(entry.identity()).collect();
        let alone = Duplicate {
            id: u64::MAX,
            change: Change::Found,
            tgid: pid,
            table: Some(table),
            identity: entry.identity(),
            fds: &fds,
            max_listed: usize::MAX,
            closed: &[],
            more_closed: 0,
            since: engine.model.now(),
            ended: None,
            times: 1,
            recent_opens: &[],
        };
        let mut finding = collector.investigator.plain(&alone, &engine.model);
        investigate::add_detail(&mut finding, &engine.details, &mut collector.symbols);
        found.push(finding);
    }
    if found.is_empty() {
        match target {
            Target::Fd(fd) => bail!("no such descriptor in process {pid}: {fd}"),
            Target::Path(path) => bail!("not open in process {pid}: {path}"),
        }
    }
    Ok(found)
}

/// Replaces a finding by its latest state, and appends its closed descriptors.
pub fn merge(gathered: &mut BTreeMap<u64, Finding>, finding: Finding) {
    let closed: Vec<Descriptor> = match gathered.remove(&finding.id) {
        Some(previous) => previous.closed,
        None => Vec::new(),
    };
    let mut all: Vec<_> = closed.into_iter().chain(finding.closed).collect();
    let more = all.len().saturating_sub(MAX_CLOSED);
    all.drain(..more);
    let finding = Finding {
        closed: all,
        more_closed: finding.more_closed + u32::try_from(more).unwrap_or(u32::MAX),
        ..finding
    };
    gathered.insert(finding.id, finding);
}

/// Returns device and inode of a path, as the process resolves it.
fn identity_of(pid: u32, path: &str) -> Option<(u32, u64)> {
    let path = Path::new(path).strip_prefix("/").ok()?;
    let path = Path::new(&format!("/proc/{pid}/root")).join(path);
    let metadata = fs::metadata(path).ok()?;
    Some((
        fdwatch_core::device::kernel_device(metadata.dev()),
        metadata.ino(),
    ))
}

/// Returns descriptors of other processes that share the open file descriptions.
fn sharers(finding: &Finding, model: &Model) -> Vec<Sharer> {
    let mut sharers = Vec::new();
    let own = finding.process.pid;
    for table in model.tables() {
        let holder = table.holders().first();
        let Some(holder) = holder.filter(|_| table.holders().iter().all(|it| it.tgid != own))
        else {
            continue;
        };
        for (their_fd, entry) in table.iter() {
            let shared = finding
                .fds
                .iter()
                .find(|fd| fd.description == entry.file && finding.file.ino == entry.ino);
            let Some(shared) = shared else { continue };
            let known = sharers.iter().filter(|it: &&Sharer| it.fd == shared.fd);
            if known.count() < MAX_SHARERS {
                sharers.push(Sharer {
                    fd: shared.fd,
                    pid: holder.tgid,
                    comm: model
                        .process(holder.tgid)
                        .map_or_else(Vec::new, |process| process.name().to_vec()),
                    their_fd,
                    is_parent: holder.tgid == finding.process.ppid,
                });
            }
        }
    }
    sharers.sort_by_key(|sharer| (sharer.fd, !sharer.is_parent, sharer.pid));
    sharers
}
