//! Rows of the screen, made of the lines that fdwatch's own programs and an agent have in common.
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

/// Characters of a name or a path that are kept.
const MAX_LEN: usize = 1024;

/// Counts of a curve before a growth can be told of it.
const MIN_CURVE: usize = 6;

/// Seconds from one count of a curve to the next.
const CURVE_EVERY: i64 = 5;

/// How things are: what stands at the top.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Who follows the kernel's events.
    pub source: String,
    /// The host.
    pub host: String,
    /// The time of the day here.
    pub time: String,
    /// The moment: nanoseconds of any clock that goes on.
    pub at: u64,
    /// Processes there are.
    pub processes: u64,
    /// Descriptors there are.
    pub descriptors: u64,
    /// Events so far.
    pub events: u64,
    /// Records lost so far.
    pub lost: u64,
    /// Descriptors that audits found to be otherwise so far.
    pub drift: u64,
    /// Processor time fdwatch has used so far, in seconds.
    pub cpu_seconds: f64,
    /// Memory it has, in bytes.
    pub memory: u64,
    /// What the budget is, in percent of one processor.
    pub max_cpu: f64,
    /// What is left undone for its sake.
    pub sheds: String,
}

impl Status {
    /// Returns the status of an agent. `at` and `time` are the caller's.
    #[must_use]
    pub fn of_health(health: &Line<Health>, source: String, at: u64, time: String) -> Self {
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

/// A process, as the list shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Its number.
    pub pid: u32,
    /// What tells it from others with that number.
    pub start_time: u64,
    /// Its name.
    pub comm: String,
    /// Its user's name, or number.
    pub user: String,
    /// Its unit, if it has one.
    pub unit: String,
    /// How many descriptors it has.
    pub descriptors: u64,
    /// How many it may have, if that is known.
    pub limit: Option<u64>,
    /// Descriptors on files that it holds more than once, beyond the first on each.
    pub duplicates: u64,
    /// How many it had, every five seconds, the latest last.
    pub curve: Vec<u32>,
}

impl Row {
    /// Of a process, and the name of its user.
    #[must_use]
    pub fn of(row: &ProcessRow, user: &str) -> Self {
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

    /// The share of what it may have that it has: in percent.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        let limit = self.limit.filter(|&limit| limit > 0)?;
        Some(self.descriptors.saturating_mul(100) / limit)
    }

    /// By how many descriptors it would become more in an hour if it went on as in the time its curve
    /// is of: the fewest of one half of that are held against the fewest of the other, so that what
    /// comes and goes is none. Nothing, where the curve is too short.
    #[must_use]
    pub fn per_hour(&self) -> Option<i64> {
        let counts = self.curve.len();
        if counts < MIN_CURVE {
            return None;
        }
        let (before, after) = self.curve.split_at(counts / 2);
        let fewest = |half: &[u32]| half.iter().copied().min().map(i64::from);
        let more = fewest(after)? - fewest(before)?;
        let apart = i64::try_from(counts - counts / 2).ok()? * CURVE_EVERY;
        Some(more * 3600 / apart)
    }
}

/// Returns a process of an agent's answer.
#[must_use]
pub fn row_of(row: wire::ProcessRow) -> ProcessRow {
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

/// What happened to what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It came.
    Found,
    /// It is otherwise than before.
    Changed,
    /// It went.
    Gone,
    /// It is none that comes and goes.
    Once,
}

/// Something that was told.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// What it is about, among all that comes and goes.
    pub key: String,
    /// The time of the day here.
    pub time: String,
    /// What happened.
    pub happened: Happened,
    /// How much it matters.
    pub severity: Option<diagnose::Severity>,
    /// The process it is about.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: String,
    /// The file, or what it is.
    pub what: String,
    /// Why.
    pub why: String,
}

impl News {
    /// Returns the row of an event, or `None` for a type that this version does not have. `time` is
    /// the local time of day of the event.
    #[must_use]
    pub fn of(event: &Event, time: String) -> Option<Self> {
        let about = |change: &Change, severity: Option<&Severity>, process: &Process| Self {
            key: String::new(),
            time: String::new(),
            happened: match &**change {
                "found" => Happened::Found,
                "changed" => Happened::Changed,
                "gone" => Happened::Gone,
                _ => Happened::Once,
            },
            severity: severity.and_then(|severity| severity.known()),
            pid: Some(process.pid),
            comm: clean(process.comm.as_bytes()),
            what: String::new(),
            why: String::new(),
        };
        let once = |what: String, why: String| Self {
            key: String::new(),
            time: String::new(),
            happened: Happened::Once,
            severity: None,
            pid: None,
            comm: String::new(),
            what,
            why,
        };
        let news = match event {
            Event::Finding(line) => {
                let finding = &line.body;
                let cause = clean(finding.cause.as_bytes());
                Self {
                    key: format!("finding {}", finding.id),
                    what: path_of(&finding.file),
                    why: match finding.fds.len() {
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
        Some(Self { time, ..news })
    }
}

/// Whether a descriptor is one of several on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twice {
    /// It is the last of these, as they are shown.
    pub is_last: bool,
    /// It is the first of these.
    pub is_first: bool,
    /// It has its description in common with one that is shown before it.
    pub is_shared: bool,
    /// Whether that matters: a regular file.
    pub matters: bool,
}

/// A descriptor.
#[derive(Clone, Debug, PartialEq)]
pub struct Descriptor {
    /// The number.
    pub fd: u64,
    /// How it may be used: `r`, `w`, `rw`, with `a` behind for appending and `x` for close-on-exec.
    pub mode: String,
    /// The file's type.
    pub kind: String,
    /// How it came to be.
    pub origin: String,
    /// For how long it has been open, in seconds; unknown if since before fdwatch.
    pub age: Option<u64>,
    /// The file, and what it is to the process.
    pub path: String,
    /// If others are on the same file.
    pub twice: Option<Twice>,
}

/// A process's table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Descriptors {
    /// The process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// What runs.
    pub command: String,
    /// What it belongs to.
    pub unit: String,
    /// Its descriptors: those on files that are held twice first, by file, then by number.
    pub rows: Vec<Descriptor>,
}

impl Descriptors {
    /// Returns the table of a process.
    #[must_use]
    pub fn of(table: &Line<Table>) -> Self {
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
        let (mut twice, once): (Vec<_>, Vec<_>) = by_file
            .into_values()
            .partition(|on_file| on_file.len() > 1 && kind(on_file[0]) != "anonymous");
        twice.sort_by_key(|on_file| (kind(on_file[0]) != "regular", on_file[0].fd));
        let mut rows = Vec::with_capacity(fds.len());
        for on_file in &twice {
            let mut descriptions = BTreeSet::new();
            for (index, fd) in on_file.iter().enumerate() {
                let mark = Twice {
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

fn descriptor(fd: &Fd, now: Option<u64>, twice: Option<Twice>) -> Descriptor {
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
        twice,
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

/// The lines of a story, as text: without colours, and with nothing that a terminal would obey.
#[must_use]
pub fn lines_of(story: &str) -> Vec<String> {
    let plain = anstream::adapter::strip_str(story).to_string();
    let lines = plain.lines();
    let obeyed = |character: char| character.is_control();
    lines
        .map(|line| line.replace(obeyed, " ").trim_end().to_owned())
        .collect()
}

/// Text that strangers chose, for a screen.
#[must_use]
pub fn clean(bytes: &[u8]) -> String {
    let text = Escaped(bytes).to_string();
    match text.char_indices().nth(MAX_LEN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, and no digit of it matters"
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
    fn growth_is_that_of_the_fewest() {
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
    fn those_on_one_file_stand_together() {
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
        let shared: Vec<_> = table.rows.iter().filter_map(|row| row.twice).collect();
        assert_eq!(shared.len(), 6);
        assert!(!shared[1].is_shared && shared[2].is_shared && shared[2].matters);
        // Not with the first, but with another before it.
        assert!(shared[3].is_shared);
        assert!(shared[5].is_shared && !shared[5].matters);
        assert_eq!(table.rows[6].age, Some(60));
        assert_eq!(table.rows[0].path, "/x/9 (deleted)");
        assert_eq!(table.rows[1].mode, "rwa");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_what_they_are() {
        let file = json!({"path": "/tmp/\u{fffd}", "path_bytes": "2f746d702fff1b"});
        assert_eq!(path_of(&from_value(file).unwrap()), "/tmp/\\xff\\x1b");
        assert_eq!(lines_of("a\x1b[1mb\x1b[0m\nc\x07d  \n"), ["ab", "cd"]);
    }

    fn news(event: Value) -> Option<News> {
        let event = from_value(event).ok()?;
        News::of(&event, "12:00:00".to_owned())
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
            assert!(news(json!({"type": kind})).is_some(), "{kind}");
            assert_eq!(
                news(json!({"type": kind, "process": 7, "lost": 7, "cpu": "", "missed": -1})),
                None
            );
        }
        assert_eq!(news(json!({"type": "else"})), None);
        assert_eq!(news(json!(7)), None);
        let told = json!({"type": "finding", "change": "found", "id": 3, "severity": "warning",
            "cause": "reopened", "process": {"pid": 7, "comm": "x"}, "file": {"path": "/a"}, "fds": [{}, {}]});
        let news = news(told).unwrap();
        assert_eq!(
            (news.what.as_str(), news.why.as_str()),
            ("/a", "reopened, 2 descriptors")
        );
    }
}
