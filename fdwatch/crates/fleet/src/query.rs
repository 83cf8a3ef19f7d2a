//! A query and the rows of its results. Both are the same for servers and agents.

use serde::{Deserialize, Deserializer, Serialize};

/// Length of an hourly rollup, in seconds.
pub const HOUR: u32 = 3600;

/// Length of a daily rollup, in seconds.
pub const DAY: u32 = 86_400;

/// Minimum length of a window that is read from daily rollups, in hours.
const MIN_DAILY_HOURS: u32 = 5 * 24;

/// Parts of a trend.
pub const TREND: u32 = 12;

/// Maximum number of rows of a result. One more is read to detect that there are more.
pub const MAX_ROWS: usize = 10_000;

/// Key that duplicates are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum GroupBy {
    /// Signature: the same bug.
    #[default]
    Signature,
    /// Program.
    Service,
    /// Host.
    Host,
    /// Template of the path.
    Path,
}

/// Selects duplicates. Sent to a server as the only row of the table `asked`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Query {
    /// Start of the window: seconds since 1970, a multiple of an hour.
    pub begin: u32,
    /// Start of the trend: seconds since 1970.
    pub since: u32,
    /// Length of each part of the trend, in seconds: a multiple of an hour.
    pub width: u32,
    /// Only groups that were first seen then or later: seconds since 1970.
    pub first: u32,
    /// Least severity: 1 to 3.
    pub severity: u8,
    /// Only this signature, or those that start with it; all if empty.
    pub signature: String,
}

impl Query {
    /// Selects duplicates that existed between `since` and `now`. The window is extended to a full hour, or to a
    /// full day if it is at least five days long.
    #[must_use]
    pub fn since(since: u32, now: u32, severity: u8) -> Self {
        let hours = now.saturating_sub(since) / HOUR + 1;
        let unit = if hours >= MIN_DAILY_HOURS { DAY } else { HOUR };
        let begin = since - since % unit;
        let units = now.saturating_sub(begin) / unit + 1;
        Self {
            begin,
            since: begin,
            width: units.div_ceil(TREND) * unit,
            first: 0,
            severity,
            signature: String::new(),
        }
    }

    /// Selects duplicates that appeared at or after `since` and did not exist in the `before` seconds before it.
    #[must_use]
    pub fn new_since(since: u32, before: u32, now: u32, severity: u8) -> Self {
        let from = since.saturating_sub(before);
        Self {
            begin: from - from % HOUR,
            first: since,
            ..Self::since(since, now, severity)
        }
    }

    /// Returns whether it reads daily rollups instead of hourly ones.
    pub(super) const fn is_daily(&self) -> bool {
        self.width.is_multiple_of(DAY) && self.begin.is_multiple_of(DAY)
    }

    /// Restricts the query to a signature, or to signatures with this prefix.
    #[must_use]
    pub fn of(mut self, signature: &str) -> Self {
        signature.clone_into(&mut self.signature);
        self
    }

    /// Columns of the table `asked`.
    pub(super) const STRUCTURE: &str = "begin UInt32, since UInt32, width UInt32, first UInt32, \
                                        severity UInt8, signature String";
}

/// A group of duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicates {
    /// Signature; empty unless grouped by it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// Program; empty unless grouped by it or by signature.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// Cause; empty unless grouped by signature.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// Template of the path; empty unless grouped by it or by signature.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Host; empty unless grouped by it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Number of hosts.
    #[serde(deserialize_with = "number")]
    pub hosts: u64,
    /// Number of signatures.
    #[serde(deserialize_with = "number")]
    pub signatures: u64,
    /// Number of processes.
    #[serde(deserialize_with = "number")]
    pub processes: u64,
    /// Number of findings.
    #[serde(deserialize_with = "number")]
    pub findings: u64,
    /// Number of descriptors: the sum of each finding's maximum.
    #[serde(deserialize_with = "number")]
    pub descriptors: u64,
    /// Highest severity: 1 to 3.
    pub severity: u8,
    /// First seen in the window: seconds since 1970.
    pub first: u32,
    /// Last seen: seconds since 1970.
    pub last: u32,
    /// Findings in each part of the trend.
    #[serde(default, deserialize_with = "numbers")]
    pub trend: Vec<u64>,
}

impl Duplicates {
    /// The group's name, for ordering.
    fn name(&self) -> (&str, &str, &str, &str) {
        (&self.signature, &self.program, &self.path, &self.host)
    }
}

/// Sorts groups by hosts, then findings, both descending, then by name.
pub(super) fn sort(groups: &mut [Duplicates]) {
    groups.sort_by(|a, b| {
        let size = |it: &Duplicates| (it.hosts, it.findings);
        size(b).cmp(&size(a)).then_with(|| a.name().cmp(&b.name()))
    });
}

/// A host that has a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffectedHost {
    /// Name.
    pub host: String,
    /// Number of processes.
    #[serde(deserialize_with = "number")]
    pub processes: u64,
    /// Number of findings.
    #[serde(deserialize_with = "number")]
    pub findings: u64,
    /// First seen: seconds since 1970.
    pub first: u32,
    /// Last seen: seconds since 1970.
    pub last: u32,
    /// Path of the file of the latest finding.
    pub file: String,
}

/// A finding as an example of its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Host.
    pub host: String,
    /// Time: seconds since 1970.
    pub time: u32,
    /// Functions that opened the last descriptor, one per line.
    pub frames: String,
    /// The finding as `watch --json` writes it.
    pub finding: String,
}

/// The latest heartbeat of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Name.
    pub host: String,
    /// Labels: `name=value,name=value`.
    pub labels: String,
    /// Time of the heartbeat: seconds since 1970.
    pub last: u32,
    /// Version of fdwatch.
    pub version: String,
    /// Version of the kernel.
    pub kernel: String,
    /// Work that is skipped to stay within the CPU budget.
    pub mode: String,
    /// Records lost.
    #[serde(deserialize_with = "number")]
    pub lost: u64,
    /// Descriptors that audits corrected.
    #[serde(deserialize_with = "number")]
    pub drift: u64,
    /// Recent CPU use, in percent of one processor.
    pub cpu: f64,
    /// Memory, in bytes.
    #[serde(deserialize_with = "number")]
    pub memory: u64,
    /// Current findings.
    pub findings: u32,
    /// Size of the spool, in bytes.
    #[serde(deserialize_with = "number")]
    pub spooled: u64,
    /// Rows that were dropped.
    #[serde(deserialize_with = "number")]
    pub dropped: u64,
    /// Writable descriptors on network file systems that are not reported because there are too many.
    #[serde(deserialize_with = "number")]
    pub files_left_out: u64,
    /// Error of an agent that was queried directly; empty if the query succeeded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl Host {
    /// Returns the state of the host: `unreachable`, `silent`, `loses` or `reports`.
    #[must_use]
    pub fn state(&self, now: u32, silent_after: u32) -> &'static str {
        if !self.error.is_empty() {
            "unreachable"
        } else if self.last + silent_after < now {
            "silent"
        } else if self.lost > 0 || self.dropped > 0 {
            "loses"
        } else {
            "reports"
        }
    }
}

/// A file of a network file system that several hosts write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFile {
    /// Source of the mount, such as `nas:/export`.
    pub network: String,
    /// Inode.
    #[serde(deserialize_with = "number")]
    pub ino: u64,
    /// Path on one of the hosts.
    pub file: String,
    /// Number of hosts.
    #[serde(deserialize_with = "number")]
    pub hosts: u64,
    /// Some of the hosts, sorted.
    pub names: Vec<String>,
    /// Some of the programs, sorted.
    pub programs: Vec<String>,
    /// Last seen: seconds since 1970.
    pub last: u32,
}

/// Reads an integer of 64 bits: servers quote it or not, depending on version and settings.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// Reads an array of such integers.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "number")] u64);
    let all = Vec::<One>::deserialize(deserializer)?;
    Ok(all.into_iter().map(|One(number)| number).collect())
}
