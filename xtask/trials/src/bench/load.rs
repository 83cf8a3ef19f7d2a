//! fdwatch under load: CPU time per event, and lost events.

use std::{
    fs::File,
    num::NonZero,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use xtask_support::temp::TempDir;

use super::{figures::goal, tracers::Tracer};

/// Duration of each load.
const DURATION: Duration = Duration::from_secs(10);

/// A load.
struct Load {
    name: &'static str,
    threads: usize,
    /// Pairs of open and close per second and thread; `None` for as many as possible.
    rate: Option<u32>,
    /// Busy loops beside it, for each processor.
    busy: usize,
    /// Nice value of the threads.
    nice: i32,
    /// Whether fdwatch is started when the load is there already.
    starts_late: bool,
}

impl Load {
    const ALONE: Self = Self {
        name: "",
        threads: 1,
        rate: None,
        busy: 0,
        nice: 0,
        starts_late: false,
    };
}

const LOADS: [Load; 6] = [
    Load {
        name: "50,000 pairs per second",
        rate: Some(50_000),
        ..Load::ALONE
    },
    Load {
        name: "1 thread at full speed",
        ..Load::ALONE
    },
    Load {
        name: "2 threads at full speed",
        threads: 2,
        ..Load::ALONE
    },
    Load {
        name: "beside busy loops",
        ..BUSY
    },
    Load {
        name: "busy loops, makers at nice -10",
        nice: -10,
        ..BUSY
    },
    Load {
        name: "busy loops, started late",
        starts_late: true,
        ..BUSY
    },
];

/// 200,000 events per second beside eight busy loops for each processor.
const BUSY: Load = Load {
    threads: 2,
    rate: Some(50_000),
    busy: 8,
    ..Load::ALONE
};

/// Runs each load under a new fdwatch with default settings.
pub(super) fn measure() -> Result<Value> {
    let directory = TempDir::new("fdwatch-bench-").context("cannot create a directory")?;
    let file = directory.path().join("file");
    File::create(&file)?;
    println!(
        "{:<30} {:>10} {:>12} {:>8} {:>18} {:>6}",
        "open+close", "pairs/s", "events", "lost", "CPU s per million", "drift"
    );
    let mut loads = Vec::new();
    let mut total_lost = 0.0;
    for load in LOADS {
        let name = load.name;
        let _loops = BusyLoops::start(load.busy)?;
        let start = || Tracer::Fdwatch.start()?.context("no tracer");
        let early = if load.starts_late {
            None
        } else {
            Some(start()?)
        };
        let (pairs, running, before) = thread::scope(|scope| -> Result<_> {
            let threads: Vec<_> = (0..load.threads)
                .map(|_| scope.spawn(|| pairs(&file, &load)))
                .collect();
            let running = match early {
                Some(running) => running,
                None => {
                    thread::sleep(Duration::from_secs(1));
                    start()?
                }
            };
            let before = running.cpu()?;
            let made = threads.into_iter().map(|thread| thread.join().unwrap_or(0));
            Ok((made.sum::<u64>(), running, before))
        })?;
        let used = running.cpu()? - before;
        let summary = running.stop()?;
        let number = |value: &Value| value.as_f64().context("a number is missing in the summary");
        let events = number(&summary["events"])?;
        let lost = number(&summary["lost"]["total"])?;
        let drift = &summary["drift"];
        let drift = ["missing", "phantom", "wrong_file", "close_on_exec"]
            .iter()
            .map(|kind| drift[kind].as_u64().unwrap_or(0))
            .sum::<u64>();
        let per_second = pairs / DURATION.as_secs();
        let per_million = used / events * 1e6;
        println!(
            "{name:<30} {per_second:>10} {events:>12} {lost:>8} {per_million:>18.3} {drift:>6}"
        );
        total_lost += lost;
        loads.push(json!({
            "load": name,
            "pairs_per_second": per_second,
            "events": events,
            "lost": lost,
            "cpu_seconds_per_million_events": per_million,
            "drift": drift,
        }));
    }
    let goals = [goal("lost under all loads", total_lost, 0.0, "events")];
    Ok(json!({ "loads": loads, "goals": goals }))
}

/// Processes that use as much of the processors as they get; killed when dropped.
struct BusyLoops(Vec<Child>);

impl BusyLoops {
    fn start(per_processor: usize) -> Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let mut loops = Self(Vec::new());
        for _ in 0..per_processor * processors {
            let mut busy = Command::new("sh");
            busy.args(["-c", "while :; do :; done"]);
            loops.0.push(busy.spawn().context("cannot start sh")?);
        }
        Ok(loops)
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        for busy in &mut self.0 {
            let _ = busy.kill();
            let _ = busy.wait();
        }
    }
}

/// Opens and closes the file for [`DURATION`]. Returns the number of pairs.
fn pairs(path: &Path, load: &Load) -> u64 {
    const BATCH: u32 = 100;
    let rate = load.rate;
    // SAFETY: the call takes numbers only. 0 is this thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, load.nice) };
    let began = Instant::now();
    let mut pairs = 0u32;
    while began.elapsed() < DURATION {
        for _ in 0..BATCH {
            drop(File::open(path));
        }
        pairs += BATCH;
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(f64::from(pairs) / f64::from(rate));
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    pairs.into()
}
