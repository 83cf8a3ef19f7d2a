//! `cargo xtask bench`: measures fdwatch's own cost and what it adds to the programs it watches.
//!
//! The measurements of a section take turns, round by round: a disturbance of a round affects all of them.
//! Missed goals are reported, but do not fail the benchmark.

mod calls;
mod consumer;
mod figures;
mod load;
mod memory;
mod overhead;
mod scan;
mod tracers;
mod work;

use std::fs;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde_json::Map;
use xtask_support::{
    cargo::{build_fdwatch, target_directory},
    shell::{info, is_root},
};

use self::figures::PROFILE;
pub(crate) use self::scan::hold;

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// Time added to system calls, by fdwatch and by alternatives
    Calls,
    /// Slowdown of real programs
    Work,
    /// Time to process an event
    Consumer,
    /// CPU time and lost events under load
    Load,
    /// Memory of the model and of an idle fdwatch
    Memory,
    /// Time of snapshots and scans, compared with lsof, lsfd and /proc; time to start
    Look,
}

/// Measures the sections in `only`, or all, and writes the figures to `bench.json` in the target directory.
pub(crate) fn bench(rounds: u32, only: &[Section], tracers: &[String]) -> Result<()> {
    if !is_root() {
        bail!("bench needs root: run this as root");
    }
    build_fdwatch(PROFILE)?;
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
        info(&name);
        let figures = match section {
            Section::Calls => overhead::measure(rounds, tracers),
            Section::Work => work::measure(rounds),
            Section::Consumer => consumer::measure(),
            Section::Load => load::measure(),
            Section::Memory => memory::measure(),
            Section::Look => scan::measure(rounds),
        };
        let figures = figures.with_context(|| format!("cannot measure {name}"))?;
        report.insert(name, figures);
        println!();
    }
    let path = target_directory()?.join("bench.json");
    let text = serde_json::to_string_pretty(&report)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    info(format!("all figures: {}", path.display()));
    Ok(())
}

/// Returns the processor and kernel of this machine.
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
