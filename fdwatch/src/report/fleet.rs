//! Answers about a fleet: as text in columns, or as JSON. Where answers are from is not known here.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use super::{Format, escaped, json::SCHEMA};
use fdwatch_core::plural::{counted, either, noun};
use fdwatch_fleet::questions::{By, Duplicates, Host, Lines, MAX_ROWS, SharedFile, Shown};

/// Columns of a name that are shown in a list.
const WIDEST: usize = 60;

/// Hosts of a signature that are shown.
const SEVERITIES: [&str; 4] = ["", "info", "warning", "critical"];

/// An answer.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// Duplicates, and what they were put together by.
    Duplicates(&'a Lines<Duplicates>, By),
    /// A signature.
    Signature(&'a Shown),
    /// Hosts, and after how many seconds one is silent.
    Hosts(&'a [Host], u32),
    /// Shared files.
    Shared(&'a [SharedFile]),
}

/// How answers are shown.
#[derive(Clone, Copy, Debug)]
pub struct Show {
    /// As text or JSON.
    pub format: Format,
    /// When it was asked: seconds since 1970.
    pub now: u32,
    /// Lines, at most.
    pub limit: usize,
}

#[derive(Serialize)]
struct Line<'a, T> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(flatten)]
    body: T,
}

impl Show {
    /// An answer, as it is shown.
    #[must_use]
    pub fn answer(&self, answer: Answer<'_>) -> String {
        match (self.format, answer) {
            (Format::Json, Answer::Duplicates(all, _)) => {
                self.lines("fleet-duplicates", &all.shown, all.count, |_, line| {
                    times(line);
                    severity(line);
                })
            }
            (Format::Json, Answer::Hosts(all, silent)) => {
                self.lines("fleet-host", all, all.len(), |host, line| {
                    times(line);
                    line["state"] = host.state(self.now, silent).into();
                })
            }
            (Format::Json, Answer::Shared(all)) => {
                self.lines("fleet-shared", all, all.len(), |_, line| times(line))
            }
            (Format::Json, Answer::Signature(shown)) => self.lines(
                "fleet-signature",
                std::slice::from_ref(shown),
                1,
                |shown, line| {
                    times(&mut line["all"]);
                    severity(&mut line["all"]);
                    for host in line["hosts"].as_array_mut().into_iter().flatten() {
                        times(host);
                    }
                    if let Some(example) = &shown.example {
                        line["example"]["time"] = rfc3339(example.time).into();
                        let finding = serde_json::from_str(&example.finding);
                        line["example"]["finding"] = finding.unwrap_or(Value::Null);
                    }
                },
            ),
            (Format::Text, Answer::Duplicates(all, by)) => self.duplicates(all, by),
            (Format::Text, Answer::Hosts(all, silent)) => self.hosts(all, silent),
            (Format::Text, Answer::Shared(all)) => self.shared(all),
            (Format::Text, Answer::Signature(shown)) => self.signature(shown),
        }
    }

    fn lines<T: Serialize>(
        &self,
        kind: &str,
        all: &[T],
        count: usize,
        change: impl Fn(&T, &mut Value),
    ) -> String {
        let mut text = String::new();
        for body in all.iter().take(self.limit) {
            let line = Line {
                schema: SCHEMA,
                kind,
                body,
            };
            if let Ok(mut line) = serde_json::to_value(line) {
                change(body, &mut line);
                let _ = writeln!(text, "{line}");
            }
        }
        if count > self.limit {
            let more = Line {
                schema: SCHEMA,
                kind: "fleet-more",
                body: serde_json::json!({
                    "more": count - self.limit,
                    "exact": count <= MAX_ROWS,
                }),
            };
            let _ = writeln!(text, "{}", serde_json::to_string(&more).unwrap_or_default());
        }
        text
    }

    fn more(&self, count: usize, text: &mut String) {
        if count > self.limit {
            let or_more = if count > MAX_ROWS { " or more" } else { "" };
            let more = count - self.limit;
            let others = noun(&more, "other");
            let them = either(&more, "it", "them");
            let _ = writeln!(
                text,
                "and {more}{or_more} {others}: see {them} with --limit"
            );
        }
    }

    fn duplicates(&self, all: &Lines<Duplicates>, by: By) -> String {
        let heads: &[&str] = match by {
            By::Signature => &["SIGNATURE", "PROGRAM", "CAUSE", "PATH"],
            By::Service => &["PROGRAM", "BUGS"],
            By::Host => &["HOST", "BUGS"],
            By::Path => &["PATH", "BUGS"],
        };
        let mut table = Columns::new(heads.iter().chain(&[
            "HOSTS",
            "PROCESSES",
            "FDS",
            "SEVERITY",
            "FIRST",
            "LAST",
            "TREND",
        ]));
        for one in all.shown.iter().take(self.limit) {
            let bugs = one.signatures.to_string();
            let mut row: Vec<String> = match by {
                By::Signature => [&one.signature, &one.program, &one.cause, &one.path]
                    .map(|name| shortened(name))
                    .to_vec(),
                By::Service => vec![shortened(&one.program), bugs],
                By::Host => vec![shortened(&one.host), bugs],
                By::Path => vec![shortened(&one.path), bugs],
            };
            row.extend([
                one.hosts.to_string(),
                one.processes.to_string(),
                one.descriptors.to_string(),
                severity_name(one.severity).to_owned(),
                self.ago(one.first),
                self.ago(one.last),
                curve(&one.trend),
            ]);
            table.push(row);
        }
        if all.count == 0 {
            return "nothing was found\n".to_owned();
        }
        let mut text = table.text();
        self.more(all.count, &mut text);
        text
    }

    fn hosts(&self, all: &[Host], silent: u32) -> String {
        let mut table = Columns::new(&[
            "HOST", "STATE", "LAST", "VERSION", "KERNEL", "UNDONE", "FINDINGS", "LOST", "DRIFT",
            "CPU", "MEMORY", "SPOOLED", "DROPPED", "LABELS",
        ]);
        for host in all.iter().take(self.limit) {
            let last = if host.error.is_empty() {
                self.ago(host.last)
            } else {
                "-".to_owned()
            };
            table.push(vec![
                shortened(&host.host),
                host.state(self.now, silent).to_owned(),
                last,
                shortened(&host.version),
                shortened(&host.kernel),
                shortened(&host.mode),
                host.findings.to_string(),
                host.lost.to_string(),
                host.drift.to_string(),
                format!("{:.2} %", host.cpu),
                format!("{} MiB", host.memory >> 20),
                format!("{} KiB", host.spooled >> 10),
                host.dropped.to_string(),
                shortened(&host.labels),
            ]);
        }
        if all.is_empty() {
            return "no host was heard of\n".to_owned();
        }
        let mut text = table.text();
        self.more(all.len(), &mut text);
        text
    }

    fn shared(&self, all: &[SharedFile]) -> String {
        let mut text = String::new();
        for file in all.iter().take(self.limit) {
            let _ = writeln!(
                text,
                "{} hosts write {} of {} (inode {}), last {} ago, by {}",
                file.hosts,
                escaped(file.file.as_bytes()),
                escaped(file.network.as_bytes()),
                file.ino,
                self.ago(file.last),
                escaped(file.programs.join(", ").as_bytes()),
            );
            let some = if file.hosts > file.names.len() as u64 {
                ", ..."
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "  {}{some}",
                escaped(file.names.join(", ").as_bytes())
            );
        }
        if all.is_empty() {
            return "no file that several hosts write was found\n".to_owned();
        }
        self.more(all.len(), &mut text);
        text
    }

    fn signature(&self, shown: &Shown) -> String {
        let Shown {
            all,
            hosts,
            example,
        } = shown;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}  {}  {}\n  {}\n  {}\n  {}, {}, {}, {}; first {} ago, last {} ago  {}",
            escaped(all.signature.as_bytes()),
            severity_name(all.severity),
            escaped(all.cause.as_bytes()),
            escaped(all.program.as_bytes()),
            if all.path.is_empty() {
                "a file whose path is not known".to_owned()
            } else {
                escaped(all.path.as_bytes())
            },
            counted(all.hosts, "host"),
            counted(all.processes, "process"),
            counted(all.findings, "finding"),
            counted(all.descriptors, "descriptor"),
            self.ago(all.first),
            self.ago(all.last),
            curve(&all.trend),
        );
        let mut table = Columns::new(&["  HOST", "PROCESSES", "FINDINGS", "FIRST", "LAST", "FILE"]);
        for host in hosts.iter().take(self.limit) {
            table.push(vec![
                format!("  {}", shortened(&host.host)),
                host.processes.to_string(),
                host.findings.to_string(),
                self.ago(host.first),
                self.ago(host.last),
                shortened(&host.file),
            ]);
        }
        text.push_str(&table.text());
        self.more(hosts.len(), &mut text);
        if let Some(example) = example {
            let _ = writeln!(
                text,
                "as seen on {} {} ago:",
                escaped(example.host.as_bytes()),
                self.ago(example.time)
            );
            self::example(&example.finding, &mut text);
            if !example.frames.is_empty() {
                let _ = writeln!(text, "  opened in:");
                for frame in example.frames.lines() {
                    let _ = writeln!(text, "    {}", escaped(frame.as_bytes()));
                }
            }
        }
        text
    }

    /// How long before it was asked.
    fn ago(&self, time: u32) -> String {
        match self.now.saturating_sub(time) {
            seconds @ 0..60 => format!("{seconds} s"),
            seconds @ 60..3600 => format!("{} min", seconds / 60),
            seconds @ 3600..86_400 => format!("{} h", seconds / 3600),
            seconds => format!("{} d", seconds / 86_400),
        }
    }
}

/// What a finding says of its descriptors: how each came, by which way, and what to do.
fn example(finding: &str, text: &mut String) {
    let finding: Value = serde_json::from_str(finding).unwrap_or_default();
    let word = |value: &Value| escaped(value.as_str().unwrap_or("?").as_bytes());
    for fd in finding["fds"].as_array().into_iter().flatten().take(20) {
        let _ = write!(
            text,
            "  fd {} {} {}",
            fd["fd"],
            word(&fd["access"]),
            word(&fd["origin"])
        );
        for link in fd["chain"].as_array().into_iter().flatten().take(20) {
            let _ = write!(
                text,
                " <- {} by {} ({})",
                word(&link["how"]),
                word(&link["comm"]),
                link["pid"]
            );
        }
        text.push('\n');
    }
    let _ = writeln!(text, "  {}", word(&finding["advice"]));
}

fn severity_name(severity: u8) -> &'static str {
    SEVERITIES.get(usize::from(severity)).copied().unwrap_or("")
}

fn severity(line: &mut Value) {
    let name = line["severity"].as_u64();
    let name = name
        .and_then(|it| u8::try_from(it).ok())
        .map_or("", severity_name);
    line["severity"] = name.into();
}

fn times(line: &mut Value) {
    for name in ["first", "last"] {
        if let Some(time) = line.get(name).and_then(Value::as_u64) {
            // None, of a host that could not be asked.
            line[name] = match u32::try_from(time).unwrap_or(u32::MAX) {
                0 => Value::Null,
                time => rfc3339(time).into(),
            };
        }
    }
}

fn rfc3339(time: u32) -> String {
    Timestamp::from_second(time.into()).map_or_else(|_| String::new(), |time| time.to_string())
}

/// A name as it is shown in a column.
fn shortened(name: &str) -> String {
    // A cell that is empty looks as if the next one were in its place.
    if name.is_empty() {
        return "-".to_owned();
    }
    let text = escaped(name.as_bytes());
    if text.width() <= WIDEST {
        return text;
    }
    let head: String = text.chars().take(WIDEST / 2 - 2).collect();
    let mut tail: Vec<char> = text.chars().rev().take(WIDEST / 2 - 1).collect();
    tail.reverse();
    format!("{head}...{}", String::from_iter(tail))
}

/// Numbers as a line of bars, the highest for the most.
fn curve(numbers: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = numbers.iter().copied().max().unwrap_or_default().max(1);
    let bar = |number: u64| match number {
        0 => '·',
        number => {
            BARS[usize::try_from((number * 8).div_ceil(most) - 1)
                .unwrap_or(7)
                .min(7)]
        }
    };
    numbers.iter().map(|&number| bar(number)).collect()
}

/// A table of text.
struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    fn new<'a>(heads: impl IntoIterator<Item = &'a &'a str>) -> Self {
        let heads = heads.into_iter().map(|head| (*head).to_owned());
        Self {
            rows: vec![heads.collect()],
        }
    }

    fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Each column as wide as its widest.
    fn text(&self) -> String {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..count)
            .map(|at| {
                let cells = self.rows.iter().filter_map(|row| row.get(at));
                cells.map(|cell| cell.width()).max().unwrap_or_default()
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width + 2 - cell.width()));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOW: Show = Show {
        format: Format::Text,
        now: 1_700_010_000,
        limit: 1,
    };

    fn duplicates(program: &str) -> Duplicates {
        Duplicates {
            signature: "v1:ab".into(),
            program: program.into(),
            cause: "reopened".into(),
            path: "/var/log/{n}.log".into(),
            hosts: 400,
            processes: 401,
            descriptors: 1203,
            severity: 2,
            first: 1_700_000_000,
            last: 1_700_009_990,
            trend: vec![0, 1, 8],
            ..Duplicates::default()
        }
    }

    #[test]
    fn columns_are_aligned_and_names_escaped() {
        let all = Lines::of(vec![duplicates("a\x1b[2J"), duplicates("b")], 2);
        let text = SHOW.answer(Answer::Duplicates(&all, By::Signature));
        let expected = [
            "SIGNATURE  PROGRAM   CAUSE     PATH              HOSTS  PROCESSES  FDS   SEVERITY  FIRST  LAST  TREND",
            "v1:ab      a\\x1b[2J  reopened  /var/log/{n}.log  400    401        1203  warning   2 h    10 s  ·▁█",
            "and 1 other: see it with --limit",
        ];
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn json_has_a_line_for_each() {
        let show = Show {
            format: Format::Json,
            ..SHOW
        };
        let all = Lines::of(vec![duplicates("a"), duplicates("b")], 2);
        let text = show.answer(Answer::Duplicates(&all, By::Signature));
        let lines: Vec<Value> = text
            .lines()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect();
        assert_eq!(lines[0]["type"], "fleet-duplicates");
        assert_eq!(lines[0]["severity"], "warning");
        assert_eq!(lines[0]["first"], "2023-11-14T22:13:20Z");
        assert_eq!(lines[1]["more"], 1);
    }
}
