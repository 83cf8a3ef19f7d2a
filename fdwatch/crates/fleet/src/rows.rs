//! What is written of a host: findings, an example of each signature, heartbeats, and which files of
//! network file systems it writes.
//!
//! Each row is a line of JSON (`JSONEachRow`), in the spool as on the way to the server. A row may be
//! written any number of times: it is one by its host, run, number and time.

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

/// Bytes of a name of a file that are kept beside its template.
const MAX_FILE_LEN: usize = 1024;

/// Bytes of an example; a longer one is left out, as half a JSON is none.
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
    /// All there are.
    pub const ALL: [Self; 4] = [
        Self::Findings,
        Self::Examples,
        Self::Heartbeats,
        Self::SharedFiles,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Findings => "findings",
            Self::Examples => "examples",
            Self::Heartbeats => "heartbeats",
            Self::SharedFiles => "shared_files",
        }
    }

    /// The table that is called so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// A finding that came, changed, went, or is still there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingRow {
    /// When: seconds since 1970.
    pub time: u32,
    /// Where.
    pub host: String,
    /// What the host is for: `name=value,name=value`.
    pub labels: String,
    /// Which run of the agent.
    pub run: u64,
    /// Which event of that run.
    pub number: u64,
    /// What the finding is about, on its host.
    pub key: u64,
    /// The process: its number and its start.
    pub process: u64,
    /// What is the same bug has the same.
    pub signature: String,
    /// The program of the signature.
    pub program: String,
    /// The cause.
    pub cause: String,
    /// The template of the file's path.
    pub path: String,
    /// 1 info, 2 warning, 3 critical.
    pub severity: u8,
    /// 1 found, 2 changed, 3 gone, 4 still there.
    pub change: u8,
    /// Descriptors that are held, or were each time that it came, if none is any more.
    pub fds: u32,
    /// The process's number.
    pub pid: u32,
    /// The process's name.
    pub comm: String,
    /// The file's path itself, shortened.
    pub file: String,
    /// The network file system it is on; empty if it is on none.
    pub network: String,
    /// The file's inode, if it is on a network file system.
    pub ino: u64,
    /// Descriptors that may write it.
    pub writers: u32,
}

/// A whole finding, for people to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleRow {
    /// When: seconds since 1970.
    pub time: u32,
    /// Where.
    pub host: String,
    /// Of which signature.
    pub signature: String,
    /// Functions that made the last descriptor, from the inside out, one a line; empty if not known.
    pub frames: String,
    /// As `watch --json` has it.
    pub finding: String,
}

/// That an agent is there, and how it fares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatRow {
    /// When: seconds since 1970.
    pub time: u32,
    /// Where.
    pub host: String,
    /// What the host is for.
    pub labels: String,
    /// Which run of the agent; nanoseconds since 1970 of its start.
    pub run: u64,
    /// fdwatch's version.
    pub version: String,
    /// The kernel's.
    pub kernel: String,
    /// What is left undone for the sake of the budget; `all` if nothing is.
    pub mode: String,
    /// Events so far.
    pub events: u64,
    /// Records lost so far.
    pub lost: u64,
    /// What audits had to repair so far.
    pub drift: u64,
    /// Processes that are not followed.
    pub not_followed: u32,
    /// Processor used of late: percent of one.
    pub cpu: f64,
    /// Memory: bytes.
    pub memory: u64,
    /// Findings there are.
    pub findings: u32,
    /// What waits to be written: bytes.
    pub spooled: u64,
    /// Rows that were dropped so far: there was no room for them, or the server did not take them.
    pub dropped: u64,
    /// Descriptors that may write files of network file systems, and are not told of: there are too
    /// many.
    pub files_left_out: u64,
}

/// A file of a network file system that is open for writing here: maybe elsewhere, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFileRow {
    /// When: seconds since 1970.
    pub time: u32,
    /// What is mounted.
    pub network: String,
    /// The inode.
    pub ino: u64,
    /// Where.
    pub host: String,
    /// The program that has it open, as in a signature.
    pub program: String,
    /// The file's path on this host, shortened; empty if it could not be read.
    pub file: String,
    /// Descriptors of the program that may write it.
    pub writers: u32,
}

/// What all rows of a run of an agent have in common.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The host's name.
    pub host: String,
    /// What it is for.
    pub labels: String,
    /// The run: nanoseconds since 1970.
    pub run: u64,
}

/// Labels in a text, in the order of their names.
pub fn labels(of: &[(String, String)]) -> String {
    let labels = of.iter().map(|(name, value)| format!("{name}={value}"));
    let mut labels: Vec<_> = labels.collect();
    labels.sort();
    labels.join(",")
}

impl Origin {
    /// That of a host.
    #[must_use]
    pub fn new(host: String, of: &[(String, String)], run: u64) -> Self {
        let labels = labels(of);
        Self { host, labels, run }
    }

    /// The row of a finding; `change` 4 says that it is there still.
    #[must_use]
    pub fn finding(
        &self,
        told: &EventKind<'_>,
        signature: &Signature,
        mounts: &Mounts,
    ) -> FindingRow {
        let finding = told.finding;
        let path = finding.file.path.as_deref().unwrap_or_default();
        let writers = finding.fds.iter().filter(|fd| fd.access != Access::Read);
        let writers = u32::try_from(writers.count()).unwrap_or(u32::MAX);
        let network = mounts.network_of(finding.file.dev);
        FindingRow {
            time: told.time,
            host: self.host.clone(),
            labels: self.labels.clone(),
            run: self.run,
            number: told.number,
            key: half(told.key),
            process: process(&finding.process),
            signature: signature.id.clone(),
            program: signature.program.to_string(),
            cause: signature.cause.clone(),
            path: signature.path.clone(),
            severity: finding.severity as u8 + 1,
            change: if told.is_still {
                4
            } else {
                change(finding.change)
            },
            fds: held(
                finding.fds.len(),
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

    /// An example, if it is not too long.
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

/// How many descriptors a finding is of, by those that are held, those that were closed since it was told
/// last, and how often it came since. What came and went before it was told holds none.
fn held(now: usize, closed: usize, more_closed: u32, times: u32) -> u32 {
    let number = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    let closed = number(closed).saturating_add(more_closed);
    number(now).max(closed / times.max(1))
}

/// A finding, as it was told.
pub struct EventKind<'a> {
    pub finding: &'a Finding,
    pub key: Key,
    pub number: u64,
    /// Seconds since 1970.
    pub time: u32,
    /// It was told before, and is there still.
    pub is_still: bool,
}

/// Adds a row to lines of them.
///
/// # Errors
///
/// None there could be but of memory.
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

/// Half of a key: of one host's there are few enough for that.
#[expect(clippy::cast_possible_truncation, reason = "half is what is wanted")]
pub const fn half(key: Key) -> u64 {
    key.0 as u64
}

/// A process, on its host: of no two starts the same.
fn process(process: &ProcessInfo) -> u64 {
    process_of(process.pid, &process.start_time.to_string())
}

/// The same, by whatever says when it was started.
pub fn process_of(pid: u32, start: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(pid.to_le_bytes());
    hash.update(start.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_le_bytes(first)
}

/// A path, as rows have it.
pub fn bounded(path: &[u8]) -> String {
    let path = &path[..path.len().min(MAX_FILE_LEN)];
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::held;

    #[test]
    fn what_came_and_went_has_the_descriptors_that_it_had() {
        assert_eq!(held(3, 0, 0, 1), 3, "it is there");
        assert_eq!(held(2, 1, 0, 0), 2, "one of three was closed");
        assert_eq!(held(0, 2, 0, 1), 2, "it came and went");
        assert_eq!(held(0, 8, 12, 10), 2, "it did so ten times");
    }
}
