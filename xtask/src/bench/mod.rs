//! `cargo xtask bench`: what fdwatch takes from the programs it watches, and what it takes itself.
//!
//! All figures of a run are made in turns, round by round, so that they can be compared: what one
//! round is slowed down by, it is for all.

mod calls;
mod tracers;

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use self::{
    calls::{CALLS, Files},
    tracers::Tracer,
};
use crate::{
    shell::{Shell, is_root, say},
    tasks,
};

/// Runs the benchmark in so many rounds, and writes what came of it to the target directory.
pub(crate) fn bench(rounds: u32, only: &[String]) -> Result<()> {
    if !is_root() {
        bail!("programs are traced, which needs root: run this as root");
    }
    tasks::build(true)?;
    let mut examples = tasks::cargo();
    examples.args([
        "build",
        "--release",
        "--package",
        "fdwatch",
        "--example",
        "floor",
    ]);
    Shell { dry_run: false }.run(&mut examples)?;

    let wanted = |it: &Tracer| {
        *it == Tracer::None || only.is_empty() || only.iter().any(|name| name == it.name())
    };
    let wanted = Tracer::ALL.into_iter().filter(wanted);
    let (here, missing): (Vec<_>, Vec<_>) = wanted.partition(|it| it.is_here());
    let file = tempfile::NamedTempFile::new().context("cannot make a file")?;
    let files = Files::new(file.path())?;
    let mut nanoseconds: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    let mut summaries = Vec::new();
    for round in 1..=rounds {
        say(format!("round {round} of {rounds}"));
        for (t, tracer) in here.iter().enumerate() {
            let running = tracer.start()?;
            for (c, call) in CALLS.iter().enumerate() {
                nanoseconds
                    .entry((c, t))
                    .or_default()
                    .push(call.time(&files));
            }
            if let Some(running) = running {
                let last = running.stop().with_context(|| tracer.name().to_owned())?;
                if *tracer == Tracer::Fdwatch {
                    summaries.push(last);
                }
            }
        }
    }
    // The best of all rounds: what disturbs only ever adds.
    let best = |c, t| {
        let all: &Vec<f64> = &nanoseconds[&(c, t)];
        all.iter().copied().fold(f64::INFINITY, f64::min)
    };
    println!("{}", machine());
    print!("{:<16}", "ns");
    for tracer in &here {
        print!(" {:>18}", tracer.name());
    }
    println!();
    let mut report = Vec::new();
    for (c, call) in CALLS.iter().enumerate() {
        print!("{:<16}", call.name);
        let nothing = best(c, 0);
        for (t, tracer) in here.iter().enumerate() {
            let took = best(c, t);
            let figure = if t == 0 {
                format!("{took:.0}")
            } else {
                format!("{took:.0} ({:+.0})", took - nothing)
            };
            print!(" {figure:>18}");
            report.push(json!({
                "call": call.name,
                "tracer": tracer.name(),
                "ns": took,
                "added": took - nothing,
                "rounds": nanoseconds[&(c, t)],
            }));
        }
        println!();
    }
    for tracer in &missing {
        println!("{} is not here", tracer.name());
    }
    let path = tasks::target_directory()?.join("bench.json");
    let report = json!({
        "machine": machine(),
        "calls": report,
        "missing": missing.iter().map(|tracer| tracer.name()).collect::<Vec<_>>(),
        "fdwatch": summaries,
    });
    let text = serde_json::to_string_pretty(&report)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say(format!("all of it is in {}", path.display()));
    Ok(())
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
