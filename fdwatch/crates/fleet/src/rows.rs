//! Rows that a host writes: findings, an example of each signature, heartbeats, and the files of network
//! file systems that it has open for writing.
//!
//! Each row is a line of JSON (`JSONEachRow`), both in the spool and in requests. A row may be written
//! several times: host, run, number and time identify it.

use std::io::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{network::Mounts, signature::Signature};
use fdwatch_core::{
    diagnose::{Finding, ProcessInfo},
    duplicates::Change,
    model::Access,
};
use fdwatch_events::event::Key;

/// Maximum length of a stored path, in bytes.
const MAX_FILE_LEN: usize = 1024;

/// Maximum length of an example, in bytes. Longer ones are skipped, because truncated JSON cannot be parsed.
const MAX_EXAMPLE_LEN: usize = 1 << 20;

/// The tables that rows are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// [`FindingRow`]
    Findings,
    /// [`ExampleRow`]
    Examples,
    /// [`HeartbeatRow`]
    Heartbeats,
    /// [`SharedFileRow`]
    SharedFiles,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 4] = [
        Self::Findings,
        Self::Examples,
        Self::Heartbeats,
        Self::SharedFiles,
    ];

    /// Returns the name in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Findings => "findings",
            Self::Examples => "examples",
            Self::Heartbeats => "heartbeats",
            Self::SharedFiles => "shared_files",
        }
    }

    /// Returns the table with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// A finding that appeared, changed or disappeared, or that persists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingRow {
    /// Time: seconds since 1970.
    pub time: u32,
    /// Host.
    pub host: String,
    /// Labels of the host: `name=value,name=value`.
    pub labels: String,
    /// Run of the agent: nanoseconds since 1970 of its start.
    pub run: u64,
    /// Number of the event in that run.
    pub number: u64,
    /// Identity of the finding on its host.
    pub key: u64,
    /// Hash of the process's PID and start time.
    pub process: u64,
    /// Signature: the same for the same bug.
    pub signature: String,
    /// Program of the signature.
    pub program: String,
    /// Cause.
    pub cause: String,
    /// Template of the file's path.
    pub path: String,
    /// 1 info, 2 warning, 3 critical.
    pub severity: u8,
    /// 1 found, 2 changed, 3 gone, 4 unchanged.
    pub change: u8,
    /// Open descriptors; if none is open, the number of each occurrence.
    pub fds: u32,
    /// PID.
    pub pid: u32,
    /// Process name.
    pub comm: String,
    /// Path of the file, truncated.
    pub file: String,
    /// Source of the network file system; empty if the file is local.
    pub network: String,
    /// Inode of the file if it is on a network file system, else 0.
    pub ino: u64,
    /// Descriptors that are open for writing.
    pub writers: u32,
}

/// A complete finding, as an example of its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleRow {
    /// Time: seconds since 1970.
    pub time: u32,
    /// Host.
    pub host: String,
    /// Signature.
    pub signature: String,
    /// Functions that opened the last descriptor, innermost first, one per line; empty if unresolved.
    pub frames: String,
    /// The finding as `watch --json` writes it.
    pub finding: String,
}

/// The state of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatRow {
    /// Time: seconds since 1970.
    pub time: u32,
    /// Host.
    pub host: String,
    /// Labels of the host.
    pub labels: String,
    /// Run of the agent: nanoseconds since 1970 of its start.
    pub run: u64,
    /// Version of fdwatch.
    pub version: String,
    /// Version of the kernel.
    pub kernel: String,
    /// Work that is skipped to stay within the CPU budget; `all` if none is.
    pub mode: String,
    /// Events since the start.
    pub events: u64,
    /// Records lost since the start.
    pub lost: u64,
    /// Descriptors that audits corrected since the start.
    pub drift: u64,
    /// Processes that are not tracked.
    pub not_followed: u32,
    /// Recent CPU use, in percent of one processor.
    pub cpu: f64,
    /// Memory, in bytes.
    pub memory: u64,
    /// Current findings.
    pub findings: u32,
    /// Size of the spool, in bytes.
    pub spooled: u64,
    /// Rows dropped since the start: the spool was full, or the server rejected them.
    pub dropped: u64,
    /// Writable descriptors on network file systems that are not reported because there are too many.
    pub files_left_out: u64,
}

/// A file of a network file system that a host has open for writing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFileRow {
    /// Time: seconds since 1970.
    pub time: u32,
    /// Source of the mount, such as `nas:/export`.
    pub network: String,
    /// Inode.
    pub ino: u64,
    /// Host.
    pub host: String,
    /// Program that has it open, as in a signature.
    pub program: String,
    /// Path of the file on this host, truncated; empty if it could not be read.
    pub file: String,
    /// Descriptors of the program that are open for writing.
    pub writers: u32,
}

/// Columns that all rows of an agent's run share.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Name of the host.
    pub host: String,
    /// Labels of the host.
    pub labels: String,
    /// Run: nanoseconds since 1970 of its start.
    pub run: u64,
}

/// Joins labels to `name=value,name=value`, sorted by name.
pub fn labels(pairs: &[(String, String)]) -> String {
    let labels = pairs.iter().map(|(name, value)| format!("{name}={value}"));
    let mut labels: Vec<_> = labels.collect();
    labels.sort();
    labels.join(",")
}

impl Origin {
    /// Returns the origin of a run on a host.
    #[must_use]
    pub fn new(host: String, pairs: &[(String, String)], run: u64) -> Self {
        let labels = labels(pairs);
        Self { host, labels, run }
    }

    /// Returns the row of a finding.
    #[must_use]
    pub fn finding(
        &self,
        reported: &ReportedFinding<'_>,
        signature: &Signature,
        mounts: &Mounts,
    ) -> FindingRow {
        let finding = reported.finding;
        let path = finding.file.path.as_deref().unwrap_or_default();
        let writers = finding.fds.iter().filter(|fd| fd.access != Access::Read);
        let writers = u32::try_from(writers.count()).unwrap_or(u32::MAX);
        let network = mounts.network_of(finding.file.dev);
        FindingRow {
            time: reported.time,
            host: self.host.clone(),
            labels: self.labels.clone(),
            run: self.run,
            number: reported.number,
            key: half(reported.key),
            process: process(&finding.process),
            signature: signature.id.clone(),
            program: signature.program.to_string(),
            cause: signature.cause.clone(),
            path: signature.path.clone(),
            severity: finding.severity as u8 + 1,
            change: if reported.is_still {
                4
            } else {
                change(finding.change)
            },
            fds: descriptors(
                finding.open(),
                finding.closed.len(),
                finding.more_closed,
                finding.times,
            ),
            pid: finding.process.pid,
            comm: String::from_utf8_lossy(&finding.process.comm).into_owned(),
            file: bounded(path),
            ino: network.map_or(0, |_| finding.file.ino),
            network: network.unwrap_or_default().to_owned(),
            writers,
        }
    }

    /// Returns the example of a signature, unless it is too long.
    #[must_use]
    pub fn example(&self, time: u32, signature: &Signature, json: &str) -> Option<ExampleRow> {
        (json.len() <= MAX_EXAMPLE_LEN).then(|| ExampleRow {
            time,
            host: self.host.clone(),
            signature: signature.id.clone(),
            frames: signature.frames.join("\n"),
            finding: json.to_owned(),
        })
    }
}

/// Returns the number of descriptors of a finding. `now` are open; `closed` and `more_closed` were closed
/// since the last report, in `times` occurrences. A finding that is gone when it is reported has none open.
fn descriptors(now: usize, closed: usize, more_closed: u32, times: u32) -> u32 {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let closed = number(closed).saturating_add(more_closed);
    number(now).max(closed / times.max(1))
}

/// A finding that an agent reports.
pub struct ReportedFinding<'a> {
    /// The finding.
    pub finding: &'a Finding,
    /// Its identity on the host.
    pub key: Key,
    /// Number of the event in the agent's run.
    pub number: u64,
    /// Time: seconds since 1970.
    pub time: u32,
    /// Whether it was reported before and persists.
    pub is_still: bool,
}

/// Appends a row as a line of JSON.
///
/// # Errors
///
/// If the row cannot be serialized.
pub fn add_line(lines: &mut Vec<u8>, row: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, row)?;
    lines.write_all(b"\n")
}

const fn change(change: Change) -> u8 {
    match change {
        Change::Found => 1,
        Change::Changed => 2,
        Change::Gone => 3,
    }
}

/// Returns the lower half of a key: 64 bits suffice for the findings of one host.
#[expect(clippy::cast_possible_truncation, reason = "keeps the lower half")]
pub const fn half(key: Key) -> u64 {
    key.0 as u64
}

/// Returns the hash that identifies a process on its host.
fn process(process: &ProcessInfo) -> u64 {
    process_of(process.pid, &process.start_time.to_string())
}

/// Returns the hash that identifies a process on its host, from its PID and the text of its start time.
pub fn process_of(pid: u32, start: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(pid.to_le_bytes());
    hash.update(start.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_le_bytes(first)
}

/// Converts a path to text of at most `MAX_FILE_LEN` bytes.
pub fn bounded(path: &[u8]) -> String {
    let path = &path[..path.len().min(MAX_FILE_LEN)];
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::descriptors;

    #[test]
    fn gone_finding_counts_closed_descriptors() {
        assert_eq!(descriptors(3, 0, 0, 1), 3, "open");
        assert_eq!(descriptors(2, 1, 0, 0), 2, "one of three was closed");
        assert_eq!(descriptors(0, 2, 0, 1), 2, "opened and closed");
        assert_eq!(descriptors(0, 8, 12, 10), 2, "ten occurrences");
    }
}
