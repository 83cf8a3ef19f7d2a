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
    let (mut tracers, missing): (Vec<_>, Vec<_>) = wanted.partition(|it| it.is_installed());
    let directory = TempDir::new("fdwatch-bench-").context("cannot create a directory")?;
    let file = directory.path().join("file");
    fs::write(&file, "")?;
    let files = Files::new(&file)?;
    let mut nanoseconds: BTreeMap<(usize, Tracer), Vec<f64>> = BTreeMap::new();
    let mut failed = BTreeMap::new();
    for round in 1..=rounds {
        info(format!("round {round} of {rounds}"));
        for &tracer in &tracers {
            match turn(tracer, &files) {
                Ok(took) => {
                    for (c, took) in took.into_iter().enumerate() {
                        nanoseconds.entry((c, tracer)).or_default().push(took);
                    }
                }
                // The others are measured without it.
                Err(error) if tracer.alternative().is_some() => {
                    info(format!("{error:#}"));
                    failed.insert(tracer, format!("{error:#}"));
                }
                Err(error) => return Err(error),
            }
        }
        tracers.retain(|tracer| !failed.contains_key(tracer));
    }
    // The fastest of all rounds: disturbances only add time.
    let best = |c, tracer| {
        let all: &Vec<f64> = &nanoseconds[&(c, tracer)];
        all.iter().copied().fold(f64::INFINITY, f64::min)
    };
    print!("{:<16}", "ns");
    for tracer in &tracers {
        print!(" {:>18}", tracer.name());
    }
    println!();
    let mut calls = Vec::new();
    for (c, call) in CALLS.iter().enumerate() {
        print!("{:<16}", call.name);
        let baseline = best(c, Tracer::None);
        for &tracer in &tracers {
            let took = best(c, tracer);
            let figure = if tracer == Tracer::None {
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
                "rounds": nanoseconds[&(c, tracer)],
            }));
        }
        println!();
    }
    for tracer in &missing {
        println!("{} is not installed", tracer.name());
    }
    for (tracer, reason) in &failed {
        println!("{} failed: {reason}", tracer.name());
    }
    let added = |call: &str, tracer: Tracer| {
        let c = CALLS.iter().position(|it| it.name == call)?;
        let is_measured = tracers.contains(&tracer);
        is_measured.then(|| best(c, tracer) - best(c, Tracer::None))
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
        "failed": failed.iter().map(|(tracer, reason)| (tracer.name(), reason)).collect::<BTreeMap<_, _>>(),
        "goals": goals,
    }))
}

/// Times each call under a tracer, in nanoseconds.
fn turn(tracer: Tracer, files: &Files) -> Result<Vec<f64>> {
    let running = tracer.start()?;
    let took = CALLS.iter().map(|call| call.time(files)).collect();
    if let Some(running) = running {
        running.stop().with_context(|| tracer.name().to_owned())?;
    }
    Ok(took)
}
