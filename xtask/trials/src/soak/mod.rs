//! The soak test: runs the agent under load for a long time and checks that it stays stable.
//!
//! The load: fork storms, 100,000 descriptors, killed processes, constant API requests, one overrun of the ring
//! buffer and one full disk. The test fails if the agent's memory keeps growing after a sixth of the duration
//! (checked from half an hour on), if an event is lost outside the overrun, if the model differs from the kernel
//! afterwards, or if a finding is lost or reported twice.

mod client;
mod judge;
mod workers;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use xtask_support::{
    cargo::{Profile, build_fdwatch, fdwatch as built_fdwatch, target_directory},
    shell::{info, is_root},
};

pub(crate) use self::workers::{Work, work};
use self::{
    client::{Events, Hammer, get},
    judge::Sample,
    workers::PAUSE,
};
use crate::processes::{Group, adopt_orphans, eventually, memory, pause};

/// Mean interval between samples. It varies, so that samples do not coincide with what the agent does every
/// second.
const INTERVAL: Duration = Duration::from_secs(5);

/// Duration of the overrun.
const OVERRUN: Duration = Duration::from_secs(4);

/// Descriptors that are opened and closed in total.
const DESCRIPTORS: usize = 100_000;

/// Size of the disk that is filled.
const DISK: &str = "size=400m";

/// Maximum size of the history: enough for all findings of an hour.
const HISTORY: &str = "256M";

/// Runs the test for `time`, with the program `fdwatch` or one that is built.
pub(crate) fn soak(time: Duration, fdwatch: Option<&Path>) -> Result<()> {
    ensure!(is_root(), "soak needs root: run this as root");
    adopt_orphans()?;
    let fdwatch = match fdwatch {
        Some(fdwatch) => fs::canonicalize(fdwatch)
            .with_context(|| format!("no such program: {}", fdwatch.display()))?,
        None => {
            build_fdwatch(Profile::Release)?;
            built_fdwatch(Profile::Release)?
        }
    };
    let directory = Disk::mount()?;
    let result = run(&fdwatch, &directory.0, time);
    if result.is_err()
        && let Ok(log) = fs::read_to_string(directory.0.join("agent.log"))
    {
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        for line in lines.into_iter().rev() {
            info(format!("agent: {line}"));
        }
    }
    result
}

/// A directory with a small disk in it.
struct Disk(PathBuf);

impl Disk {
    fn mount() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("fdwatch-soak-{}", std::process::id()));
        let disk = Self(directory);
        fs::create_dir_all(disk.0.join("state"))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK, "soak"]);
        mount.arg(disk.0.join("state"));
        ensure!(mount.status()?.success(), "cannot mount a tmpfs");
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let state = self.0.join("state");
        let _ = Command::new("umount").arg("-l").arg(state).status();
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(fdwatch: &Path, directory: &Path, time: Duration) -> Result<()> {
    let socket = directory.join("agent.sock");
    let place = directory.display();
    let toml = format!(
        "[watch]\nmax_cpu = 100\nring_bytes = \"16M\"\nstop_file = \"{place}/stop\"\n[history]\nfile = \"{place}/state/history.db\"\nmost_bytes = \"{HISTORY}\"\n[api]\nsocket = \"{}\"\n",
        socket.display()
    );
    fs::write(directory.join("agent.toml"), toml)?;
    let mut agent = Command::new(fdwatch);
    agent
        .arg("agent")
        .arg("--config")
        .arg(directory.join("agent.toml"));
    let agent = Group::logging(&mut agent, &directory.join("agent.log"))?;
    eventually(|| get(&socket, "/v1/health"))?;
    // Duplicates are created once their events are collected.
    fs::write(directory.join(PAUSE), "")?;
    let duplicates = start(Work::Duplicates, directory)?;
    let events = Events::read(&socket, directory.join("duplicate-"), duplicates.pid())?;
    fs::remove_file(directory.join(PAUSE))?;
    let mut workers = vec![duplicates];
    let many = std::iter::repeat_n(
        Work::Descriptors,
        DESCRIPTORS.div_ceil(workers::DESCRIPTORS_PER_WORKER),
    );
    for what in [Work::Forks, Work::Killed].into_iter().chain(many) {
        workers.push(start(what, directory)?);
    }
    let hammer = Hammer::start(&socket, 4);
    let mut soak = Soak {
        socket: &socket,
        agent: &agent,
        began: Instant::now(),
        samples: Vec::new(),
    };
    info(format!(
        "soak: {} s; the ring buffer overruns after a third, the disk is full after half",
        time.as_secs()
    ));
    soak.until(time / 3)?;
    let overrun = soak.overrun(directory)?;
    soak.until(time / 2)?;
    soak.fill(directory, time / 20)?;
    soak.until(time)?;
    // The last duplicates are reported before the agent stops.
    fs::write(directory.join(PAUSE), "")?;
    pause(Duration::from_secs(3))?;
    let (succeeded, failed) = hammer.stop();
    for worker in workers {
        worker.kill();
    }
    pause(Duration::from_secs(15))?;
    soak.sample()?;
    let last = get(&socket, "/v1/health")?;
    let samples = soak.samples;
    agent.end(libc::SIGTERM)?;
    let events = events.all();
    let history = judge::in_history(fdwatch, &directory.join("state/history.db"))?;
    let created = judge::created(&directory.join(workers::CREATED))?;
    let report = judge::judge(&samples, &overrun, &created, &events, &history)?;
    let report = json!({
        "seconds": time.as_secs(),
        "requests": {"succeeded": succeeded, "failed": failed},
        "health": last,
        "report": report,
        "samples": samples.iter().map(|it| json!([it.at, it.rss, it.anonymous, it.lost, it.drift])).collect::<Vec<_>>(),
    });
    let file = target_directory()?.join("soak.json");
    fs::write(&file, serde_json::to_vec_pretty(&report)?)?;
    let mut shown = report["report"].clone();
    if let Some(shown) = shown.as_object_mut() {
        // Too long for a screen.
        shown.remove("wrong");
    }
    println!("{}", serde_json::to_string_pretty(&shown)?);
    println!("requests: {succeeded} succeeded, {failed} failed");
    info(format!("full report: {}", file.display()));
    let failures = report["report"]["failures"].as_array().map_or(0, Vec::len);
    ensure!(failures == 0, "soak: {failures} checks failed");
    Ok(())
}

fn start(what: Work, directory: &Path) -> Result<Group> {
    let mut command = workers::command(what, directory)?;
    command.stdout(Stdio::null());
    Group::spawn(&mut command)
}

struct Soak<'a> {
    socket: &'a Path,
    agent: &'a Group,
    began: Instant,
    samples: Vec<Sample>,
}

impl Soak<'_> {
    /// Samples the agent until `time` after the start.
    fn until(&mut self, time: Duration) -> Result<()> {
        while self.began.elapsed() < time {
            let elapsed = self.began.elapsed();
            let interval =
                INTERVAL / 2 + INTERVAL.mul_f64(f64::from(elapsed.subsec_micros()) / 1e6);
            pause(interval.min(time.saturating_sub(elapsed)))?;
            self.sample()?;
        }
        Ok(())
    }

    fn sample(&mut self) -> Result<Sample> {
        let health = eventually(|| get(self.socket, "/v1/health"))?;
        let number = |name: &str| {
            let number = health[name].as_u64();
            number.with_context(|| format!("no {name} in /v1/health"))
        };
        let sample = Sample {
            at: self.began.elapsed().as_secs_f64(),
            rss: number("rss_bytes")?,
            anonymous: memory(self.agent.pid(), "RssAnon:")?,
            lost: number("lost")?,
            drift: number("drift")?,
        };
        self.samples.push(sample);
        Ok(sample)
    }

    /// Overruns the ring buffer: stops the agent while workers create as many events as they can. Returns
    /// samples from before and after.
    fn overrun(&mut self, directory: &Path) -> Result<[Sample; 2]> {
        fs::write(directory.join(PAUSE), "")?;
        pause(Duration::from_secs(3))?;
        let before = self.sample()?;
        let busy = [Work::Busy; 2].map(|work| start(work, directory));
        pause(Duration::from_secs(1))?;
        self.agent.signal(libc::SIGSTOP);
        pause(OVERRUN)?;
        self.agent.signal(libc::SIGCONT);
        for busy in busy {
            busy?.kill();
        }
        // Audits repair the model.
        pause(Duration::from_secs(30))?;
        let after = self.sample()?;
        fs::remove_file(directory.join(PAUSE))?;
        info(format!(
            "soak: {} events lost in the overrun",
            after.lost - before.lost
        ));
        Ok([before, after])
    }

    /// Fills the agent's disk for `time`.
    fn fill(&mut self, directory: &Path, time: Duration) -> Result<()> {
        let full = directory.join("state/full");
        let mut fill = Command::new("dd");
        fill.arg("if=/dev/zero")
            .arg(format!("of={}", full.display()));
        fill.args(["bs=1M"]).stderr(Stdio::null());
        ensure!(!fill.status()?.success(), "cannot fill the disk");
        info("soak: the disk is full");
        self.until(self.began.elapsed() + time)?;
        fs::remove_file(full)?;
        Ok(())
    }
}
