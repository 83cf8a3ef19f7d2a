//! The agent, for long, on a host where all goes on at once that may: does it stay as it began?
//!
//! Fork storms, 100,000 descriptors, processes killed, the API hammered; the ring overrun once, and the
//! disk full once. It fails if the agent's memory goes on growing after a sixth of the time (of half an
//! hour or more), if a record is lost outside the overrun, if the model differs from the kernel after it,
//! or if a finding is lost or told twice.

mod client;
mod workers;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

pub(crate) use self::workers::{Work, work};
use self::{
    client::{Events, Hammer, get},
    workers::{MADE, PAUSE},
};
use crate::{
    shell::{is_root, say},
    tasks,
    workloads::processes::{Group, eventually, pause, take_charge},
};

/// How often the agent is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Memory that the agent may have more of in the end than after a sixth of the time.
const MOST_GROWTH: f64 = 1.05;

/// Below this, the agent is not done with growing to what it needs: its memory is told, and not judged.
const LEAST_FOR_MEMORY: Duration = Duration::from_secs(30 * 60);

/// How long an overrun lasts.
const OVERRUN: Duration = Duration::from_secs(4);

/// Descriptors that are opened and closed, all together.
const DESCRIPTORS: usize = 100_000;

/// Room on the disk that is filled.
const DISK: &str = "size=100m";

/// What the agent was like at one time.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: f64,
    rss: u64,
    /// Of that, what is no file's: pages of files that names of functions are looked for in stay as long
    /// as the kernel has no better use for them.
    anonymous: u64,
    lost: u64,
    drift: u64,
}

/// Soaks the agent for `time`: of this fdwatch, or of one that is built.
pub(crate) fn soak(time: Duration, fdwatch: Option<&Path>) -> Result<()> {
    ensure!(is_root(), "soak: needs root");
    take_charge()?;
    let fdwatch = match fdwatch {
        Some(fdwatch) => fs::canonicalize(fdwatch)
            .with_context(|| format!("soak: there is no {}", fdwatch.display()))?,
        None => {
            tasks::build(true)?;
            tasks::fdwatch()?
        }
    };
    let directory = Place::make()?;
    let result = run(&fdwatch, &directory.0, time);
    if result.is_err()
        && let Ok(log) = fs::read_to_string(directory.0.join("agent.log"))
    {
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        for line in lines.into_iter().rev() {
            say(format!("agent: {line}"));
        }
    }
    result
}

/// A directory, and a small disk in it.
struct Place(PathBuf);

impl Place {
    fn make() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("fdwatch-soak-{}", std::process::id()));
        let place = Self(directory);
        fs::create_dir_all(place.0.join("state"))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK, "soak"]);
        mount.arg(place.0.join("state"));
        ensure!(mount.status()?.success(), "soak: cannot mount a tmpfs");
        Ok(place)
    }
}

impl Drop for Place {
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
        "[watch]\nmax_cpu = 100\nring_bytes = \"16M\"\nstop_file = \"{place}/stop\"\n[history]\nfile = \"{place}/state/history.db\"\nmost_bytes = \"64M\"\n[api]\nsocket = \"{}\"\n",
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
    let events = Events::read(&socket, directory.join("duplicate-"))?;
    let mut workers = Vec::new();
    let many = std::iter::repeat_n(Work::Descriptors, DESCRIPTORS.div_ceil(workers::MANY));
    let others = [Work::Forks, Work::Killed, Work::Duplicates];
    for what in others.into_iter().chain(many) {
        workers.push(begin(what, directory)?);
    }
    let hammer = Hammer::start(&socket, 4);
    let mut soak = Soak {
        socket: &socket,
        agent: &agent,
        began: Instant::now(),
        looks: Vec::new(),
    };
    say(format!(
        "soak: {} s; the ring is overrun after a third, the disk full after half",
        time.as_secs()
    ));
    soak.until(time / 3)?;
    let overrun = soak.overrun(directory)?;
    soak.until(time / 2)?;
    soak.fill(directory, time / 20)?;
    soak.until(time)?;
    // What the last ones made is told before the end.
    fs::write(directory.join(PAUSE), "")?;
    pause(Duration::from_secs(3))?;
    let (answered, refused) = hammer.end();
    for worker in workers {
        worker.kill();
    }
    pause(Duration::from_secs(15))?;
    soak.look()?;
    let last = get(&socket, "/v1/health")?;
    let looks = soak.looks;
    agent.end(libc::SIGTERM)?;
    let told = events.all();
    let kept = kept(fdwatch, directory)?;
    let report = judge(directory, &looks, &overrun, &told, &kept)?;
    let report = json!({
        "seconds": time.as_secs(),
        "requests": {"answered": answered, "not_answered": refused},
        "health": last,
        "report": report,
        "looks": looks.iter().map(|look| json!([look.at, look.rss, look.anonymous, look.lost, look.drift])).collect::<Vec<_>>(),
    });
    let file = tasks::target_directory()?.join("soak.json");
    fs::write(&file, serde_json::to_vec_pretty(&report)?)?;
    println!("{}", serde_json::to_string_pretty(&report["report"])?);
    println!("requests: {answered} answered, {refused} not");
    say(format!("soak: all of it is in {}", file.display()));
    let failures = report["report"]["failures"].as_array().map_or(0, Vec::len);
    ensure!(
        failures == 0,
        "soak: {failures} of what was to hold did not"
    );
    Ok(())
}

fn begin(what: Work, directory: &Path) -> Result<Group> {
    let mut command = workers::command(what, directory)?;
    command.stdout(Stdio::null());
    Group::spawn(&mut command)
}

struct Soak<'a> {
    socket: &'a Path,
    agent: &'a Group,
    began: Instant,
    looks: Vec<Look>,
}

impl Soak<'_> {
    /// Looks at the agent until so much time has passed.
    fn until(&mut self, time: Duration) -> Result<()> {
        while self.began.elapsed() < time {
            pause(LOOK.min(time.saturating_sub(self.began.elapsed())))?;
            self.look()?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<Look> {
        let health = eventually(|| get(self.socket, "/v1/health"))?;
        let number = |name: &str| {
            let number = health[name].as_u64();
            number.with_context(|| format!("the agent does not tell its {name}"))
        };
        let look = Look {
            at: self.began.elapsed().as_secs_f64(),
            rss: number("rss_bytes")?,
            anonymous: anonymous(self.agent.pid())?,
            lost: number("lost")?,
            drift: number("drift")?,
        };
        self.looks.push(look);
        Ok(look)
    }

    /// Has the ring overrun: the agent does nothing while others do as much as they can.
    fn overrun(&mut self, directory: &Path) -> Result<[Look; 2]> {
        fs::write(directory.join(PAUSE), "")?;
        pause(Duration::from_secs(3))?;
        let before = self.look()?;
        let busy = [Work::Busy; 2].map(|work| begin(work, directory));
        pause(Duration::from_secs(1))?;
        self.agent.signal(libc::SIGSTOP);
        pause(OVERRUN)?;
        self.agent.signal(libc::SIGCONT);
        for busy in busy {
            busy?.kill();
        }
        // For audits to repair what came of it.
        pause(Duration::from_secs(30))?;
        let after = self.look()?;
        fs::remove_file(directory.join(PAUSE))?;
        say(format!(
            "soak: {} records were lost in the overrun",
            after.lost - before.lost
        ));
        Ok([before, after])
    }

    /// Fills the agent's disk for a while.
    fn fill(&mut self, directory: &Path, time: Duration) -> Result<()> {
        let full = directory.join("state/full");
        let mut fill = Command::new("dd");
        fill.arg("if=/dev/zero")
            .arg(format!("of={}", full.display()));
        fill.args(["bs=1M"]).stderr(Stdio::null());
        ensure!(!fill.status()?.success(), "the disk cannot be filled");
        say("soak: the disk is full");
        self.until(self.began.elapsed() + time)?;
        fs::remove_file(full)?;
        Ok(())
    }
}

/// What is to hold, and whether it did.
fn judge(
    directory: &Path,
    looks: &[Look],
    overrun: &[Look; 2],
    told: &[Value],
    kept: &BTreeMap<String, u32>,
) -> Result<Value> {
    let mut failures = Vec::new();
    let end = looks.last().context("nothing was looked at")?;
    let memory = |from: f64, to: f64| -> f64 {
        let all = looks
            .iter()
            .filter(|look| look.at >= end.at * from && look.at <= end.at * to);
        let all: Vec<_> = all.map(|look| look.anonymous as f64).collect();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    };
    let (early, late) = (memory(1.0 / 6.0, 1.0 / 3.0), memory(5.0 / 6.0, 1.0));
    let is_judged = end.at >= LEAST_FOR_MEMORY.as_secs_f64();
    if is_judged && late > early * MOST_GROWTH {
        failures.push("memory goes on growing");
    }
    let [before, after] = overrun;
    let lost_in_overrun = after.lost - before.lost;
    if lost_in_overrun == 0 {
        failures.push("the ring was not overrun");
    }
    let lost = end.lost - lost_in_overrun;
    if lost > 0 {
        failures.push("records were lost outside the overrun");
    }
    let drift = end.drift - after.drift + before.drift;
    if drift > 0 {
        failures.push("the model differed from the kernel");
    }
    let made = fs::read_to_string(directory.join(MADE))?;
    let made: Vec<&str> = made.lines().collect();
    let mut by_path: BTreeMap<&str, [u32; 2]> = BTreeMap::new();
    let mut without = 0;
    for event in told {
        if event["type"] == "dropped" {
            bail!("events were read too slowly");
        }
        let path = path_of(event);
        without += usize::from(event["change"] == "found" && event["file"]["path"].is_null());
        let counts = by_path.entry(path).or_default();
        match event["change"].as_str() {
            Some("found") => counts[0] += 1,
            Some("gone") => counts[1] += 1,
            _ => {}
        }
    }
    let of = |is: &dyn Fn(&[u32; 2]) -> bool| {
        let paths = made.iter();
        paths
            .filter(|path| is(by_path.get(**path).unwrap_or(&[0, 0])))
            .count()
    };
    let (untold, twice) = (
        of(&|it| it[0] == 0 || it[1] == 0),
        of(&|it| it[0] > 1 || it[1] > 1),
    );
    if untold > 0 {
        failures.push("findings were not told");
    }
    if twice > 0 {
        failures.push("findings were told twice");
    }
    let in_history = made
        .iter()
        .filter(|path| kept.get(**path) == Some(&1))
        .count();
    let history_twice = made
        .iter()
        .filter(|path| kept.get(**path).is_some_and(|&count| count > 1))
        .count();
    if in_history < made.len() || history_twice > 0 {
        failures.push("the history has not each finding once");
    }
    Ok(json!({
        "failures": failures,
        "anonymous_mib": {"judged": is_judged, "second_sixth": early / 1048576.0, "last_sixth": late / 1048576.0},
        "most_rss_mib": looks.iter().map(|look| look.rss).max().unwrap_or(0) as f64 / 1048576.0,
        "lost": {"in_overrun": lost_in_overrun, "outside": lost},
        "drift": {"after_overrun": after.drift - before.drift, "otherwise": drift},
        "findings": {"made": made.len(), "not_told": untold, "told_twice": twice, "without_path": without, "once_in_history": in_history},
    }))
}

/// The path of what was found. Where the process let go of it before it was looked up, there is the path by
/// which it was opened.
fn path_of(finding: &Value) -> &str {
    let paths = [&finding["file"]["path"], &finding["fds"][0]["asked_path"]];
    paths
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default()
}

/// Bytes of memory that is no file's.
fn anonymous(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib
        .context("the kernel does not tell RssAnon")?
        .parse::<u64>()?
        << 10)
}

/// How often each path is in the history, ended.
fn kept(fdwatch: &Path, directory: &Path) -> Result<BTreeMap<String, u32>> {
    let mut history = Command::new(fdwatch);
    history.args(["history", "--json", "--limit", "1000000", "--database"]);
    history.arg(directory.join("state/history.db"));
    let output = history.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the history cannot be read");
    let mut kept = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["ended"].is_null() {
            continue;
        }
        let path = path_of(&line["finding"]);
        *kept.entry(path.to_owned()).or_default() += 1;
    }
    Ok(kept)
}
