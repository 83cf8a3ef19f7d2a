//! Explanation of what a process holds: the files with findings, or the one that was requested.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Result, bail};

use super::FindingCollector;
use fdwatch_core::{
    diagnose::{Census, Descriptor, Finding, Severity, Sharer},
    duplicates::{Change, Duplicate},
    engine::Engine,
    model::{FileType, Model},
};
use fdwatch_events::{Explanation, FileStory, Pinned};
use fdwatch_host::investigate;
use fdwatch_options::Target;

/// Closed descriptors of one file that are told of: the last.
const MAX_CLOSED: usize = 64;

/// Files that are told of when none is asked for: the worst.
const MAX_FILES: usize = 20;

/// Sharers of one descriptor that are told of.
const MAX_SHARERS: usize = 8;

/// What is to be explained.
pub struct Asked<'a> {
    /// The process.
    pub pid: u32,
    /// What of it.
    pub target: Option<&'a Target>,
    /// Whether it was followed, and not only looked at.
    pub followed: bool,
}

/// Why the process holds what it holds, of which so much was `found`.
///
/// # Errors
///
/// If there is nothing of what is asked for.
pub fn explanation(
    asked: &Asked<'_>,
    found: impl Iterator<Item = Finding>,
    collector: &mut FindingCollector,
    engine: &Engine,
) -> Result<Explanation> {
    let files = files(asked, found, collector, engine)?;
    let model = &engine.model;
    let pid = asked.pid;
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
        followed: asked.followed,
        files: files.collect(),
    })
}

/// The files there is a story of, the worst first; or the one that was asked for.
fn files(
    asked: &Asked<'_>,
    found: impl Iterator<Item = Finding>,
    collector: &mut FindingCollector,
    engine: &Engine,
) -> Result<Vec<Finding>> {
    let Some(target) = asked.target else {
        let mut files: Vec<_> = found
            .filter(|finding| {
                finding.file.file_type == FileType::Regular || finding.severity > Severity::Info
            })
            .collect();
        files.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        files.truncate(MAX_FILES);
        return Ok(files);
    };
    let pid = asked.pid;
    let table = engine.model.table_of(pid);
    let of_path = match target {
        Target::Path(path) => identity_of(pid, path),
        Target::Fd(_) => None,
    };
    let has = |fds: &[Descriptor], fd| fds.iter().any(|own| own.fd == fd);
    let is_it = |finding: &Finding| match target {
        &Target::Fd(fd) if table.is_some_and(|table| table.get(fd).is_some()) => {
            has(&finding.fds, fd)
        }
        &Target::Fd(fd) => has(&finding.closed, fd),
        Target::Path(path) => {
            Some((finding.file.dev, finding.file.ino)) == of_path
                || finding.file.path.as_deref() == Some(path.as_bytes())
        }
    };
    let mut found: Vec<_> = found.filter(is_it).collect();
    let slot = table.and_then(|table| match target {
        &Target::Fd(fd) => table.get(fd),
        Target::Path(_) => {
            let mut slots = table.iter().map(|(_, slot)| slot);
            slots.find(|slot| Some((slot.dev, slot.ino)) == of_path)
        }
    });
    if found.is_empty()
        && let (Some(table), Some(slot)) = (table, slot)
    {
        let fds: Vec<_> = table.on_file(slot.identity()).collect();
        let alone = Duplicate {
            id: u64::MAX,
            change: Change::Found,
            tgid: pid,
            table: Some(table),
            identity: slot.identity(),
            fds: &fds,
            closed: &[],
            more_closed: 0,
            since: engine.model.now(),
            ended: None,
            times: 1,
            around: &[],
        };
        let mut finding = collector.investigator.plain(&alone, &engine.model);
        investigate::add_detail(&mut finding, &engine.details, &mut collector.symbols);
        found.push(finding);
    }
    if found.is_empty() {
        match target {
            Target::Fd(fd) => bail!("process {pid} has no descriptor {fd}"),
            Target::Path(path) => bail!("process {pid} has no descriptor on {path}"),
        }
    }
    Ok(found)
}

/// Adds a finding to what was found of it before.
pub fn add(gathered: &mut BTreeMap<u64, Finding>, finding: Finding) {
    let closed: Vec<Descriptor> = match gathered.remove(&finding.id) {
        Some(before) => before.closed,
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

/// Device and inode of what the process finds at the path.
fn identity_of(pid: u32, path: &str) -> Option<(u32, u64)> {
    let path = Path::new(path).strip_prefix("/").ok()?;
    let path = Path::new(&format!("/proc/{pid}/root")).join(path);
    let metadata = fs::metadata(path).ok()?;
    Some((
        fdwatch_core::device::kernel_device(metadata.dev()),
        metadata.ino(),
    ))
}

/// The descriptors of other processes that are on the same descriptions.
fn sharers(finding: &Finding, model: &Model) -> Vec<Sharer> {
    let mut sharers = Vec::new();
    let own = finding.process.pid;
    for table in model.tables() {
        let holder = table.holders().first();
        let Some(holder) = holder.filter(|_| table.holders().iter().all(|it| it.tgid != own))
        else {
            continue;
        };
        for (their_fd, slot) in table.iter() {
            let shared = finding
                .fds
                .iter()
                .find(|fd| fd.description == slot.file && finding.file.ino == slot.ino);
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
