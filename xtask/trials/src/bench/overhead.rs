//! The duration of system calls under each tracer.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use xtask_support::{cargo::build_example, shell::info, temp::TempDir};

use super::{
    calls::{CALLS, Files},
    figures::{PROFILE, goal},
    tracers::Tracer,
};

/// Times all calls in `rounds` rounds, under the tracers named in `only`, or all.
pub(super) fn measure(rounds: u32, only: &[String]) -> Result<Value> {
    build_example("floor", PROFILE)?;
    let wanted = |it: &Tracer| {
        *it == Tracer::None || only.is_empty() || only.iter().any(|name| name == it.name())
    };
    let wanted = Tracer::ALL.into_iter().filter(wanted);
    let (installed, missing): (Vec<_>, Vec<_>) = wanted.partition(|it| it.is_installed());
    let directory = TempDir::new("fdwatch-bench-").context("cannot create a directory")?;
    let file = directory.path().join("file");
    fs::write(&file, "")?;
    let files = Files::new(&file)?;
    let mut nanoseconds: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for round in 1..=rounds {
        info(format!("round {round} of {rounds}"));
        for (t, tracer) in installed.iter().enumerate() {
            let running = tracer.start()?;
            for (c, call) in CALLS.iter().enumerate() {
                nanoseconds
                    .entry((c, t))
                    .or_default()
                    .push(call.time(&files));
            }
            if let Some(running) = running {
                running.stop().with_context(|| tracer.name().to_owned())?;
            }
        }
    }
    // The fastest of all rounds: disturbances only add time.
    let best = |c, t| {
        let all: &Vec<f64> = &nanoseconds[&(c, t)];
        all.iter().copied().fold(f64::INFINITY, f64::min)
    };
    print!("{:<16}", "ns");
    for tracer in &installed {
        print!(" {:>18}", tracer.name());
    }
    println!();
    let mut calls = Vec::new();
    for (c, call) in CALLS.iter().enumerate() {
        print!("{:<16}", call.name);
        let baseline = best(c, 0);
        for (t, tracer) in installed.iter().enumerate() {
            let took = best(c, t);
            let figure = if t == 0 {
                format!("{took:.0}")
            } else {
                format!("{took:.0} ({:+.0})", took - baseline)
            };
            print!(" {figure:>18}");
            calls.push(json!({
                "call": call.name,
                "tracer": tracer.name(),
                "ns": took,
                "added": took - baseline,
                "rounds": nanoseconds[&(c, t)],
            }));
        }
        println!();
    }
    for tracer in &missing {
        println!("{} is not installed", tracer.name());
    }
    let added = |call: &str, tracer: Tracer| {
        let c = CALLS.iter().position(|it| it.name == call)?;
        let t = installed.iter().position(|it| *it == tracer)?;
        Some(best(c, t) - best(c, 0))
    };
    let mut goals = Vec::new();
    if let (Some(floor), Some(fdwatch)) = (
        added("open+close", Tracer::Floor),
        added("open+close", Tracer::Fdwatch),
    ) {
        let what = "added to open+close, relative to the floor";
        goals.push(goal(what, fdwatch / floor, 1.5, "times"));
    }
    if let (Some(floor), Some(fdwatch)) = (
        added("getppid", Tracer::Floor),
        added("getppid", Tracer::Fdwatch),
    ) {
        let what = "added to getppid, minus the floor";
        goals.push(goal(what, fdwatch - floor, 5.0, "ns"));
    }
    Ok(json!({
        "calls": calls,
        "missing": missing.iter().map(|tracer| tracer.name()).collect::<Vec<_>>(),
        "goals": goals,
    }))
}
