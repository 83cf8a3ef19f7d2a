//! `fdwatch explain PID [FD|PATH]`: why a process holds what it holds, step by step.

use std::{
    collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, path::Path, process::ExitCode,
};

use anyhow::{Result, bail};

use super::{
    WritingOutput as _, check_pid,
    live::{FindingCollector, Follower, Live, Stop, Update, Wanted, now},
    remote::Remote,
    reporter, snapshot,
};
use crate::{
    cli::{Detail, Explain, MaxCpu, Target},
    diagnose::{Census, Descriptor, Finding, Severity, Sharer},
    duplicates::{Change, Duplicate},
    engine::Engine,
    filter::Filter,
    investigate::{self, Investigator, Source},
    model::{FileType, Model, Moment},
    plural::counted,
    probe::{Lost, default_ring_bytes},
    proc,
    report::{BudgetReport, Explanation, FileStory, Pinned, say_started},
};

/// Closed descriptors of one file that are told of: the last.
const MAX_CLOSED: usize = 64;

/// Files that are told of when none is asked for: the worst.
const MAX_FILES: usize = 20;

/// Sharers of one descriptor that are told of.
const MAX_SHARERS: usize = 8;

pub(super) fn run(explain: &Explain) -> Result<ExitCode> {
    check_pid(explain.pid)?;
    if !explain.source.proc
        && let Some(agent) = Remote::find(&explain.ask)?
    {
        return agent.explain(explain);
    }
    let filter = Filter {
        pids: vec![explain.pid],
        severity: Severity::Info,
        ..Filter::default()
    };
    let mut explainer = Explainer {
        explain,
        collector: FindingCollector::new(Investigator::new(filter, Source::Live)),
        gathered: BTreeMap::new(),
    };
    if let Some(duration) = explain.duration {
        let live = Live::start(Wanted {
            ring_bytes: default_ring_bytes(),
            all_types: true,
            max_cpu: MaxCpu(100.0),
            detail: Detail::Suspects,
            pids: vec![explain.pid],
            family: None,
            shows_steps: true,
        })?;
        live.follow(&mut Stop::after(Some(duration)), &mut explainer)?;
    } else {
        let snapshot = snapshot::take(explain.source.proc, true)?;
        snapshot.check_table(explain.pid)?;
        let snapshot::Snapshot { mut engine, .. } = snapshot;
        let now = engine.model.now();
        let mut news = Vec::new();
        let collector = &mut explainer.collector;
        collector.look_at(&mut engine, now, true, |it| news.push(it));
        news.into_iter().for_each(|it| explainer.gather(it));
        explainer.tell(&mut engine, now)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Gathers what is found of the process, until it is told.
struct Explainer<'a> {
    explain: &'a Explain,
    collector: FindingCollector,
    /// By number, as it was told last, with all that was closed of it.
    gathered: BTreeMap<u64, Finding>,
}

impl Explainer<'_> {
    /// Keeps what has been found since the last time.
    fn gather(&mut self, news: Update) {
        if let Update::Finding(_, finding) = news {
            add(&mut self.gathered, finding);
        }
    }

    fn tell(&mut self, engine: &mut Engine, now: Moment) -> Result<()> {
        let asked = Asked {
            pid: self.explain.pid,
            target: self.explain.target.as_ref(),
            followed: self.explain.duration.is_some(),
        };
        let found = std::mem::take(&mut self.gathered).into_values();
        let explanation = explanation(&asked, found, &mut self.collector, engine)?;
        let mut reporter = reporter(self.explain.output.format());
        reporter.explanation(&explanation, now).writing_output()
    }
}

/// What is to be explained.
pub(super) struct Asked<'a> {
    /// The process.
    pub(super) pid: u32,
    /// What of it.
    pub(super) target: Option<&'a Target>,
    /// Whether it was followed, and not only looked at.
    pub(super) followed: bool,
}

/// Why the process holds what it holds, of which so much was `found`.
///
/// # Errors
///
/// If there is nothing of what is asked for.
pub(super) fn explanation(
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

impl Follower for Explainer<'_> {
    fn started(&mut self, live: &mut Live) -> Result<()> {
        say_started(&live.stats);
        Ok(())
    }

    fn tick(&mut self, live: &mut Live, is_slow: bool) -> Result<()> {
        let mut news = Vec::new();
        self.collector.look(live, is_slow, |it, _| news.push(it));
        news.into_iter().for_each(|it| self.gather(it));
        Ok(())
    }

    fn lost(&mut self, _: &mut Live, lost: &Lost) -> Result<()> {
        crate::report::note(&format!(
            "{} lost: the story may have gaps",
            counted(lost.total(), "record")
        ));
        Ok(())
    }

    fn budget(&mut self, _: &mut Live, _: &BudgetReport) -> Result<()> {
        Ok(())
    }

    fn ended(&mut self, live: &mut Live) -> Result<()> {
        self.tell(&mut live.engine, now())
    }
}

/// Adds a finding to what was found of it before.
pub(super) fn add(gathered: &mut BTreeMap<u64, Finding>, finding: Finding) {
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
    Some((fdwatch_core::device::kernel_device(metadata.dev()), metadata.ino()))
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
