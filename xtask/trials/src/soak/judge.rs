//! Compares the agent's samples, events and history with the duplicates that were created.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::workers::Created;

/// Maximum ratio of the agent's memory at the end to that after a sixth of the duration.
const MAX_GROWTH: f64 = 1.05;

/// Minimum duration for the check of memory: earlier, the agent has not reached its working size yet.
const MIN_FOR_MEMORY: Duration = Duration::from_secs(30 * 60);

/// Maximum number of wrong findings in the report.
const MAX_REPORTED: usize = 200;

/// Number of reports of a duplicate as found and as gone, and of its complete entries in the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    found: u32,
    gone: u32,
    in_history: u32,
}

impl Counts {
    const ONCE: Self = Self {
        found: 1,
        gone: 1,
        in_history: 1,
    };
}

/// The agent's state at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Seconds since the start.
    pub(super) at: f64,
    /// Resident memory in bytes.
    pub(super) rss: u64,
    /// Resident memory that is not backed by files, in bytes. Pages of files that the agent reads symbols from
    /// stay resident as long as the kernel has no better use for them.
    pub(super) anonymous: u64,
    /// Lost events.
    pub(super) lost: u64,
    /// Descriptors that differed from the kernel's.
    pub(super) drift: u64,
}

/// Returns the report: each failure in words, and the figures.
pub(super) fn judge(
    samples: &[Sample],
    overrun: &[Sample; 2],
    created: &[Created],
    events: &[Value],
    history: &BTreeMap<String, u32>,
) -> Result<Value> {
    let mut failures = Vec::new();
    let end = samples.last().context("no samples")?;
    let memory = |from: f64, to: f64| -> f64 {
        let all = samples
            .iter()
            .filter(|sample| sample.at >= end.at * from && sample.at <= end.at * to);
        let all: Vec<_> = all.map(|sample| sample.anonymous as f64).collect();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    };
    let (early, late) = (memory(1.0 / 6.0, 1.0 / 3.0), memory(5.0 / 6.0, 1.0));
    let is_judged = end.at >= MIN_FOR_MEMORY.as_secs_f64();
    if is_judged && late > early * MAX_GROWTH {
        failures.push("memory keeps growing");
    }
    let [before, after] = overrun;
    let lost_in_overrun = after.lost - before.lost;
    if lost_in_overrun == 0 {
        failures.push("the ring buffer did not overrun");
    }
    let lost = end.lost - lost_in_overrun;
    if lost > 0 {
        failures.push("events were lost outside the overrun");
    }
    let drift = end.drift - after.drift + before.drift;
    if drift > 0 {
        failures.push("the model differed from the kernel");
    }
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut without_path = 0;
    for event in events {
        if event["type"] == "dropped" {
            bail!("the soak test read events too slowly");
        }
        without_path += usize::from(event["change"] == "found" && event["file"]["path"].is_null());
        let counts = counts.entry(path_of(event)).or_default();
        match event["change"].as_str() {
            Some("found") => counts.found += 1,
            Some("gone") => counts.gone += 1,
            _ => {}
        }
    }
    for (path, count) in history {
        counts.entry(path).or_default().in_history += count;
    }
    let of = |is: &dyn Fn(Counts) -> bool| {
        let paths = created.iter().map(|created| created.path.as_str());
        let paths = paths.filter(|path| is(counts.get(path).copied().unwrap_or_default()));
        paths.count()
    };
    let not_reported = of(&|it| it.found == 0 || it.gone == 0);
    let reported_twice = of(&|it| it.found > 1 || it.gone > 1);
    let once_in_history = of(&|it| it.in_history == 1);
    if not_reported > 0 {
        failures.push("findings were not reported");
    }
    if reported_twice > 0 {
        failures.push("findings were reported twice");
    }
    if once_in_history < created.len() {
        failures.push("the history does not have each finding once");
    }
    Ok(json!({
        "failures": failures,
        "anonymous_mib": {"judged": is_judged, "second_sixth": early / 1048576.0, "last_sixth": late / 1048576.0},
        "max_rss_mib": samples.iter().map(|sample| sample.rss).max().unwrap_or(0) as f64 / 1048576.0,
        "lost": {"in_overrun": lost_in_overrun, "outside": lost},
        "drift": {"after_overrun": after.drift - before.drift, "otherwise": drift},
        "findings": {"created": created.len(), "not_reported": not_reported, "reported_twice": reported_twice, "without_path": without_path, "once_in_history": once_in_history},
        "wrong": wrong(created, events, &counts),
    }))
}

/// Returns the duplicates that are not reported once and stored once, with the events about them, and events about
/// anything else.
fn wrong(created: &[Created], events: &[Value], counts: &BTreeMap<&str, Counts>) -> Value {
    let is_right = |created: &&Created| counts.get(created.path.as_str()) == Some(&Counts::ONCE);
    let right: BTreeSet<&str> = created
        .iter()
        .filter(is_right)
        .map(|created| created.path.as_str())
        .collect();
    let created = created
        .iter()
        .filter(|created| !right.contains(created.path.as_str()));
    let created = created.take(MAX_REPORTED).map(|created| {
        let Counts { found, gone, in_history } =
            counts.get(created.path.as_str()).copied().unwrap_or_default();
        json!({"path": created.path, "opened": created.opened, "closed": created.closed, "found": found, "gone": gone, "in_history": in_history})
    });
    let events = events.iter().filter(|event| {
        !right.contains(path_of(event))
            || (event["change"] == "found" && event["file"]["path"].is_null())
    });
    json!({"created": created.collect::<Vec<_>>(), "events": events.take(MAX_REPORTED).collect::<Vec<_>>()})
}

/// Returns the path of a finding. If the process closed the file before its path was looked up, the path that it was
/// opened by.
fn path_of(finding: &Value) -> &str {
    let lists = [&finding["fds"], &finding["closed"]];
    let descriptors = lists
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .map(|descriptor| &descriptor["asked_path"]);
    std::iter::once(&finding["file"]["path"])
        .chain(descriptors)
        .find_map(Value::as_str)
        .unwrap_or_default()
}

/// Counts the entries of each path that are in the history with their end.
pub(super) fn in_history(fdwatch: &Path, database: &Path) -> Result<BTreeMap<String, u32>> {
    let mut command = Command::new(fdwatch);
    command.args(["history", "--json", "--limit", "1000000", "--database"]);
    let output = command.arg(database).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "cannot read the history");
    let mut counts = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["ended"].is_null() {
            continue;
        }
        let path = path_of(&line["finding"]);
        *counts.entry(path.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// Returns the duplicates that the worker wrote to `file`.
pub(super) fn created(file: &Path) -> Result<Vec<Created>> {
    let created = fs::read_to_string(file)?;
    let created = created.lines().map(serde_json::from_str);
    Ok(created.collect::<Result<_, _>>()?)
}
