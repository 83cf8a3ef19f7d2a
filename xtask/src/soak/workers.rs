//! What goes on on the host while the agent is soaked: each worker is a process of its own.

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

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Makes children that end at once, many at a time.
    Forks,
    /// Opens and closes many descriptors, again and again.
    Descriptors,
    /// Starts processes that hold descriptors, and kills them.
    Killed,
    /// Opens files twice, and closes them: each path once, as it notes.
    Duplicates,
    /// Opens and closes as fast as it can.
    Busy,
}

/// Descriptors of one worker at once: less than a host lets a process have by itself.
pub(super) const MANY: usize = 16_000;

/// While this file is there, no duplicates are made.
pub(super) const PAUSE: &str = "pause";

/// The duplicates that came and went, a line each.
pub(super) const MADE: &str = "made";

/// A duplicate that came and went.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) path: String,
    /// Right before its first descriptor, in seconds since 1970.
    pub(super) opened: f64,
    /// Right before the first of its descriptors went.
    pub(super) closed: f64,
}

/// A worker, that ends with its parent.
pub(super) fn command(work: Work, directory: &Path) -> Result<Command> {
    let own = std::env::current_exe().context("cannot find this program")?;
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
    give_way();
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

/// What else goes on on the machine goes first.
pub(super) fn give_way() {
    // SAFETY: the call takes numbers only; of this thread, as of a process with one.
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
        let held: Result<Vec<File>, _> = (0..MANY).map(|_| File::open("/dev/null")).collect();
        let held = held.context("cannot open as many descriptors")?;
        thread::sleep(Duration::from_secs(1));
        drop(held);
        thread::sleep(Duration::from_secs(1));
    }
}

fn killed() -> Result<()> {
    let mut command = Command::new("/bin/sleep");
    command.arg("60");
    // SAFETY: the calls may be made after a fork.
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

/// One duplicate after the other, each for half a second or so, on a path of its own. The files stay: an
/// inode that serves again would be taken for the same file.
fn duplicates(directory: &Path) -> Result<()> {
    let mut notes = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join(MADE))?;
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
        let made = Made {
            path,
            opened,
            closed,
        };
        writeln!(notes, "{}", serde_json::to_string(&made)?)?;
    }
    Ok(())
}

/// Seconds since 1970.
fn now() -> Result<f64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(since.as_secs_f64())
}
