//! fdwatch under load: CPU time per event, and lost events.

use std::{
    fs::File,
    path::Path,
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
}

const LOADS: [Load; 3] = [
    Load {
        name: "50,000 pairs per second",
        threads: 1,
        rate: Some(50_000),
    },
    Load {
        name: "1 thread at full speed",
        threads: 1,
        rate: None,
    },
    Load {
        name: "2 threads at full speed",
        threads: 2,
        rate: None,
    },
];

/// Runs each load under a new fdwatch with default settings.
pub(super) fn measure() -> Result<Value> {
    let directory = TempDir::new("fdwatch-bench-").context("cannot create a directory")?;
    let file = directory.path().join("file");
    File::create(&file)?;
    println!(
        "{:<28} {:>10} {:>12} {:>8} {:>18} {:>6}",
        "open+close", "pairs/s", "events", "lost", "CPU s per million", "drift"
    );
    let mut loads = Vec::new();
    let mut total_lost = 0.0;
    for Load {
        name,
        threads,
        rate,
    } in LOADS
    {
        let running = Tracer::Fdwatch.start()?.context("no tracer")?;
        let before = running.cpu()?;
        let pairs: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| pairs(&file, rate)))
                .collect();
            let made = threads.into_iter().map(|thread| thread.join().unwrap_or(0));
            made.sum()
        });
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
            "{name:<28} {per_second:>10} {events:>12} {lost:>8} {per_million:>18.3} {drift:>6}"
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

/// Opens and closes the file for [`DURATION`]. Returns the number of pairs.
fn pairs(path: &Path, rate: Option<u32>) -> u64 {
    const BATCH: u32 = 100;
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
