//! The load of the soak test. Each worker is a separate process.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The kinds of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Starts children that exit at once, many at a time.
    Forks,
    /// Opens and closes many descriptors, repeatedly.
    Descriptors,
    /// Starts processes that hold descriptors and kills them.
    Killed,
    /// Opens files twice, closes them, and logs each path.
    Duplicates,
    /// Opens and closes as fast as it can.
    Busy,
}

/// Descriptors of one worker: below the usual limit of a process.
pub(super) const DESCRIPTORS_PER_WORKER: usize = 16_000;

/// While this file exists, no duplicates are created.
pub(super) const PAUSE: &str = "pause";

/// The created duplicates, one per line.
pub(super) const CREATED: &str = "created";

/// A duplicate that appeared and disappeared.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Created {
    pub(super) path: String,
    /// Just before it was opened, in seconds since 1970.
    pub(super) opened: f64,
    /// Just before it was closed, in seconds since 1970.
    pub(super) closed: f64,
}

/// Returns the command of a worker. It is killed when its parent exits.
pub(super) fn command(work: Work, directory: &Path) -> Result<Command> {
    let own = std::env::current_exe().context("cannot find the running program")?;
    let mut command = Command::new(own);
    let name = work.to_possible_value();
    let name = name.as_ref().map_or("", |name| name.get_name());
    command.args(["soak-worker", name]).arg(directory);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Works until it is killed.
pub(crate) fn work(work: Work, directory: &Path) -> Result<()> {
    // SAFETY: the call takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    lower_priority();
    match work {
        Work::Forks => loop {
            forks()?;
            thread::sleep(Duration::from_millis(200));
        },
        Work::Descriptors => descriptors(),
        Work::Killed => loop {
            killed()?;
        },
        Work::Duplicates => duplicates(directory),
        Work::Busy => loop {
            drop(File::open("/dev/null")?);
        },
    }
}

/// Lowers the priority of the calling thread, or of a process with one thread.
pub(super) fn lower_priority() {
    // SAFETY: the call takes numbers only.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

fn forks() -> Result<()> {
    let children = (0..50).map(|_| Command::new("/bin/true").spawn());
    for child in children.collect::<Vec<_>>() {
        child.context("cannot start a child")?.wait()?;
    }
    Ok(())
}

fn descriptors() -> Result<()> {
    loop {
        let held: Result<Vec<File>, _> = (0..DESCRIPTORS_PER_WORKER)
            .map(|_| File::open("/dev/null"))
            .collect();
        let held = held.context("cannot open enough descriptors")?;
        thread::sleep(Duration::from_secs(1));
        drop(held);
        thread::sleep(Duration::from_secs(1));
    }
}

fn killed() -> Result<()> {
    let mut command = Command::new("/bin/sleep");
    command.arg("60");
    // SAFETY: dup may be called after a fork.
    unsafe {
        command.pre_exec(|| {
            for _ in 0..200 {
                if libc::dup(0) < 0 {
                    break;
                }
            }
            Ok(())
        });
    }
    let mut child = command.spawn().context("cannot start a child")?;
    thread::sleep(Duration::from_millis(50));
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Creates one duplicate after another, each on its own path for about half a second. The files stay: a
/// reused inode would be the same file to fdwatch.
fn duplicates(directory: &Path) -> Result<()> {
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join(CREATED))?;
    let pause = directory.join(PAUSE);
    let began = Instant::now();
    for number in 0_u64.. {
        while pause.exists() {
            thread::sleep(Duration::from_millis(50));
        }
        let path = directory.join(format!("duplicate-{number}.log"));
        let opened = now()?;
        let first = File::create(&path)?;
        let second = OpenOptions::new().append(true).open(&path)?;
        thread::sleep(Duration::from_millis(
            400 + u64::from(began.elapsed().subsec_millis()) / 2,
        ));
        let closed = now()?;
        drop((first, second));
        let path = path.display().to_string();
        let created = Created {
            path,
            opened,
            closed,
        };
        writeln!(log, "{}", serde_json::to_string(&created)?)?;
    }
    Ok(())
}

/// Returns the seconds since 1970.
fn now() -> Result<f64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(since.as_secs_f64())
}
