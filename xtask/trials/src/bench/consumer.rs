//! The time to process an event, measured by criterion.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use xtask_support::{
    cargo::{cargo, target_directory},
    shell::SHELL,
};

use super::figures::goal;

/// Streams of events: the directory of criterion's group, the name in the output, and the number of events in one
/// iteration.
const STREAMS: [(&str, &str, f64); 4] = [
    ("pairs in 1 process", "open+close, 1 process", 20_000.0),
    (
        "pairs in 200 processes",
        "open+close, 200 processes",
        20_000.0,
    ),
    (
        "pairs in 10,000 processes",
        "open+close, 10,000 processes",
        20_000.0,
    ),
    ("dups", "dup+close, each a duplicate", 20_000.0),
];

/// Runs the benchmark and returns nanoseconds per event.
pub(super) fn measure() -> Result<Value> {
    let mut bench = cargo();
    bench.args([
        "bench",
        "--quiet",
        "--package",
        "fdwatch",
        "--bench",
        "consumer",
    ]);
    SHELL.run(bench.stdout(std::process::Stdio::null()))?;
    let directory = target_directory()?.join("criterion");
    println!(
        "{:<34} {:>10} {:>10} {:>10}",
        "ns per event", "decode", "model", "total"
    );
    let mut figures = Map::new();
    let mut slowest = 0.0f64;
    for (group, name, events) in STREAMS {
        let of = |step: &str| {
            Ok::<_, anyhow::Error>(estimate(&directory.join(group).join(step))? / events)
        };
        let (decode, model, whole) = (of("decode")?, of("model")?, of("whole-way")?);
        println!("{name:<34} {decode:>10.1} {model:>10.1} {whole:>10.1}");
        let figure = json!({ "decode": decode, "model": model, "whole_way": whole });
        figures.insert(name.to_owned(), figure);
        slowest = slowest.max(whole);
    }
    let fork = estimate(&directory.join("fork of 1,000 descriptors, and exit"))?;
    println!("fork with 1,000 descriptors, and exit: {fork:.0} ns");
    figures.insert("fork_and_exit".to_owned(), fork.into());
    let goals = [
        goal("time per event, in the slowest stream", slowest, 60.0, "ns"),
        goal("fork with 1,000 descriptors", fork / 1e3, 1.0, "µs"),
    ];
    Ok(json!({ "ns_per_record": figures, "goals": goals }))
}

/// Reads criterion's median of one iteration, in nanoseconds.
fn estimate(directory: &Path) -> Result<f64> {
    let path = directory.join("new/estimates.json");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let estimates: Value = serde_json::from_str(&text)?;
    estimates["median"]["point_estimate"]
        .as_f64()
        .context("no median in criterion's estimates")
}
