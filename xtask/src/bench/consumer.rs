//! A record's way through fdwatch, by criterion.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::goal;
use crate::{shell::Shell, tasks};

/// A group of criterion's, as it names its directory; what it is called here; and how many records
/// one run is of.
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
    ("dups", "dup+close, a duplicate each time", 20_000.0),
];

/// Runs it all, and gives nanoseconds per record.
pub(super) fn measure() -> Result<Value> {
    let mut bench = tasks::cargo();
    bench.args([
        "bench",
        "--quiet",
        "--package",
        "fdwatch",
        "--bench",
        "consumer",
    ]);
    Shell { dry_run: false }.run(bench.stdout(std::process::Stdio::null()))?;
    let directory = tasks::target_directory()?.join("criterion");
    println!(
        "{:<34} {:>10} {:>10} {:>10}",
        "ns per record", "decoded", "in model", "whole way"
    );
    let mut figures = Map::new();
    let mut slowest = 0.0f64;
    for (group, name, records) in STREAMS {
        let of = |step: &str| {
            Ok::<_, anyhow::Error>(estimate(&directory.join(group).join(step))? / records)
        };
        let (decode, model, whole) = (of("decode")?, of("model")?, of("whole-way")?);
        println!("{name:<34} {decode:>10.1} {model:>10.1} {whole:>10.1}");
        let figure = json!({ "decode": decode, "model": model, "whole_way": whole });
        figures.insert(name.to_owned(), figure);
        slowest = slowest.max(whole);
    }
    let fork = estimate(&directory.join("fork of 1,000 descriptors, and exit"))?;
    println!("a fork of 1,000 descriptors, and its exit: {fork:.0} ns");
    figures.insert("fork_and_exit".to_owned(), fork.into());
    let goals = [
        goal(
            "the whole way of a record, in the slowest of these",
            slowest,
            60.0,
            "ns",
        ),
        goal("a fork of 1,000 descriptors", fork / 1e3, 1.0, "µs"),
    ];
    Ok(json!({ "ns_per_record": figures, "goals": goals }))
}

/// Criterion's estimate of how long one run takes, in nanoseconds.
fn estimate(directory: &Path) -> Result<f64> {
    let path = directory.join("new/estimates.json");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let estimates: Value = serde_json::from_str(&text)?;
    estimates["median"]["point_estimate"]
        .as_f64()
        .context("criterion tells no median")
}
