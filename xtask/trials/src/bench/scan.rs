//! The time to list all descriptors, with fdwatch and with alternatives, and fdwatch's time to start.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xtask_support::{
    cargo::{build_example, fdwatch, target_directory},
    shell::which,
    temp::TempDir,
};

use super::{
    figures::{PROFILE, goal, median},
    tracers::Tracer,
};

/// Numbers of descriptors to list, besides those of this host.
const COUNTS: [u32; 2] = [1_000, 100_000];

/// Maximum number in one process.
const MAX_PER_PROCESS: u32 = 10_000;

/// Maximum number of rounds: lsof is slow.
const MAX_ROUNDS: u32 = 3;

/// Measures in `rounds` rounds.
pub(super) fn measure(rounds: u32) -> Result<Value> {
    build_example("snapshot", PROFILE)?;
    let rounds = rounds.min(MAX_ROUNDS);
    let mut figures = Vec::new();
    let mut goals = Vec::new();
    println!("{:<14} {:>13} {:>12}", "ms", COUNTS[0], COUNTS[1]);
    let mut taken = vec![Vec::new(); TOOLS.len()];
    for count in COUNTS {
        let holders = Holders::start(count)?;
        let mut seconds = vec![Vec::new(); TOOLS.len()];
        for _ in 0..rounds {
            for (tool, seconds) in TOOLS.iter().zip(&mut seconds) {
                if tool.is_installed() {
                    seconds.push((tool.run)()?);
                }
            }
        }
        for (seconds, taken) in seconds.iter().zip(&mut taken) {
            taken.push(median(seconds));
        }
        drop(holders);
    }
    for (tool, taken) in TOOLS.iter().zip(&taken) {
        if !tool.is_installed() {
            println!("{:<14} is not installed", tool.name);
            continue;
        }
        println!(
            "{:<14} {:>13.1} {:>12.1}",
            tool.name,
            taken[0] * 1e3,
            taken[1] * 1e3
        );
        figures.push(json!({
            "look": tool.name,
            "seconds": COUNTS.iter().zip(taken).map(|(count, took)| json!({ "descriptors": count, "seconds": took })).collect::<Vec<_>>(),
        }));
    }
    let of = |name: &str| {
        let at = TOOLS.iter().position(|tool| tool.name == name)?;
        Some(taken[at][1]).filter(|took| took.is_finite())
    };
    if let Some(snapshot) = of("snapshot") {
        let what = "snapshot of 100,000 descriptors";
        goals.push(goal(what, snapshot * 1e3, 100.0, "ms"));
    }
    if let (Some(scan), Some(lsof)) = (of("fdwatch scan"), of("lsof")) {
        let what = "scan of 100,000 descriptors, relative to lsof";
        goals.push(goal(what, scan / lsof, 0.05, "times"));
    }
    let started: Vec<_> = (0..rounds).map(|_| start()).collect::<Result<_>>()?;
    println!(
        "time until `watch` is ready: {:.0} ms",
        median(&started) * 1e3
    );
    Ok(json!({ "looks": figures, "begins_after_seconds": median(&started), "goals": goals }))
}

/// A tool that lists all descriptors.
struct Tool {
    name: &'static str,
    /// The program, unless it is part of this workspace.
    program: Option<&'static str>,
    /// Runs it and returns its duration in seconds.
    run: fn() -> Result<f64>,
}

impl Tool {
    fn is_installed(&self) -> bool {
        self.program.is_none_or(which)
    }
}

const TOOLS: [Tool; 5] = [
    Tool {
        name: "snapshot",
        program: None,
        run: snapshot,
    },
    Tool {
        name: "fdwatch scan",
        program: None,
        run: || timed(Command::new(fdwatch(PROFILE)?).arg("scan")),
    },
    Tool {
        name: "/proc",
        program: None,
        run: walk,
    },
    Tool {
        name: "lsfd",
        program: Some("lsfd"),
        run: || timed(&mut Command::new("lsfd")),
    },
    Tool {
        name: "lsof",
        program: Some("lsof"),
        run: || timed(Command::new("lsof").args(["-n", "-P"])),
    },
];

fn timed(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    // lsof exits with 1 if it cannot read a process, and scan if it finds something.
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

/// Times a snapshot without loading tracing programs or resolving paths, as in an audit.
fn snapshot() -> Result<f64> {
    let directory = target_directory()?.join(PROFILE.directory());
    let example = directory.join("examples/snapshot");
    let output = Command::new(example).output()?;
    ensure!(output.status.success(), "the example snapshot failed");
    let seconds = String::from_utf8(output.stdout)?;
    seconds
        .trim()
        .parse()
        .context("the example snapshot prints no number")
}

/// Reads link and inode of each descriptor in /proc.
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
    ensure!(seen > 0, "no descriptors found");
    Ok(began.elapsed().as_secs_f64())
}

/// Measures the time until `watch` is ready, in seconds.
fn start() -> Result<f64> {
    let began = Instant::now();
    let running = Tracer::Fdwatch.start()?;
    let took = began.elapsed().as_secs_f64();
    if let Some(running) = running {
        running.stop()?;
    }
    Ok(took)
}

/// Processes that hold descriptors, each on a separate file. Killed when dropped.
struct Holders(Vec<Child>);

impl Holders {
    fn start(descriptors: u32) -> Result<Self> {
        let mut holders = Self(Vec::new());
        let mut left = descriptors;
        while left > 0 {
            let own = left.min(MAX_PER_PROCESS);
            left -= own;
            let mut child = Command::new(std::env::current_exe()?)
                .args(["bench-holder", &own.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let output = child.stdout.take().context("no output")?;
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

/// Holds `count` descriptors until standard input ends. Runs in the processes of [`Holders`].
pub(crate) fn hold(count: u64) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: count + 100,
        rlim_max: 20_000.max(count + 100),
    };
    // SAFETY: the limit is a valid structure.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    let directory = TempDir::new("fdwatch-bench-")?;
    let files = (0..count).map(|i| File::create(directory.path().join(i.to_string())));
    let files: Vec<_> = files.collect::<Result<_, _>>()?;
    // The files are deleted but still open.
    drop(directory);
    writeln!(std::io::stdout(), "holding")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    drop(files);
    Ok(())
}
