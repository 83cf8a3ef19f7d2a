//! The text and labels of an alert about a finding, growth or a threshold. Names and paths are escaped and bounded,
//! so that they cannot break out of their fields.

use serde::{Deserialize, Serialize};

use super::fair::Source;
use fdwatch_core::{
    diagnose::{Finding, ProcessInfo, Severity},
    plural::{counted, either, noun},
};
use fdwatch_events::{
    GrowthReport,
    event::{Event, EventKind, Key, Measure, ThresholdReport},
};
use fdwatch_render::{Escaped, path, size};

/// Length limit of a path: characters.
const MAX_PATH: usize = 512;

/// Length limit of other names: characters.
const MAX_NAME: usize = 128;

/// The content of an alert. It stays the same for one key while that is firing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// What the alert is about.
    #[serde(with = "hexadecimal")]
    pub(super) key: Key,
    /// `finding`, `growth` or `threshold`; `held-back` for a summary of others.
    pub(super) kind: String,
    /// Its severity.
    #[serde(with = "severity_name")]
    pub(super) severity: Severity,
    /// The cause of a finding, or the measure of a threshold.
    pub(super) cause: String,
    /// The PID of the process.
    pub(super) pid: u32,
    /// When the process started: nanoseconds since boot; 0 if unknown.
    #[serde(default)]
    pub(super) start_time: u64,
    /// The user of the process, if known.
    #[serde(default)]
    pub(super) uid: Option<u32>,
    /// The name of the process.
    pub(super) comm: String,
    /// The systemd unit of the process.
    pub(super) unit: Option<String>,
    /// The path of the file.
    pub(super) path: Option<String>,
    /// A summary in one line.
    pub(super) summary: String,
    /// Advice on what to do.
    pub(super) advice: String,
    /// When it appeared: nanoseconds since 1970.
    pub(super) since: u64,
}

/// The key of the summary of alerts that are held back; no hash has this value.
pub(super) const HELD_BACK: Key = Key(0);

impl Notice {
    /// Creates the notice of an event, if the event has a key, a process and a severity.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let severity = event.kind.severity()?;
        let process = event.kind.process()?;
        let (cause, path, summary, advice) = match &event.kind {
            EventKind::Finding(finding) => of_finding(finding),
            EventKind::Growth(report) => of_growth(report),
            EventKind::Threshold(report) => of_threshold(report),
            EventKind::Loss(_) | EventKind::Budget(_) => return None,
        };
        Some(Self {
            key: event.key?,
            kind: event.kind.kind().to_owned(),
            severity,
            cause: cause.to_owned(),
            pid: process.pid,
            start_time: process.start_time,
            uid: process.uid,
            comm: bounded(&process.comm, MAX_NAME),
            unit: process
                .workload
                .unit
                .as_ref()
                .map(|unit| bounded(unit.as_bytes(), MAX_NAME)),
            path,
            summary: format!("{}: {summary}", process_name(process)),
            advice,
            since: event.wall_time,
        })
    }

    /// Creates the summary of `count` alerts that are held back, of which `worst` has the highest severity.
    pub(super) fn held_back(count: u64, worst: &Self, since: u64) -> Self {
        Self {
            key: HELD_BACK,
            kind: "held-back".to_owned(),
            severity: worst.severity,
            cause: "rate-limit".to_owned(),
            pid: 0,
            start_time: 0,
            uid: None,
            comm: String::new(),
            unit: None,
            path: None,
            summary: format!(
                "{count} more {} held back in this minute. Highest severity: {}: {}",
                either(&count, "alert was", "alerts were"),
                worst.severity.name(),
                worst.summary
            ),
            advice: "list all findings with fdwatch history, or active ones with fdwatch watch; \
                     most_per_minute in [alerts] is the limit"
                .to_owned(),
            since,
        }
    }

    /// Returns the user and the process.
    pub(super) const fn source(&self) -> Source {
        Source {
            user: self.uid,
            pid: self.pid,
        }
    }

    /// Returns the `alertname` label, by which Alertmanager groups.
    pub(super) fn alertname(&self) -> &'static str {
        match self.kind.as_str() {
            "growth" => "FdwatchGrowth",
            "threshold" => "FdwatchThreshold",
            "held-back" => "FdwatchAlertsHeldBack",
            _ => "FdwatchFinding",
        }
    }
}

fn of_finding(finding: &Finding) -> (&'static str, Option<String>, String, String) {
    let name = bounded_text(&path(&finding.file), MAX_PATH);
    let summary = match finding.open() {
        0 => format!("{name} ({})", finding.cause.name()),
        1 => format!("holds {name} ({})", finding.cause.name()),
        held => format!(
            "holds {name} on {held} descriptors ({})",
            finding.cause.name()
        ),
    };
    (
        finding.cause.name(),
        Some(name),
        summary,
        finding.advice.to_owned(),
    )
}

fn of_growth(report: &GrowthReport) -> (&'static str, Option<String>, String, String) {
    let mut summary = format!("has {}", counted(report.open, "descriptor"));
    if let Some(trend) = &report.trend {
        summary.push_str(&format!(", growing by {} per hour", trend.per_hour));
        if let Some(limit) = trend.limit {
            summary.push_str(&format!(", limit {limit}"));
        }
    }
    ("growth", None, summary, advice_of(&report.process))
}

fn of_threshold(report: &ThresholdReport) -> (&'static str, Option<String>, String, String) {
    let (value, threshold) = (report.value, report.threshold);
    let descriptors = noun(&value.round(), "descriptor");
    let summary = match report.of {
        Measure::DuplicatesPerFile => {
            format!("has {value:.0} {descriptors} on one file, above the threshold of {threshold}")
        }
        Measure::Descriptors => {
            format!("has {value:.0} {descriptors}, above the threshold of {threshold}")
        }
        Measure::LimitShare => format!(
            "uses {value:.0} % of its descriptor limit, above the threshold of {threshold} %"
        ),
        Measure::GrowthPerHour => {
            format!(
                "grows by {value:.0} {descriptors} per hour, above the threshold of {threshold}"
            )
        }
        Measure::PinnedBytes => {
            // A count of bytes: whole and never negative.
            let of = |bytes: f64| size(bytes.max(0.0) as u64);
            format!(
                "holds {} of deleted files, above the threshold of {}",
                of(value),
                of(threshold)
            )
        }
    };
    (report.of.name(), None, summary, advice_of(&report.process))
}

fn advice_of(process: &ProcessInfo) -> String {
    format!("list its descriptors with fdwatch fds {}", process.pid)
}

fn process_name(process: &ProcessInfo) -> String {
    format!("{} (pid {})", bounded(&process.comm, MAX_NAME), process.pid)
}

/// Escapes untrusted bytes, and shortens the result to `max` characters: keeps the beginning and the end.
pub(super) fn bounded(bytes: &[u8], max: usize) -> String {
    bounded_text(&Escaped(bytes).to_string(), max)
}

fn bounded_text(text: &str, max: usize) -> String {
    let count = text.chars().count();
    if count <= max {
        return text.to_owned();
    }
    let half = max.saturating_sub(3) / 2;
    let head = text.chars().take(half);
    let tail = text.chars().skip(count - half);
    head.chain("...".chars()).chain(tail).collect()
}

mod hexadecimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    use fdwatch_events::event::Key;

    pub(super) fn serialize<S: Serializer>(key: &Key, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(key)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        let text = String::deserialize(from)?;
        let key = u128::from_str_radix(&text, 16);
        key.map(Key).map_err(D::Error::custom)
    }
}

mod severity_name {
    use clap::ValueEnum as _;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    use fdwatch_core::diagnose::Severity;

    pub(super) fn serialize<S: Serializer>(it: &Severity, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(it.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Severity, D::Error> {
        let text = String::deserialize(from)?;
        Severity::from_str(&text, false).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_names_are_escaped_and_bounded() {
        assert_eq!(bounded(b"a\n\x1b[2J\xff", 99), "a\\n\\x1b[2J\\xff");
        let long = bounded(&[b'x'; 5000], 21);
        assert_eq!(long, "xxxxxxxxx...xxxxxxxxx");
        assert_eq!(bounded("ä".repeat(50).as_bytes(), 9), "äää...äää");
    }
}
