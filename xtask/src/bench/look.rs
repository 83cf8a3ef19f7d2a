//! How long it takes to look at all descriptors, by fdwatch and by what else there is; and how long
//! fdwatch takes to begin.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{build_example, goal, median, tracers::Tracer};
use crate::{shell::which, tasks};

/// Descriptors that there are to look at, besides those of this host.
const COUNTS: [u32; 2] = [1_000, 100_000];

/// No more than this in one process.
const IN_PROCESS: u32 = 10_000;

/// lsof takes long.
const MOST_ROUNDS: u32 = 3;

/// Measures in so many rounds.
pub(super) fn measure(rounds: u32) -> Result<Value> {
    build_example("snapshot")?;
    let rounds = rounds.min(MOST_ROUNDS);
    let mut figures = Vec::new();
    let mut goals = Vec::new();
    println!("{:<14} {:>13} {:>12}", "ms", COUNTS[0], COUNTS[1]);
    let mut taken = vec![Vec::new(); LOOKS.len()];
    for count in COUNTS {
        let holders = Holders::start(count)?;
        let mut seconds = vec![Vec::new(); LOOKS.len()];
        for _ in 0..rounds {
            for (look, seconds) in LOOKS.iter().zip(&mut seconds) {
                if look.is_here() {
                    seconds.push((look.take)()?);
                }
            }
        }
        for (seconds, taken) in seconds.iter().zip(&mut taken) {
            taken.push(median(seconds));
        }
        drop(holders);
    }
    for (look, taken) in LOOKS.iter().zip(&taken) {
        if !look.is_here() {
            println!("{:<14} is not here", look.name);
            continue;
        }
        println!(
            "{:<14} {:>13.1} {:>12.1}",
            look.name,
            taken[0] * 1e3,
            taken[1] * 1e3
        );
        figures.push(json!({
            "look": look.name,
            "seconds": COUNTS.iter().zip(taken).map(|(count, took)| json!({ "descriptors": count, "seconds": took })).collect::<Vec<_>>(),
        }));
    }
    let of = |name: &str| {
        let at = LOOKS.iter().position(|look| look.name == name)?;
        Some(taken[at][1]).filter(|took| took.is_finite())
    };
    if let Some(snapshot) = of("snapshot") {
        let what = "a snapshot of 100,000 descriptors";
        goals.push(goal(what, snapshot * 1e3, 100.0, "ms"));
    }
    if let (Some(scan), Some(lsof)) = (of("fdwatch scan"), of("lsof")) {
        let what = "a scan of 100,000 descriptors, in times of what lsof takes";
        goals.push(goal(what, scan / lsof, 0.05, "times"));
    }
    let begun: Vec<_> = (0..rounds).map(|_| begin()).collect::<Result<_>>()?;
    println!(
        "watch begins, and says so, after {:.0} ms",
        median(&begun) * 1e3
    );
    Ok(json!({ "looks": figures, "begins_after_seconds": median(&begun), "goals": goals }))
}

/// A way to look at all descriptors.
struct Look {
    name: &'static str,
    /// The program, if it is not of this workspace.
    program: Option<&'static str>,
    /// Looks, and tells how many seconds that took.
    take: fn() -> Result<f64>,
}

impl Look {
    fn is_here(&self) -> bool {
        self.program.is_none_or(which)
    }
}

const LOOKS: [Look; 5] = [
    Look {
        name: "snapshot",
        program: None,
        take: snapshot,
    },
    Look {
        name: "fdwatch scan",
        program: None,
        take: || timed(Command::new(tasks::fdwatch()?).arg("scan")),
    },
    Look {
        name: "/proc",
        program: None,
        take: walk,
    },
    Look {
        name: "lsfd",
        program: Some("lsfd"),
        take: || timed(&mut Command::new("lsfd")),
    },
    Look {
        name: "lsof",
        program: Some("lsof"),
        take: || timed(Command::new("lsof").args(["-n", "-P"])),
    },
];

fn timed(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    // lsof fails if there is any process that it cannot look at, and scan if it finds something.
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(
        status.code().is_some_and(|code| code < 2),
        "{command:?} failed"
    );
    Ok(began.elapsed().as_secs_f64())
}

/// A snapshot alone, without loading programs and without asking for paths: what an audit is.
fn snapshot() -> Result<f64> {
    let example = tasks::target_directory()?.join("release/examples/snapshot");
    let output = Command::new(example).output()?;
    ensure!(output.status.success(), "the example failed");
    let seconds = String::from_utf8(output.stdout)?;
    seconds.trim().parse().context("it tells seconds")
}

/// What a program does that walks through /proc: each descriptor's name and file.
fn walk() -> Result<f64> {
    let began = Instant::now();
    let mut seen = 0u64;
    for process in fs::read_dir("/proc")? {
        let process = process?.path();
        for descriptor in fs::read_dir(process.join("fd")).into_iter().flatten() {
            let Ok(descriptor) = descriptor else { continue };
            let path = descriptor.path();
            if fs::read_link(&path).is_ok() {
                seen += fs::metadata(&path).map_or(0, |it| it.ino().min(1));
            }
        }
    }
    ensure!(seen > 0, "there are no descriptors");
    Ok(began.elapsed().as_secs_f64())
}

/// How long `watch` takes to say that it watches.
fn begin() -> Result<f64> {
    let began = Instant::now();
    let running = Tracer::Fdwatch.start()?;
    let took = began.elapsed().as_secs_f64();
    if let Some(running) = running {
        running.stop()?;
    }
    Ok(took)
}

/// Processes that hold descriptors, each on a file of its own, until they are dropped.
struct Holders(Vec<Child>);

/// The environment's variable that makes this program one of them: how many it is to hold.
const HOLD: &str = "FDWATCH_BENCH_HOLD";

impl Holders {
    fn start(descriptors: u32) -> Result<Self> {
        let mut holders = Self(Vec::new());
        let mut left = descriptors;
        while left > 0 {
            let own = left.min(IN_PROCESS);
            left -= own;
            let mut child = Command::new(std::env::current_exe()?)
                .env(HOLD, own.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let output = child.stdout.take().context("it has an output")?;
            holders.0.push(child);
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line)?;
            ensure!(line.trim() == "holding", "cannot hold {own} descriptors");
        }
        Ok(holders)
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Holds descriptors until standard input ends, if this program is to do that.
pub(crate) fn hold_if_asked() -> Result<bool> {
    let Some(count) = std::env::var_os(HOLD) else {
        return Ok(false);
    };
    let count: u64 = count.to_str().context("not a number")?.parse()?;
    let limit = libc::rlimit {
        rlim_cur: count + 100,
        rlim_max: 20_000.max(count + 100),
    };
    // SAFETY: the limit is a valid structure.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    let directory = tempfile::tempdir()?;
    let files = (0..count).map(|i| File::create(directory.path().join(i.to_string())));
    let files: Vec<_> = files.collect::<Result<_, _>>()?;
    // Held, and not in the way.
    drop(directory);
    writeln!(std::io::stdout(), "holding")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    drop(files);
    Ok(true)
}
