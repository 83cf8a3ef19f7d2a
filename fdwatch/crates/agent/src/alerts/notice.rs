//! What is told of a finding, growth or threshold: words and labels, escaped and bounded, so that
//! nothing a stranger chose breaks out of its field.

use serde::{Deserialize, Serialize};

use fdwatch_core::{
    diagnose::{Finding, ProcessInfo, Severity},
    plural::{counted, either, noun},
};
use fdwatch_events::{
    GrowthReport,
    event::{Event, EventKind, Key, Measure, ThresholdReport},
};
use fdwatch_render::{Escaped, path, size};

/// Characters of a path, and of a summary's path.
const MAX_PATH: usize = 512;

/// Characters of other names.
const MAX_NAME: usize = 128;

/// What is told. Of one key, it stays as it was told first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// What it is about.
    #[serde(with = "hexadecimal")]
    pub(super) key: Key,
    /// `finding`, `growth`, `threshold`; `held-back` of what stands for others.
    pub(super) kind: String,
    /// How much it matters.
    #[serde(with = "severity_name")]
    pub(super) severity: Severity,
    /// Why it is, or of what the threshold is.
    pub(super) cause: String,
    /// The process.
    pub(super) pid: u32,
    /// Its name.
    pub(super) comm: String,
    /// Its unit, if it has one.
    pub(super) unit: Option<String>,
    /// The file, if it is about one.
    pub(super) path: Option<String>,
    /// In one line.
    pub(super) summary: String,
    /// What to do about it.
    pub(super) advice: String,
    /// When it came: nanoseconds since 1970.
    pub(super) since: u64,
}

/// Stands for those that are held back: no hash of anything comes out like this.
pub(super) const HELD_BACK: Key = Key(0);

impl Notice {
    /// What is told of an event, if that is about something that comes and goes and matters.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let severity = event.told.severity()?;
        let process = event.told.process()?;
        let (cause, path, summary, advice) = match &event.told {
            EventKind::Finding(finding) => of_finding(finding),
            EventKind::Growth(report) => of_growth(report),
            EventKind::Threshold(report) => of_threshold(report),
            EventKind::Loss(_) | EventKind::Budget(_) => return None,
        };
        Some(Self {
            key: event.key?,
            kind: event.told.kind().to_owned(),
            severity,
            cause: cause.to_owned(),
            pid: process.pid,
            comm: bounded(&process.comm, MAX_NAME),
            unit: process
                .workload
                .unit
                .as_ref()
                .map(|unit| bounded(unit.as_bytes(), MAX_NAME)),
            path,
            summary: format!("{}: {summary}", who(process)),
            advice,
            since: event.wall_time,
        })
    }

    /// What stands for so many that are held back, the worst of which is `worst`.
    pub(super) fn held_back(count: u64, worst: &Self, since: u64) -> Self {
        Self {
            key: HELD_BACK,
            kind: "held-back".to_owned(),
            severity: worst.severity,
            cause: "rate-limit".to_owned(),
            pid: 0,
            comm: String::new(),
            unit: None,
            path: None,
            summary: format!(
                "{count} more {} held back in this minute; the worst: {}: {}",
                either(&count, "alert is", "alerts are"),
                worst.severity.name(),
                worst.summary
            ),
            advice:
                "see all of them with fdwatch history, or what is there now with fdwatch watch; \
                     alerts.most-per-minute is how many are sent"
                    .to_owned(),
            since,
        }
    }

    /// The name that Alertmanager groups by.
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
    let summary = match finding.fds.len() {
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
        summary.push_str(&format!(", {} more each hour", trend.per_hour));
        if let Some(limit) = trend.limit {
            summary.push_str(&format!(", and may have {limit}"));
        }
    }
    ("growth", None, summary, advice_of(&report.process))
}

fn of_threshold(report: &ThresholdReport) -> (&'static str, Option<String>, String, String) {
    let (value, threshold) = (report.value, report.threshold);
    let descriptors = noun(&value.round(), "descriptor");
    let summary = match report.of {
        Measure::DuplicatesPerFile => {
            format!("has {value:.0} {descriptors} on one file, beyond the threshold of {threshold}")
        }
        Measure::Descriptors => {
            format!("has {value:.0} {descriptors}, beyond the threshold of {threshold}")
        }
        Measure::LimitShare => format!(
            "uses {value:.0} % of the descriptors it may have, beyond the threshold of {threshold} %"
        ),
        Measure::GrowthPerHour => {
            format!(
                "has {value:.0} {descriptors} more each hour, beyond the threshold of {threshold}"
            )
        }
        Measure::PinnedBytes => {
            // Bytes are whole, and never negative.
            let of = |bytes: f64| size(bytes.max(0.0) as u64);
            format!(
                "holds {} of deleted files, beyond the threshold of {}",
                of(value),
                of(threshold)
            )
        }
    };
    (report.of.name(), None, summary, advice_of(&report.process))
}

fn advice_of(process: &ProcessInfo) -> String {
    format!(
        "see what it holds, and since when: fdwatch fds {}",
        process.pid
    )
}

fn who(process: &ProcessInfo) -> String {
    format!("{} (pid {})", bounded(&process.comm, MAX_NAME), process.pid)
}

/// Bytes of a stranger's choice as so many characters at most: of more, the beginning and the end.
pub(super) fn bounded(bytes: &[u8], most: usize) -> String {
    bounded_text(&Escaped(bytes).to_string(), most)
}

fn bounded_text(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let half = most.saturating_sub(3) / 2;
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
    fn names_of_strangers_are_escaped_and_bounded() {
        assert_eq!(bounded(b"a\n\x1b[2J\xff", 99), "a\\n\\x1b[2J\\xff");
        let long = bounded(&[b'x'; 5000], 21);
        assert_eq!(long, "xxxxxxxxx...xxxxxxxxx");
        assert_eq!(bounded("ä".repeat(50).as_bytes(), 9), "äää...äää");
    }
}
