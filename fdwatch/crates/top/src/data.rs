//! What is shown, in the form it is shown in: made of the objects that fdwatch's JSON has, whether its
//! own programs or an agent tell them. Names and paths are escaped here, once.
//!
//! Knows nothing of where that is from, and nothing of the screen.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use fdwatch_core::{
    diagnose::Severity,
    plural::{counted, either},
};
use fdwatch_events::ProcessRow;
use fdwatch_render::Escaped;

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
    /// Of what an agent answers on its health. `at` and `time` are the caller's.
    #[must_use]
    pub fn of_health(health: &Value, source: String, at: u64, time: String) -> Self {
        let number = |name: &str| health[name].as_u64().unwrap_or(0);
        Self {
            source,
            host: clean(text_of(&health["host"]).as_bytes()),
            time,
            at,
            processes: number("processes"),
            descriptors: number("descriptors"),
            events: number("events"),
            lost: number("lost"),
            drift: number("drift"),
            cpu_seconds: health["cpu_seconds"].as_f64().unwrap_or(0.0),
            memory: number("rss_bytes"),
            max_cpu: health["budget"]["max_cpu"].as_f64().unwrap_or(0.0),
            sheds: clean(text_of(&health["budget"]["sheds"]).as_bytes()),
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

/// Processes of an agent's answer.
#[must_use]
pub fn rows_of(answer: &Value) -> (Vec<ProcessRow>, u64) {
    let rows = answer["processes"].as_array().into_iter().flatten();
    let rows = rows.filter_map(|row| {
        let number = |name: &str| row[name].as_u64().unwrap_or(0);
        let start = row["start_time"].as_str().and_then(nanoseconds);
        Some(ProcessRow {
            pid: u32::try_from(row["pid"].as_u64()?).ok()?,
            start_time: start.unwrap_or(0),
            comm: text_of(&row["comm"]).into_bytes(),
            uid: row["uid"].as_u64().and_then(|uid| u32::try_from(uid).ok()),
            unit: row["unit"].as_str().map(str::to_owned),
            descriptors: usize::try_from(number("descriptors")).unwrap_or(0),
            limit: row["limit"].as_u64(),
            duplicate_descriptors: usize::try_from(number("duplicate_descriptors")).unwrap_or(0),
            curve: numbers(&row["curve"]),
            ..ProcessRow::default()
        })
    });
    (rows.collect(), answer["more"].as_u64().unwrap_or(0))
}

fn numbers(list: &Value) -> Vec<u32> {
    let list = list.as_array().into_iter().flatten();
    let number = |number: &Value| u32::try_from(number.as_u64()?).ok();
    list.filter_map(number).collect()
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
    pub severity: Option<Severity>,
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
    /// Of an object of those that `watch --json` writes. `time` is when that was, here.
    #[must_use]
    pub fn of(told: &Value, time: String) -> Option<Self> {
        let process = &told["process"];
        let pid = process["pid"].as_u64();
        let pid = pid.and_then(|pid| u32::try_from(pid).ok());
        let kind = told["type"].as_str()?;
        let severity = severity(&told["severity"]);
        let happened = match told["change"].as_str() {
            Some("found") => Happened::Found,
            Some("changed") => Happened::Changed,
            Some("gone") => Happened::Gone,
            _ => Happened::Once,
        };
        let (key, what, why) = match kind {
            "finding" => {
                let id = told["id"].as_u64()?;
                let fds = told["fds"].as_array().map_or(0, Vec::len);
                let why = match told["cause"].as_str().unwrap_or_default() {
                    cause if fds > 1 => format!("{cause}, {fds} descriptors"),
                    cause => cause.to_owned(),
                };
                (format!("finding {id}"), path_of(&told["file"]), why)
            }
            "growth" => {
                let open = counted(told["open"].as_u64().unwrap_or(0), "descriptor");
                let what = match told["per_hour"].as_u64() {
                    Some(more) => format!("{open}, {more} more an hour"),
                    None => format!("{open}, and no more of them"),
                };
                let left = told["seconds_left"].as_f64();
                let left = left.filter(|left| *left < 1e9);
                let why = left.map_or_else(String::new, |left| {
                    let left = fdwatch_events::time::span(nanos(left));
                    format!("none left in {left}")
                });
                (format!("growth {}", pid.unwrap_or(0)), what, why)
            }
            "threshold" => {
                let of = clean(text_of(&told["of"]).as_bytes());
                let (value, most) = (told["value"].as_f64()?, told["threshold"].as_f64()?);
                let key = format!("threshold {of} {most} {}", pid.unwrap_or(0));
                (key, format!("{of} {value}"), format!("threshold {most}"))
            }
            "loss" => {
                let lost = told["lost"]["total"].as_u64().unwrap_or(0);
                let what = format!("{} lost since the start", counted(lost, "record"));
                (String::new(), what, "a larger --ring-size helps".to_owned())
            }
            "budget" => {
                let sheds = clean(text_of(&told["sheds"]).as_bytes());
                let cpu = told["cpu"].as_f64().unwrap_or(0.0);
                let what = format!("{cpu:.1} % of a processor used");
                (String::new(), what, format!("left undone: {sheds}"))
            }
            "dropped" => {
                let missed = told["missed"].as_u64().unwrap_or(0);
                let findings = counted(missed, "finding");
                let what = format!("{findings} {} missed here", either(&missed, "was", "were"));
                (String::new(), what, String::new())
            }
            _ => return None,
        };
        Some(Self {
            key,
            time,
            happened,
            severity,
            pid,
            comm: clean(text_of(&process["comm"]).as_bytes()),
            what,
            why,
        })
    }
}

fn severity(name: &Value) -> Option<Severity> {
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    let name = name.as_str()?;
    all.into_iter().find(|severity| severity.name() == name)
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
    /// Of an object of type `table`.
    #[must_use]
    pub fn of(table: &Value) -> Option<Self> {
        let process = &table["process"];
        let now = table["time"].as_str().and_then(nanoseconds);
        let fds = table["fds"].as_array()?;
        let mut by_file: BTreeMap<(String, u64), Vec<&Value>> = BTreeMap::new();
        for fd in fds {
            let file = &fd["file"];
            let identity = (text_of(&file["dev"]), file["ino"].as_u64().unwrap_or(0));
            by_file.entry(identity).or_default().push(fd);
        }
        // What has no identity of its own has one inode for all there are.
        let (mut twice, once): (Vec<_>, Vec<_>) = by_file.into_values().partition(|on_file| {
            on_file.len() > 1 && text_of(&on_file[0]["file"]["type"]) != "anonymous"
        });
        twice.sort_by_key(|on_file| {
            let file = &on_file[0]["file"];
            (file["type"] != "regular", on_file[0]["fd"].as_u64())
        });
        let mut rows = Vec::with_capacity(fds.len());
        for on_file in &twice {
            let mut descriptions = BTreeSet::new();
            for (index, fd) in on_file.iter().enumerate() {
                let mark = Twice {
                    is_first: index == 0,
                    is_last: index + 1 == on_file.len(),
                    is_shared: !descriptions.insert(text_of(&fd["description"])),
                    matters: fd["file"]["type"] == "regular",
                };
                rows.push(descriptor(fd, now, Some(mark)));
            }
        }
        let mut once: Vec<_> = once.into_iter().flatten().collect();
        once.sort_by_key(|fd| fd["fd"].as_u64());
        rows.extend(once.into_iter().map(|fd| descriptor(fd, now, None)));
        let words = process["cmdline"].as_array().into_iter().flatten();
        let words: Vec<_> = words.map(text_of).collect();
        Some(Self {
            pid: u32::try_from(process["pid"].as_u64()?).ok()?,
            comm: clean(text_of(&process["comm"]).as_bytes()),
            command: clean(words.join(" ").as_bytes()),
            unit: clean(text_of(&process["unit"]).as_bytes()),
            rows,
        })
    }
}

fn descriptor(fd: &Value, now: Option<u64>, twice: Option<Twice>) -> Descriptor {
    let mut mode = text_of(&fd["access"]);
    for (name, mark) in [("append", 'a'), ("cloexec", 'x')] {
        if fd[name] == true {
            mode.push(mark);
        }
    }
    let opened = fd["opened_at"].as_str().and_then(nanoseconds);
    let age = opened.zip(now);
    let age = age.map(|(opened, now)| now.saturating_sub(opened) / 1_000_000_000);
    let mut path = path_of(&fd["file"]);
    if let Some(role) = fd["role"].as_str() {
        path = format!("{path}  ({})", clean(role.as_bytes()));
    }
    Descriptor {
        fd: fd["fd"].as_u64().unwrap_or(0),
        mode: clean(mode.as_bytes()),
        kind: clean(text_of(&fd["file"]["type"]).as_bytes()),
        origin: clean(text_of(&fd["origin"]).as_bytes()),
        age,
        path,
        twice,
    }
}

/// The path of a file as JSON has it: all of its bytes, where these are no text.
fn path_of(file: &Value) -> String {
    let bytes = file["path_bytes"].as_str().and_then(from_hexadecimal);
    let path = match (bytes, file["path"].as_str()) {
        (Some(bytes), _) => clean(&bytes),
        (None, Some(path)) => clean(path.as_bytes()),
        (None, None) => {
            let ino = file["ino"].as_u64().unwrap_or(0);
            format!("inode {ino} on {}", clean(text_of(&file["dev"]).as_bytes()))
        }
    };
    match file["deleted"].as_bool() {
        Some(true) => format!("{path} (deleted)"),
        _ => path,
    }
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
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

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A time of RFC 3339: nanoseconds since 1970.
fn nanoseconds(time: &str) -> Option<u64> {
    let time: Timestamp = time.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

/// The time of an object: nanoseconds since 1970.
#[must_use]
pub fn time_of(told: &Value) -> u64 {
    told["time"].as_str().and_then(nanoseconds).unwrap_or(0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, and no digit of it matters"
)]
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// For tests: a time as JSON has it.
#[cfg(test)]
pub(super) fn as_time(nanoseconds: u64) -> String {
    fdwatch_events::time::rfc3339(nanoseconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
                "opened_at": opened.map(|at| as_time(at * 1_000_000_000)),
                "file": {"path": format!("/x/{ino}"), "dev": "8:1", "ino": ino, "type": kind, "deleted": ino == 9}})
        };
        let table = json!({"time": as_time(100_000_000_000), "process": {"pid": 7, "comm": "a\u{202e}b"}, "fds": [
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
        let table = Descriptors::of(&table).unwrap();
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
        assert_eq!(path_of(&file), "/tmp/\\xff\\x1b");
        assert_eq!(lines_of("a\x1b[1mb\x1b[0m\nc\x07d  \n"), ["ab", "cd"]);
    }

    #[test]
    fn all_that_an_agent_tells_is_understood_or_left_alone() {
        for kind in [
            "finding",
            "growth",
            "threshold",
            "loss",
            "budget",
            "dropped",
            "else",
        ] {
            let _ = News::of(&json!({"type": kind}), String::new());
            let _ = News::of(
                &json!({"type": kind, "id": 1, "process": [], "file": 7}),
                String::new(),
            );
        }
        assert_eq!(News::of(&json!([]), String::new()), None);
        let told = json!({"type": "finding", "change": "found", "id": 3, "severity": "warning",
            "cause": "reopened", "process": {"pid": 7, "comm": "x"}, "file": {"path": "/a"}, "fds": [{}, {}]});
        let news = News::of(&told, "12:00:00".to_owned()).unwrap();
        assert_eq!(
            (news.what.as_str(), news.why.as_str()),
            ("/a", "reopened, 2 descriptors")
        );
    }
}
