//! fdwatch, watching a workload.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::canary::{self, Canary};
use crate::processes::{Group, pause};

/// Timeout of fdwatch's start, of an audit, and of its exit.
const LIMIT: Duration = Duration::from_secs(90);

/// A running `fdwatch watch --all --json`.
#[derive(Debug)]
pub(super) struct Watch {
    process: Group,
    lines: Receiver<String>,
}

/// fdwatch's summary.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) events: u64,
    pub(super) lost: u64,
    /// Lost events by kind, as JSON.
    pub(super) lost_kinds: String,
    pub(super) audits: u64,
    pub(super) drift: Drift,
    /// CPU time in seconds.
    pub(super) cpu: f64,
}

/// Numbers of descriptors that differed from the kernel's.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Drift {
    pub(super) missing: u64,
    pub(super) phantom: u64,
    pub(super) wrong_file: u64,
    pub(super) close_on_exec: u64,
}

impl Watch {
    /// Starts one and waits until it watches all processes.
    pub(super) fn start(fdwatch: &Path) -> Result<Self> {
        let mut command = Command::new(fdwatch);
        command.args(["watch", "--all", "--json", "--max-cpu", "100"]);
        let mut process = Group::spawn(command.stdout(Stdio::piped()))?;
        let output = process.child.stdout.take().context("no output")?;
        let own = format!(r#""pid":{},"#, std::process::id());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // There may be many findings; only that of the canary is needed.
                let is_wanted = !line.contains(r#""type":"finding""#) || line.contains(&own);
                if is_wanted && sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut watch = Self { process, lines };
        watch.until(|line| line["type"] == "started")?;
        Ok(watch)
    }

    /// Waits until audits have checked the present state, stops fdwatch and returns its summary.
    pub(super) fn end(mut self) -> Result<Summary> {
        let canary = Canary::new()?;
        self.until(|line| canary.is_reported_by(line))
            .context("no audit found the canary")?;
        self.process.signal(libc::SIGINT);
        let summary = self.until(|line| line["type"] == "summary")?;
        self.process.finish(LIMIT)?;
        drop(canary);
        Summary::read(&summary)
    }

    fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            pause(Duration::ZERO)?;
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    let line =
                        serde_json::from_str(&line).context("fdwatch printed invalid JSON")?;
                    if is_it(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("fdwatch exited early"),
            }
        }
        bail!(
            "fdwatch did not print the expected line within {} s",
            LIMIT.as_secs()
        )
    }
}

impl Summary {
    fn read(summary: &Value) -> Result<Self> {
        let number = |value: &Value| {
            let number = value.as_u64();
            number.with_context(|| format!("a number is missing in {summary}"))
        };
        let drift = &summary["drift"];
        let seconds = |field: &str| summary["cpu"][field].as_f64().unwrap_or_default();
        let missing = number(&drift["missing"])?.checked_sub(canary::MISSING);
        Ok(Self {
            events: number(&summary["events"])?,
            lost: number(&summary["lost"]["total"])?,
            lost_kinds: summary["lost"]["by_kind"].to_string(),
            audits: number(&drift["audits"])?,
            drift: Drift {
                missing: missing.context("the audit did not report the canary as missing")?,
                phantom: number(&drift["phantom"])?,
                wrong_file: number(&drift["wrong_file"])?,
                close_on_exec: number(&drift["close_on_exec"])?,
            },
            cpu: seconds("user") + seconds("system"),
        })
    }

    /// Returns whether no event was lost and the model matched the kernel.
    pub(super) fn is_exact(&self) -> bool {
        self.lost == 0 && self.drift == Drift::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(missing: u64, lost: u64) -> Value {
        serde_json::json!({
            "events": 7, "lost": {"total": lost}, "cpu": {"user": 0.25, "system": 0.5},
            "drift": {"audits": 2, "missing": missing, "phantom": 0, "wrong_file": 0,
                "close_on_exec": 0},
        })
    }

    #[test]
    fn canary_is_not_counted_as_drift() {
        let summary = Summary::read(&line(1, 0)).unwrap();
        assert!(summary.is_exact());
        assert_eq!((summary.events, summary.audits), (7, 2));
        assert!((summary.cpu - 0.75).abs() < 1e-9);
        assert!(!Summary::read(&line(2, 0)).unwrap().is_exact());
        assert!(!Summary::read(&line(1, 1)).unwrap().is_exact());
        assert!(Summary::read(&line(0, 0)).is_err());
        assert!(Summary::read(&serde_json::json!({})).is_err());
    }
}
