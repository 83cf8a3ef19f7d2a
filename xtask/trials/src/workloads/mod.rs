//! `cargo xtask workloads`: runs real programs under fdwatch. Afterwards, its model must match the kernel's state.

mod canary;
mod cargo;
mod find;
mod nginx;
mod postgres;
mod programs;
mod recording;
mod shell;
mod supervisord;
mod table;
mod watch;
mod workload;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use xtask_support::{
    cargo::{Profile, build_fdwatch, fdwatch},
    shell::{info, is_root},
    temp::TempDir,
};

use self::{
    table::Outcome,
    watch::Watch,
    workload::{Amount, Workload},
};
use crate::processes::{Sweep, adopt_orphans, is_interrupted};

fn all() -> [Box<dyn Workload>; 6] {
    [
        Box::<cargo::Cargo>::default(),
        Box::<find::Find>::default(),
        Box::<postgres::Postgres>::default(),
        Box::<nginx::Nginx>::default(),
        Box::<supervisord::Supervisord>::default(),
        Box::<shell::Shells>::default(),
    ]
}

/// Watches the workloads in `names`, or all; with `recordings`, records them into that directory instead.
pub(crate) fn workloads(
    names: &[String],
    recordings: Option<&Path>,
    duration: Duration,
) -> Result<()> {
    let mut workloads = Vec::from(all());
    let is_known = |name: &String| workloads.iter().any(|workload| workload.name() == *name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let names: Vec<_> = workloads.iter().map(|workload| workload.name()).collect();
        bail!("no such workload: {unknown}; known: {}", names.join(", "));
    }
    if !is_root() {
        bail!("workloads needs root: run this as root");
    }
    workloads.retain(|workload| names.is_empty() || names.iter().any(|n| n == workload.name()));
    workloads.retain(|workload| match programs::install(workload.needs()) {
        Ok(()) => true,
        Err(error) => {
            info(format!("{} is skipped: {error:#}", workload.name()));
            false
        }
    });
    build_fdwatch(Profile::Release)?;
    let fdwatch = fdwatch(Profile::Release)?;
    adopt_orphans()?;
    let mut outcomes = Vec::new();
    let mut failed = Vec::new();
    for workload in &mut workloads {
        let name = workload.name();
        info(format!("running {name}"));
        let result = if let Some(recordings) = recordings {
            record(workload.as_mut(), &fdwatch, recordings)
        } else {
            watch(workload.as_mut(), &fdwatch, duration).map(|outcome| outcomes.push(outcome))
        };
        if let Err(error) = result {
            info(format!("{name} failed: {error:#}"));
            failed.push(name);
        }
        if is_interrupted() {
            bail!("interrupted");
        }
    }
    if recordings.is_none() {
        print!("{}", table::of(&outcomes));
    }
    let inexact = outcomes
        .iter()
        .filter(|outcome| !outcome.summary.is_exact());
    for Outcome { name, summary, .. } in inexact {
        info(format!(
            "{name}: the model differs from the kernel, or events were lost: {}",
            summary.lost_kinds
        ));
        failed.push(name);
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Prepares the workload `name` and calls `turns` with a function that runs it once for about `duration` and
/// returns the seconds per unit of work.
pub(crate) fn repeat(
    name: &str,
    duration: Duration,
    turns: impl FnOnce(&mut dyn FnMut() -> Result<f64>) -> Result<()>,
) -> Result<()> {
    let mut workloads = all();
    let workload = workloads.iter_mut().find(|it| it.name() == name);
    let workload = workload.with_context(|| format!("no such workload: {name}"))?;
    programs::install(workload.needs())?;
    adopt_orphans()?;
    // Dropped in reverse order, as in `watch`.
    let directory = directory()?;
    let _sweep = Sweep;
    let workload = Stopping::of(workload.as_mut());
    workload.0.prepare(directory.path())?;
    turns(&mut || {
        let began = Instant::now();
        let work = workload.0.run(Amount::For(duration))?;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let seconds = began.elapsed().as_secs_f64() / work.count as f64;
        Ok(seconds)
    })?;
    workload.0.stop()
}

/// Returns a directory that other users may enter, for programs that do not run as root.
fn directory() -> Result<TempDir> {
    let directory = TempDir::new("fdwatch-workload-").context("cannot create a directory")?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    Ok(directory)
}

fn watch(workload: &mut dyn Workload, fdwatch: &Path, duration: Duration) -> Result<Outcome> {
    // Dropped in reverse order: the directory last, when no program uses it.
    let directory = directory()?;
    let _sweep = Sweep;
    let watch = Watch::start(fdwatch)?;
    let workload = Stopping::of(workload);
    workload.0.prepare(directory.path())?;
    let began = Instant::now();
    let work = workload.0.run(Amount::For(duration))?;
    let seconds = began.elapsed().as_secs_f64();
    let name = workload.0.name();
    workload.0.linger()?;
    let summary = watch.end()?;
    workload.0.stop()?;
    Ok(Outcome {
        name,
        seconds,
        work,
        summary,
    })
}

fn record(workload: &mut dyn Workload, fdwatch: &Path, recordings: &Path) -> Result<()> {
    let file: PathBuf = recordings.join(format!("{}.fdw", workload.name()));
    let directory = directory()?;
    let _sweep = Sweep;
    let workload = Stopping::of(workload);
    workload.0.prepare(directory.path())?;
    let recording = recording::start(fdwatch, directory.path())?;
    workload.0.run(Amount::Sample)?;
    recording.end(&file)?;
    workload.0.stop()?;
    let bytes = fs::metadata(&file)?.len();
    info(format!("{} has {bytes} bytes", file.display()));
    Ok(())
}

/// A workload that is stopped when dropped.
struct Stopping<'a>(&'a mut dyn Workload);

impl<'a> Stopping<'a> {
    fn of(workload: &'a mut dyn Workload) -> Self {
        Self(workload)
    }
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        // Does nothing if it has been stopped already.
        let _ = self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().iter().map(|workload| workload.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }
}
