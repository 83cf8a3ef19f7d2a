//! `cargo xtask workloads`: real programs at work, with fdwatch beside them. What it knows in the
//! end must be what the kernel knows.

mod canary;
mod cargo;
mod find;
mod nginx;
mod postgres;
pub(crate) mod processes;
mod programs;
mod recording;
mod shell;
mod supervisord;
mod table;
mod watch;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use self::{
    processes::Sweep,
    programs::Need,
    watch::{Summary, Watch},
};
use crate::{
    shell::{is_root, say},
    tasks,
};

/// A program, or some, that work as they would anywhere.
///
/// `prepare`, `run`, `linger` if need be, `stop`, in this order, and `stop` after any failure. None
/// of them knows of fdwatch. Only `run` is meant to be measured.
trait Workload {
    /// What it is called on the command line.
    fn name(&self) -> &'static str;

    /// The programs that it runs.
    fn needs(&self) -> &'static [Need];

    /// Makes what it works with, in a directory of its own, and starts what serves.
    fn prepare(&mut self, directory: &Path) -> Result<()>;

    /// Works.
    fn run(&mut self, amount: Amount) -> Result<Work>;

    /// Begins to work again, and comes to rest in the midst of it: what is open then stays open, for
    /// an audit to look at.
    fn linger(&mut self) -> Result<()>;

    /// Ends what serves, and what lingers.
    fn stop(&mut self) -> Result<()>;
}

/// How much work is to be done.
#[derive(Debug, Clone, Copy)]
enum Amount {
    /// As much as can be done in this time; what cannot be cut short may take longer.
    For(Duration),
    /// A little of each sort: some thousand events.
    Sample,
}

/// What was done.
#[derive(Debug, PartialEq)]
struct Work {
    count: u64,
    /// Of what.
    unit: &'static str,
}

/// What came of a workload.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    seconds: f64,
    work: Work,
    summary: Summary,
}

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

/// Watches the workloads of these names, or all; with `recordings`, records them into that
/// directory instead.
pub(crate) fn workloads(
    names: &[String],
    recordings: Option<&Path>,
    duration: Duration,
) -> Result<()> {
    let mut workloads = Vec::from(all());
    let is_known = |name: &String| workloads.iter().any(|workload| workload.name() == *name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let names: Vec<_> = workloads.iter().map(|workload| workload.name()).collect();
        bail!(
            "there is no workload {unknown}; there are {}",
            names.join(", ")
        );
    }
    if !is_root() {
        bail!("fdwatch, and some of what it watches, needs root: run this as root");
    }
    workloads.retain(|workload| names.is_empty() || names.iter().any(|n| n == workload.name()));
    workloads.retain(|workload| match programs::install(workload.needs()) {
        Ok(()) => true,
        Err(error) => {
            say(format!("{} is skipped: {error:#}", workload.name()));
            false
        }
    });
    tasks::build(true)?;
    let fdwatch = tasks::fdwatch()?;
    processes::take_charge()?;
    let mut outcomes = Vec::new();
    let mut failed = Vec::new();
    for workload in &mut workloads {
        let name = workload.name();
        say(format!("{name} begins"));
        let result = if let Some(recordings) = recordings {
            record(workload.as_mut(), &fdwatch, recordings)
        } else {
            watch(workload.as_mut(), &fdwatch, duration).map(|outcome| outcomes.push(outcome))
        };
        if let Err(error) = result {
            say(format!("{name} failed: {error:#}"));
            failed.push(name);
        }
        if processes::is_interrupted() {
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
        say(format!(
            "{name}: drift, or a loss of {}",
            summary.lost_kinds
        ));
        failed.push(name);
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Prepares the workload of this name, and hands to `turns` what does it once, for about so long, and
/// tells how many seconds one unit of its work took.
pub(crate) fn again_and_again(
    name: &str,
    duration: Duration,
    turns: impl FnOnce(&mut dyn FnMut() -> Result<f64>) -> Result<()>,
) -> Result<()> {
    let mut workloads = all();
    let workload = workloads.iter_mut().find(|it| it.name() == name);
    let workload = workload.with_context(|| format!("there is no workload {name}"))?;
    programs::install(workload.needs())?;
    processes::take_charge()?;
    // As in `watch`.
    let directory = directory()?;
    let _sweep = Sweep;
    let workload = Stopping::of(workload.as_mut());
    workload.0.prepare(directory.path())?;
    turns(&mut || {
        let began = Instant::now();
        let work = workload.0.run(Amount::For(duration))?;
        #[expect(clippy::cast_precision_loss, reason = "a count of what a machine did")]
        let seconds = began.elapsed().as_secs_f64() / work.count as f64;
        Ok(seconds)
    })?;
    workload.0.stop()
}

/// A directory that other users may go into, for programs that will not run as root.
fn directory() -> Result<TempDir> {
    let directory = TempDir::with_prefix("fdwatch-workload-");
    let directory = directory.context("cannot make a directory")?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    Ok(directory)
}

fn watch(workload: &mut dyn Workload, fdwatch: &Path, duration: Duration) -> Result<Outcome> {
    // Dropped in the other order: at last the directory, when nobody works in it.
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
    say(format!("{} has {bytes} bytes", file.display()));
    Ok(())
}

/// A workload whose programs end with it, also if it fails: each forgets what it holds.
struct Stopping<'a>(&'a mut dyn Workload);

impl<'a> Stopping<'a> {
    fn of(workload: &'a mut dyn Workload) -> Self {
        Self(workload)
    }
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        // After a success there is nothing left to end.
        let _ = self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn names_are_one_each() {
        let mut names: Vec<_> = all().iter().map(|workload| workload.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }
}
