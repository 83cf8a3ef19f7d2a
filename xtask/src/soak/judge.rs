//! Whether what was to hold did: of what was looked at, told and kept, and of what was made meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Look, workers::Made};

/// Memory that the agent may have more of in the end than after a sixth of the time.
const MOST_GROWTH: f64 = 1.05;

/// Below this, the agent is not done with growing to what it needs: its memory is told, and not judged.
const LEAST_FOR_MEMORY: Duration = Duration::from_secs(30 * 60);

/// Of what was told amiss, so much is kept to be looked into.
const MOST_KEPT: usize = 200;

/// How often a duplicate was told to have come, to be gone, and is in the history, ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Times {
    found: u32,
    gone: u32,
    kept: u32,
}

impl Times {
    const ONCE: Self = Self {
        found: 1,
        gone: 1,
        kept: 1,
    };
}

/// What is to hold, and whether it did.
pub(super) fn judge(
    looks: &[Look],
    overrun: &[Look; 2],
    made: &[Made],
    told: &[Value],
    kept: &BTreeMap<String, u32>,
) -> Result<Value> {
    let mut failures = Vec::new();
    let end = looks.last().context("nothing was looked at")?;
    let memory = |from: f64, to: f64| -> f64 {
        let all = looks
            .iter()
            .filter(|look| look.at >= end.at * from && look.at <= end.at * to);
        let all: Vec<_> = all.map(|look| look.anonymous as f64).collect();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    };
    let (early, late) = (memory(1.0 / 6.0, 1.0 / 3.0), memory(5.0 / 6.0, 1.0));
    let is_judged = end.at >= LEAST_FOR_MEMORY.as_secs_f64();
    if is_judged && late > early * MOST_GROWTH {
        failures.push("memory goes on growing");
    }
    let [before, after] = overrun;
    let lost_in_overrun = after.lost - before.lost;
    if lost_in_overrun == 0 {
        failures.push("the ring was not overrun");
    }
    let lost = end.lost - lost_in_overrun;
    if lost > 0 {
        failures.push("records were lost outside the overrun");
    }
    let drift = end.drift - after.drift + before.drift;
    if drift > 0 {
        failures.push("the model differed from the kernel");
    }
    let mut times: BTreeMap<&str, Times> = BTreeMap::new();
    let mut without = 0;
    for event in told {
        if event["type"] == "dropped" {
            bail!("events were read too slowly");
        }
        without += usize::from(event["change"] == "found" && event["file"]["path"].is_null());
        let times = times.entry(path_of(event)).or_default();
        match event["change"].as_str() {
            Some("found") => times.found += 1,
            Some("gone") => times.gone += 1,
            _ => {}
        }
    }
    for (path, count) in kept {
        times.entry(path).or_default().kept += count;
    }
    let of = |is: &dyn Fn(Times) -> bool| {
        let paths = made.iter().map(|made| made.path.as_str());
        let paths = paths.filter(|path| is(times.get(path).copied().unwrap_or_default()));
        paths.count()
    };
    let untold = of(&|it| it.found == 0 || it.gone == 0);
    let twice = of(&|it| it.found > 1 || it.gone > 1);
    let once_in_history = of(&|it| it.kept == 1);
    if untold > 0 {
        failures.push("findings were not told");
    }
    if twice > 0 {
        failures.push("findings were told twice");
    }
    if once_in_history < made.len() {
        failures.push("the history has not each finding once");
    }
    Ok(json!({
        "failures": failures,
        "anonymous_mib": {"judged": is_judged, "second_sixth": early / 1048576.0, "last_sixth": late / 1048576.0},
        "most_rss_mib": looks.iter().map(|look| look.rss).max().unwrap_or(0) as f64 / 1048576.0,
        "lost": {"in_overrun": lost_in_overrun, "outside": lost},
        "drift": {"after_overrun": after.drift - before.drift, "otherwise": drift},
        "findings": {"made": made.len(), "not_told": untold, "told_twice": twice, "without_path": without, "once_in_history": once_in_history},
        "amiss": amiss(made, told, &times),
    }))
}

/// What was made and not told once and kept once, and all that was told of that, or of nothing that was made.
fn amiss(made: &[Made], told: &[Value], times: &BTreeMap<&str, Times>) -> Value {
    let is_well = |made: &&Made| times.get(made.path.as_str()) == Some(&Times::ONCE);
    let well: BTreeSet<&str> = made
        .iter()
        .filter(is_well)
        .map(|made| made.path.as_str())
        .collect();
    let made = made
        .iter()
        .filter(|made| !well.contains(made.path.as_str()));
    let made = made.take(MOST_KEPT).map(|made| {
        let Times { found, gone, kept } =
            times.get(made.path.as_str()).copied().unwrap_or_default();
        json!({"path": made.path, "opened": made.opened, "closed": made.closed, "found": found, "gone": gone, "in_history": kept})
    });
    let told = told.iter().filter(|event| {
        !well.contains(path_of(event))
            || (event["change"] == "found" && event["file"]["path"].is_null())
    });
    json!({"made": made.collect::<Vec<_>>(), "told": told.take(MOST_KEPT).collect::<Vec<_>>()})
}

/// The path of what was found. Where the process let go of it before it was looked up, there is the path by
/// which it was opened.
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

/// How often each path is in the history, ended.
pub(super) fn kept(fdwatch: &Path, history: &Path) -> Result<BTreeMap<String, u32>> {
    let mut command = Command::new(fdwatch);
    command.args(["history", "--json", "--limit", "1000000", "--database"]);
    let output = command.arg(history).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the history cannot be read");
    let mut kept = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let line: Value = serde_json::from_str(line)?;
        if line["ended"].is_null() {
            continue;
        }
        let path = path_of(&line["finding"]);
        *kept.entry(path.to_owned()).or_default() += 1;
    }
    Ok(kept)
}

/// What the worker noted that it made, in the file `made`.
pub(super) fn made(file: &Path) -> Result<Vec<Made>> {
    let made = fs::read_to_string(file)?;
    let made = made.lines().map(serde_json::from_str);
    Ok(made.collect::<Result<_, _>>()?)
}
