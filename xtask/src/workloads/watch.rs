//! fdwatch, beside a workload.

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

use super::{
    canary::{self, Canary},
    processes::{Group, pause},
};

/// How long anything may take that fdwatch is waited for.
const LIMIT: Duration = Duration::from_secs(90);

/// `fdwatch watch --all --json`.
#[derive(Debug)]
pub(super) struct Watch {
    process: Group,
    lines: Receiver<String>,
}

/// What fdwatch told of a workload in the end.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) events: u64,
    pub(super) lost: u64,
    /// What was lost, by kind, in fdwatch's words.
    pub(super) lost_kinds: String,
    pub(super) audits: u64,
    pub(super) drift: Drift,
    /// Seconds of processor time.
    pub(super) cpu: f64,
}

/// How many descriptors were not as the kernel has them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Drift {
    pub(super) missing: u64,
    pub(super) phantom: u64,
    pub(super) wrong_file: u64,
    pub(super) close_on_exec: u64,
}

impl Watch {
    /// Starts one, and waits until it follows all processes.
    pub(super) fn start(fdwatch: &Path) -> Result<Self> {
        let mut command = Command::new(fdwatch);
        command.args(["watch", "--all", "--json", "--max-cpu", "100"]);
        let mut process = Group::spawn(command.stdout(Stdio::piped()))?;
        let output = process.child.stdout.take().context("it was asked for")?;
        let own = format!(r#""pid":{},"#, std::process::id());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Of findings there may be many, and all but one are passed over.
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

    /// Waits until audits have looked at all that is there now, ends fdwatch, and gives what it
    /// told in the end.
    pub(super) fn end(mut self) -> Result<Summary> {
        let canary = Canary::new()?;
        self.until(|line| canary.is_told_by(line))
            .context("no audit has found what was left for it to find")?;
        self.process.signal(libc::SIGINT);
        let told = self.until(|line| line["type"] == "summary")?;
        self.process.finish(LIMIT)?;
        drop(canary);
        Summary::read(&told)
    }

    fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            pause(Duration::ZERO)?;
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    let line = serde_json::from_str(&line).context("fdwatch told no JSON")?;
                    if is_it(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("fdwatch ended too early"),
            }
        }
        bail!("fdwatch has been silent for {} s", LIMIT.as_secs())
    }
}

impl Summary {
    fn read(told: &Value) -> Result<Self> {
        let number = |value: &Value| {
            let number = value.as_u64();
            number.with_context(|| format!("a number is missing in {told}"))
        };
        let drift = &told["drift"];
        let seconds = |field: &str| told["cpu"][field].as_f64().unwrap_or_default();
        let missing = number(&drift["missing"])?.checked_sub(canary::MISSING);
        Ok(Self {
            events: number(&told["events"])?,
            lost: number(&told["lost"]["total"])?,
            lost_kinds: told["lost"]["by_kind"].to_string(),
            audits: number(&drift["audits"])?,
            drift: Drift {
                missing: missing.context("what no event tells of was not missing")?,
                phantom: number(&drift["phantom"])?,
                wrong_file: number(&drift["wrong_file"])?,
                close_on_exec: number(&drift["close_on_exec"])?,
            },
            cpu: seconds("user") + seconds("system"),
        })
    }

    /// Whether everything that went on is known, and as it was.
    pub(super) fn is_exact(&self) -> bool {
        self.lost == 0 && self.drift == Drift::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(missing: u64, lost: u64) -> Value {
        serde_json::json!({
            "events": 7, "lost": {"total": lost}, "cpu": {"user": 0.25, "system": 0.5},
            "drift": {"audits": 2, "missing": missing, "phantom": 0, "wrong_file": 0,
                "close_on_exec": 0},
        })
    }

    #[test]
    fn what_is_left_for_audits_to_find_is_no_drift() {
        let summary = Summary::read(&told(1, 0)).unwrap();
        assert!(summary.is_exact());
        assert_eq!((summary.events, summary.audits), (7, 2));
        assert!((summary.cpu - 0.75).abs() < 1e-9);
        assert!(!Summary::read(&told(2, 0)).unwrap().is_exact());
        assert!(!Summary::read(&told(1, 1)).unwrap().is_exact());
        assert!(Summary::read(&told(0, 0)).is_err());
        assert!(Summary::read(&serde_json::json!({})).is_err());
    }
}
