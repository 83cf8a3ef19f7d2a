//! The agent, for long, on a host where all goes on at once that may: does it stay as it began?
//!
//! Fork storms, 100,000 descriptors, processes killed, the API hammered; the ring overrun once, and the
//! disk full once. It fails if the agent's memory goes on growing after a sixth of the time (of half an
//! hour or more), if a record is lost outside the overrun, if the model differs from the kernel after it,
//! or if a finding is lost or told twice.

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

pub(crate) use self::workers::{Work, work};
use self::{
    client::{Events, Hammer, get},
    workers::PAUSE,
};
use crate::{
    shell::{is_root, say},
    tasks,
    workloads::processes::{Group, eventually, memory, pause, take_charge},
};

/// How often the agent is looked at, or so: what it does every second would else always be seen at the same
/// time of that.
const LOOK: Duration = Duration::from_secs(5);

/// How long an overrun lasts.
const OVERRUN: Duration = Duration::from_secs(4);

/// Descriptors that are opened and closed, all together.
const DESCRIPTORS: usize = 100_000;

/// Room on the disk that is filled.
const DISK: &str = "size=400m";

/// What the history may have of it: all that is found in an hour.
const HISTORY: &str = "256M";

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
    // Who makes the duplicates waits until they are listened for.
    fs::write(directory.join(PAUSE), "")?;
    let duplicates = begin(Work::Duplicates, directory)?;
    let events = Events::read(&socket, directory.join("duplicate-"), duplicates.pid())?;
    fs::remove_file(directory.join(PAUSE))?;
    let mut workers = vec![duplicates];
    let many = std::iter::repeat_n(Work::Descriptors, DESCRIPTORS.div_ceil(workers::MANY));
    for what in [Work::Forks, Work::Killed].into_iter().chain(many) {
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
    let kept = judge::kept(fdwatch, &directory.join("state/history.db"))?;
    let made = judge::made(&directory.join(workers::MADE))?;
    let report = judge::judge(&looks, &overrun, &made, &told, &kept)?;
    let report = json!({
        "seconds": time.as_secs(),
        "requests": {"answered": answered, "not_answered": refused},
        "health": last,
        "report": report,
        "looks": looks.iter().map(|look| json!([look.at, look.rss, look.anonymous, look.lost, look.drift])).collect::<Vec<_>>(),
    });
    let file = tasks::target_directory()?.join("soak.json");
    fs::write(&file, serde_json::to_vec_pretty(&report)?)?;
    let mut shown = report["report"].clone();
    if let Some(shown) = shown.as_object_mut() {
        // As much as a screen holds.
        shown.remove("amiss");
    }
    println!("{}", serde_json::to_string_pretty(&shown)?);
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
            let elapsed = self.began.elapsed();
            let look = LOOK / 2 + LOOK.mul_f64(f64::from(elapsed.subsec_micros()) / 1e6);
            pause(look.min(time.saturating_sub(elapsed)))?;
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
            anonymous: memory(self.agent.pid(), "RssAnon:")?,
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
