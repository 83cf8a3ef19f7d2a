//! The memory of the model, and of an idle fdwatch.

use std::{process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xtask_support::cargo::build_example;

use super::{
    figures::{PROFILE, goal},
    tracers::Tracer,
};
use crate::processes::memory;

/// Time until fdwatch is idle.
const IDLE: Duration = Duration::from_secs(15);

/// Measures the model and an idle fdwatch.
pub(super) fn measure() -> Result<Value> {
    let example = build_example("memory", PROFILE)?;
    let output = Command::new(example).output()?;
    ensure!(output.status.success(), "the example memory failed");
    let lines = String::from_utf8(output.stdout)?;
    println!(
        "{:>11} {:>10} {:>21}",
        "descriptors", "processes", "bytes per descriptor"
    );
    let mut model = Vec::new();
    let mut last = f64::NAN;
    for line in lines.lines() {
        let figures: Value = serde_json::from_str(line)?;
        let number = |field: &str| figures[field].as_f64().context("a number is missing");
        last = number("bytes")? / number("descriptors")?;
        println!(
            "{:>11} {:>10} {last:>21.1}",
            figures["descriptors"], figures["processes"]
        );
        model.push(json!({ "descriptors": figures["descriptors"], "processes": figures["processes"], "bytes_per_descriptor": last }));
    }
    let running = Tracer::Fdwatch.start()?.context("no tracer")?;
    thread::sleep(IDLE);
    let pid = running.pid();
    let [resident, peak] = ["VmRSS:", "VmHWM:"].map(|name| memory(pid, name));
    running.stop()?;
    let [resident, peak] = [resident?, peak?].map(|bytes| bytes as f64 / 1_048_576.0);
    println!("resident when idle: {resident:.1} MiB; peak at the start: {peak:.1} MiB");
    let goals = [
        goal(
            "model with a million descriptors",
            last,
            48.0,
            "bytes per descriptor",
        ),
        goal("resident when idle", resident, 15.0, "MiB"),
    ];
    Ok(json!({ "model": model, "resident": resident, "peak": peak, "goals": goals }))
}
