//! `cargo xtask bench`: what fdwatch takes from the programs it watches, and what it takes itself.
//!
//! All figures of a section are made in turns, round by round, so that they can be compared: what one
//! round is slowed down by, it is for all. Nothing here passes or fails: a goal that is missed is told
//! to be missed.

mod beside;
mod calls;
mod consumer;
mod load;
mod look;
mod memory;
mod tracers;
mod work;

use std::fs;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

pub(crate) use self::look::hold_if_asked;
use crate::{
    shell::{Shell, is_root, say},
    tasks,
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// Calls, beside fdwatch and beside what else there is.
    Calls,
    /// Real programs at work, with fdwatch beside them and without.
    Work,
    /// A record's way through fdwatch.
    Consumer,
    /// fdwatch under load: its own time, and what it loses.
    Load,
    /// What the model takes, and what all of fdwatch does.
    Memory,
    /// Snapshots and scans, beside lsof, lsfd and /proc; and how long it takes to begin.
    Look,
}

/// Measures in so many rounds, and writes what came of it to the target directory.
pub(crate) fn bench(rounds: u32, only: &[Section], tracers: &[String]) -> Result<()> {
    if !is_root() {
        bail!("programs are traced, which needs root: run this as root");
    }
    tasks::build(true)?;
    println!("{}", machine());
    let mut report = Map::new();
    report.insert("machine".to_owned(), machine().into());
    for &section in Section::value_variants() {
        if !only.is_empty() && !only.contains(&section) {
            continue;
        }
        let name = section
            .to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned());
        say(&name);
        let figures = match section {
            Section::Calls => beside::measure(rounds, tracers),
            Section::Work => work::measure(rounds),
            Section::Consumer => consumer::measure(),
            Section::Load => load::measure(),
            Section::Memory => memory::measure(),
            Section::Look => look::measure(rounds),
        };
        let figures = figures.with_context(|| format!("cannot measure {name}"))?;
        report.insert(name, figures);
        println!();
    }
    let path = tasks::target_directory()?.join("bench.json");
    let text = serde_json::to_string_pretty(&report)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say(format!("all of it is in {}", path.display()));
    Ok(())
}

/// Builds one of fdwatch's examples, for it to be run.
fn build_example(name: &str) -> Result<()> {
    let mut command = tasks::cargo();
    command.args([
        "build",
        "--release",
        "--package",
        "fdwatch",
        "--example",
        name,
    ]);
    Shell { dry_run: false }.run(&mut command)
}

/// Tells whether a goal was reached.
fn goal(what: &str, value: f64, most: f64, unit: &str) -> Value {
    let is_reached = value <= most;
    let verdict = if is_reached { "reached" } else { "MISSED" };
    println!("goal {verdict}: {what}: {value:.2} of at most {most:.2} {unit}");
    json!({ "goal": what, "value": value, "most": most, "unit": unit, "reached": is_reached })
}

/// The value in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.is_empty() {
        f64::NAN
    } else if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// What the figures were made on.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("", |it| it.1);
    format!(
        "{model}, {} processors, Linux {}",
        info.lines()
            .filter(|line| line.starts_with("processor"))
            .count(),
        read("/proc/sys/kernel/osrelease").trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
