//! Rows of the screen. They are created from JSON objects, so both sources share the code.
//! Names and paths are escaped here, once.

use std::collections::{BTreeMap, BTreeSet};

use fdwatch_core::{
    diagnose,
    plural::{counted, thousands},
};
use fdwatch_events::{
    ProcessRow,
    wire::{
        self, Change, Event, Fd, File, Health, Hexadecimal, Line, Process, Severity, Table, Time,
    },
};
use fdwatch_render::{Escaped, text::rounded};

/// Maximum length of a name or path, in characters.
const MAX_LEN: usize = 1024;

/// Minimum number of points of a curve for computing a growth.
const MIN_CURVE: usize = 6;

/// Interval between the points of a curve, in seconds.
const CURVE_EVERY: i64 = 5;

/// Status of the source, shown in the header.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    /// Name of the source.
    pub source: String,
    /// Name of the host.
    pub host: String,
    /// Local time of day.
    pub time: String,
    /// Time in nanoseconds of a monotonic clock.
    pub at: u64,
    /// Number of processes.
    pub processes: u64,
    /// Number of descriptors.
    pub descriptors: u64,
    /// Events since the start.
    pub events: u64,
    /// Records lost since the start.
    pub lost: u64,
    /// Descriptors that audits corrected since the start.
    pub drift: u64,
    /// CPU time of fdwatch, in seconds.
    pub cpu_seconds: f64,
    /// Memory of fdwatch, in bytes.
    pub memory: u64,
    /// CPU budget, in percent of one processor.
    pub max_cpu: f64,
    /// Work that is skipped to stay within the budget.
    pub sheds: String,
}

impl Status {
    /// Returns the status of an agent, received at `at` and `time` by the clocks of the caller.
    #[must_use]
    pub(crate) fn of_health(health: &Line<Health>, source: String, at: u64, time: String) -> Self {
        let Line { host, body, .. } = health;
        Self {
            source,
            host: clean(host.as_bytes()),
            time,
            at,
            processes: body.processes as u64,
            descriptors: body.descriptors as u64,
            events: body.events,
            lost: body.lost,
            drift: body.drift,
            cpu_seconds: body.cpu_seconds,
            memory: body.rss_bytes,
            max_cpu: body.budget.max_cpu,
            sheds: clean(body.budget.sheds.as_bytes()),
        }
    }
}

/// A process in the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    /// PID.
    pub pid: u32,
    /// Start time, which distinguishes processes that have the same PID.
    pub start_time: u64,
    /// Name of the process.
    pub comm: String,
    /// Name or number of the user.
    pub user: String,
    /// Unit; empty if there is none.
    pub unit: String,
    /// Number of descriptors.
    pub descriptors: u64,
    /// Limit of descriptors, if known.
    pub limit: Option<u64>,
    /// Descriptors on a file that an earlier descriptor of the process refers to.
    pub duplicates: u64,
    /// Number of descriptors every five seconds, the latest last.
    pub curve: Vec<u32>,
}

impl Row {
    /// Returns the row of a process and the name of its user.
    #[must_use]
    pub(crate) fn of(row: &ProcessRow, user: &str) -> Self {
        let unit = row.unit.as_deref().unwrap_or_default();
        Self {
            pid: row.pid,
            start_time: row.start_time,
            comm: clean(&row.comm),
            user: clean(user.as_bytes()),
            unit: clean(unit.as_bytes()),
            descriptors: row.descriptors as u64,
            limit: row.limit,
            duplicates: row.duplicate_descriptors as u64,
            curve: row.curve.clone(),
        }
    }

    /// Returns the use of the limit, in percent.
    #[must_use]
    pub(crate) fn percent(&self) -> Option<u64> {
        let limit = self.limit.filter(|&limit| limit > 0)?;
        Some(self.descriptors.saturating_mul(100) / limit)
    }

    /// Returns the growth per hour: the minimum of the curve's second half minus that of its first half,
    /// so that descriptors which are opened and closed do not count. `None` if the curve is
    /// too short.
    #[must_use]
    pub(crate) fn per_hour(&self) -> Option<i64> {
        let counts = self.curve.len();
        if counts < MIN_CURVE {
            return None;
        }
        let (before, after) = self.curve.split_at(counts / 2);
        let minimum = |half: &[u32]| half.iter().copied().min().map(i64::from);
        let growth = minimum(after)? - minimum(before)?;
        let seconds = i64::try_from(counts - counts / 2).ok()? * CURVE_EVERY;
        Some(growth * 3600 / seconds)
    }
}

/// Returns a process of an agent's response.
#[must_use]
pub(crate) fn row_of(row: wire::ProcessRow) -> ProcessRow {
    let start = row.start_time.and_then(|time| time.nanoseconds());
    ProcessRow {
        pid: row.pid,
        start_time: start.unwrap_or(0),
        ppid: row.ppid,
        comm: row.comm.into_bytes(),
        uid: row.uid,
        unit: row.unit,
        descriptors: row.descriptors,
        limit: row.limit,
        duplicate_files: row.duplicate_files,
        duplicate_descriptors: row.duplicate_descriptors,
        curve: row.curve,
    }
}

/// What happened to a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FindingChange {
    /// New finding.
    Found,
    /// Change of a reported finding.
    Changed,
    /// End of the finding.
    Gone,
    /// An event without a duration.
    Once,
}

/// A line of the list of findings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FindingEvent {
    /// Identity of the finding; empty for events without a duration.
    pub key: String,
    /// Local time of day.
    pub time: String,
    /// What happened.
    pub change: FindingChange,
    /// Severity.
    pub severity: Option<diagnose::Severity>,
    /// PID of the process.
    pub pid: Option<u32>,
    /// Name of the process.
    pub comm: String,
    /// Path of the file, or a description.
    pub what: String,
    /// Cause, or a hint.
    pub why: String,
}

impl FindingEvent {
    /// Returns the row of an event, or `None` for a type that this version does not have. `time` is
    /// the local time of day of the event.
    #[must_use]
    pub(crate) fn of(event: &Event, time: String) -> Option<Self> {
        let about = |change: &Change, severity: Option<&Severity>, process: &Process| Self {
            key: String::new(),
            time: String::new(),
            change: match &**change {
                "found" => FindingChange::Found,
                "changed" => FindingChange::Changed,
                "gone" => FindingChange::Gone,
                _ => FindingChange::Once,
            },
            severity: severity.and_then(Severity::known),
            pid: Some(process.pid),
            comm: clean(process.comm.as_bytes()),
            what: String::new(),
            why: String::new(),
        };
        let once = |what: String, why: String| Self {
            key: String::new(),
            time: String::new(),
            change: FindingChange::Once,
            severity: None,
            pid: None,
            comm: String::new(),
            what,
            why,
        };
        let finding = match event {
            Event::Finding(line) => {
                let finding = &line.body;
                let cause = clean(finding.cause.as_bytes());
                Self {
                    key: format!("finding {}", finding.id),
                    what: path_of(&finding.file),
                    why: match finding.open() {
                        0 | 1 => cause,
                        fds => format!("{cause}, {fds} descriptors"),
                    },
                    ..about(&finding.change, Some(&finding.severity), &finding.process)
                }
            }
            Event::Growth(line) => {
                let growth = &line.body;
                let open = counted(growth.open, "descriptor");
                let left = growth.seconds_left.filter(|left| *left < 1e9);
                Self {
                    key: format!("growth {}", growth.process.pid),
                    what: match growth.per_hour {
                        Some(more) => format!("{open}, +{}/h", thousands(more)),
                        None => format!("{open}, no longer growing"),
                    },
                    why: left.map_or_else(String::new, |left| {
                        format!("limit reached in {}", rounded(nanos(left)))
                    }),
                    ..about(&growth.change, growth.severity.as_ref(), &growth.process)
                }
            }
            Event::Threshold(line) => {
                let threshold = &line.body;
                let of = clean(threshold.of.as_bytes());
                let (value, limit, pid) =
                    (threshold.value, threshold.threshold, threshold.process.pid);
                Self {
                    key: format!("threshold {of} {limit} {pid}"),
                    what: format!("{of} {value}"),
                    why: format!("threshold {limit}"),
                    ..about(
                        &threshold.change,
                        Some(&threshold.severity),
                        &threshold.process,
                    )
                }
            }
            Event::Loss(line) => {
                let records = counted(line.body.lost.total, "record");
                once(
                    format!("{records} lost since the start"),
                    "increase --ring-size".to_owned(),
                )
            }
            Event::Budget(line) => once(
                format!("used {:.1} % of a CPU", line.body.cpu),
                format!("skips {}", clean(line.body.sheds.as_bytes())),
            ),
            Event::Dropped(object) => {
                let events = counted(object.body.missed, "event");
                once(format!("{events} missed here"), String::new())
            }
            Event::Unknown(_) => return None,
        };
        Some(Self { time, ..finding })
    }
}

/// Position of a descriptor among several on the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DuplicateMark {
    /// Whether it is the last.
    pub is_last: bool,
    /// Whether it is the first.
    pub is_first: bool,
    /// Whether it shares the open file description with an earlier one.
    pub is_shared: bool,
    /// Whether the file is regular.
    pub matters: bool,
}

/// A descriptor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Descriptor {
    /// Number of the descriptor.
    pub fd: u64,
    /// Access: `r`, `w` or `rw`, followed by `a` for append and `x` for close-on-exec.
    pub mode: String,
    /// Type of the file.
    pub kind: String,
    /// System call or other origin.
    pub origin: String,
    /// Age in seconds; `None` if it was opened before fdwatch started.
    pub age: Option<u64>,
    /// Path of the file, and its role.
    pub path: String,
    /// Set if other descriptors refer to the same file.
    pub duplicate: Option<DuplicateMark>,
}

/// Descriptors of a process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Descriptors {
    /// PID.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
    /// Command line.
    pub command: String,
    /// Unit.
    pub unit: String,
    /// Descriptors: duplicates first, by file, then by number.
    pub rows: Vec<Descriptor>,
}

impl Descriptors {
    /// Returns the table of a process.
    #[must_use]
    pub(crate) fn of(table: &Line<Table>) -> Self {
        let now = table.time.nanoseconds();
        let Table { process, fds } = &table.body;
        let mut by_file: BTreeMap<(&str, u64), Vec<&Fd>> = BTreeMap::new();
        for fd in fds {
            let identity = fd.file.as_ref().map(|file| (&*file.dev, file.ino));
            by_file
                .entry(identity.unwrap_or_default())
                .or_default()
                .push(fd);
        }
        // Files without an identity of their own have one inode in common.
        let (mut duplicates, once): (Vec<_>, Vec<_>) = by_file
            .into_values()
            .partition(|on_file| on_file.len() > 1 && kind(on_file[0]) != "anonymous");
        duplicates.sort_by_key(|on_file| (kind(on_file[0]) != "regular", on_file[0].fd));
        let mut rows = Vec::with_capacity(fds.len());
        for on_file in &duplicates {
            let mut descriptions = BTreeSet::new();
            for (index, fd) in on_file.iter().enumerate() {
                let mark = DuplicateMark {
                    is_first: index == 0,
                    is_last: index + 1 == on_file.len(),
                    is_shared: !descriptions.insert(&fd.description),
                    matters: kind(fd) == "regular",
                };
                rows.push(descriptor(fd, now, Some(mark)));
            }
        }
        let mut once: Vec<_> = once.into_iter().flatten().collect();
        once.sort_by_key(|fd| fd.fd);
        rows.extend(once.into_iter().map(|fd| descriptor(fd, now, None)));
        let words = process.cmdline.as_deref().unwrap_or_default();
        Self {
            pid: process.pid,
            comm: clean(process.comm.as_bytes()),
            command: clean(words.join(" ").as_bytes()),
            unit: clean(process.unit.as_deref().unwrap_or_default().as_bytes()),
            rows,
        }
    }
}

/// Returns the type of a descriptor's file.
fn kind(fd: &Fd) -> &str {
    fd.file.as_ref().map_or("", |file| &file.kind)
}

fn descriptor(fd: &Fd, now: Option<u64>, duplicate: Option<DuplicateMark>) -> Descriptor {
    let mut mode = fd.access.to_string();
    for (is_set, mark) in [(fd.append, 'a'), (fd.cloexec, 'x')] {
        if is_set {
            mode.push(mark);
        }
    }
    let opened = fd.opened_at.as_ref().and_then(Time::nanoseconds);
    let age = opened.zip(now);
    let age = age.map(|(opened, now)| now.saturating_sub(opened) / 1_000_000_000);
    let file = fd.file.as_ref();
    let mut path = path_of(file.unwrap_or(&File::default()));
    if let Some(role) = &fd.role {
        path = format!("{path}  ({})", clean(role.as_bytes()));
    }
    Descriptor {
        fd: fd.fd.into(),
        mode: clean(mode.as_bytes()),
        kind: clean(kind(fd).as_bytes()),
        origin: clean(fd.origin.as_bytes()),
        age,
        path,
        duplicate,
    }
}

/// Returns the path of a file: all of its bytes, where they are not UTF-8.
fn path_of(file: &File) -> String {
    let bytes = file.path_bytes.as_ref().and_then(Hexadecimal::bytes);
    let path = match (bytes, &file.path) {
        (Some(bytes), _) => clean(&bytes),
        (None, Some(path)) => clean(path.as_bytes()),
        (None, None) => format!("inode {} on {}", file.ino, clean(file.dev.as_bytes())),
    };
    if file.deleted {
        format!("{path} (deleted)")
    } else {
        path
    }
}

/// Splits an explanation into lines without colours and control characters.
#[must_use]
pub(crate) fn lines_of(explanation: &str) -> Vec<String> {
    let plain = anstream::adapter::strip_str(explanation).to_string();
    let lines = plain.lines();
    let is_control = |character: char| character.is_control();
    lines
        .map(|line| line.replace(is_control, " ").trim_end().to_owned())
        .collect()
}

/// Escapes and truncates untrusted text.
#[must_use]
pub(crate) fn clean(bytes: &[u8]) -> String {
    let text = Escaped(bytes).to_string();
    match text.char_indices().nth(MAX_LEN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, for display only"
)]
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

#[cfg(test)]
mod tests {
    use fdwatch_events::time::rfc3339;
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn growth_compares_minima() {
        let of = |curve: &[u32]| {
            Row {
                curve: curve.to_vec(),
                ..Row::default()
            }
            .per_hour()
        };
        assert_eq!(of(&[1, 2, 3, 4, 5]), None);
        assert_eq!(of(&[5, 5, 5, 5, 5, 5]), Some(0));
        assert_eq!(of(&[5, 900, 5, 5, 5, 700]), Some(0));
        assert_eq!(of(&[10, 11, 12, 13, 14, 15]), Some(3 * 3600 / 15));
        assert_eq!(of(&[15, 14, 13, 12, 11, 10]), Some(-720));
    }

    #[test]
    fn descriptors_of_one_file_are_adjacent() {
        let fd = |fd: u32, description: &str, ino: u64, kind: &str, opened: Option<u64>| {
            json!({"fd": fd, "access": "rw", "append": fd == 5, "cloexec": false,
                "description": description, "origin": "openat",
                "opened_at": opened.map(|at| rfc3339(at * 1_000_000_000)),
                "file": {"path": format!("/x/{ino}"), "dev": "8:1", "ino": ino, "type": kind, "deleted": ino == 9}})
        };
        let table = json!({"time": rfc3339(100_000_000_000), "process": {"pid": 7, "comm": "a\u{202e}b"}, "fds": [
            fd(0, "t", 1, "character", None),
            fd(1, "t", 1, "character", None),
            fd(3, "x", 2, "regular", Some(40)),
            fd(4, "a", 9, "regular", None),
            fd(5, "b", 9, "regular", None),
            fd(6, "a", 9, "regular", None),
            fd(9, "b", 9, "regular", None),
            fd(7, "y", 3, "anonymous", None),
            fd(8, "z", 3, "anonymous", None),
        ]});
        let table = Descriptors::of(&from_value(table).unwrap());
        assert_eq!(table.comm, "a\\u{202e}b");
        let fds: Vec<_> = table.rows.iter().map(|row| row.fd).collect();
        assert_eq!(fds, [4, 5, 6, 9, 0, 1, 3, 7, 8]);
        let shared: Vec<_> = table.rows.iter().filter_map(|row| row.duplicate).collect();
        assert_eq!(shared.len(), 6);
        assert!(!shared[1].is_shared && shared[2].is_shared && shared[2].matters);
        // It shares its description with an earlier descriptor, though not with the first.
        assert!(shared[3].is_shared);
        assert!(shared[5].is_shared && !shared[5].matters);
        assert_eq!(table.rows[6].age, Some(60));
        assert_eq!(table.rows[0].path, "/x/9 (deleted)");
        assert_eq!(table.rows[1].mode, "rwa");
    }

    #[test]
    fn invalid_utf8_is_escaped() {
        let file = json!({"path": "/tmp/\u{fffd}", "path_bytes": "2f746d702fff1b"});
        assert_eq!(path_of(&from_value(file).unwrap()), "/tmp/\\xff\\x1b");
        assert_eq!(lines_of("a\x1b[1mb\x1b[0m\nc\x07d  \n"), ["ab", "cd"]);
    }

    fn finding(event: Value) -> Option<FindingEvent> {
        let event = from_value(event).ok()?;
        FindingEvent::of(&event, "12:00:00".to_owned())
    }

    #[test]
    fn incomplete_events_have_defaults_or_are_skipped() {
        for kind in [
            "finding",
            "growth",
            "threshold",
            "loss",
            "budget",
            "dropped",
        ] {
            assert!(finding(json!({"type": kind})).is_some(), "{kind}");
            assert_eq!(
                finding(json!({"type": kind, "process": 7, "lost": 7, "cpu": "", "missed": -1})),
                None
            );
        }
        assert_eq!(finding(json!({"type": "else"})), None);
        assert_eq!(finding(json!(7)), None);
        let json = json!({"type": "finding", "change": "found", "id": 3, "severity": "warning",
            "cause": "reopened", "process": {"pid": 7, "comm": "x"}, "file": {"path": "/a"}, "fds": [{}, {}]});
        let finding = finding(json).unwrap();
        assert_eq!(
            (finding.what.as_str(), finding.why.as_str()),
            ("/a", "reopened, 2 descriptors")
        );
    }
}
