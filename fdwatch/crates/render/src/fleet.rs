//! Text of the results of fleet queries, in columns.

use std::fmt::Write as _;

use fdwatch_core::plural::{counted, noun};
use fdwatch_events::wire::{
    Finding, FleetDuplicates, FleetHost, FleetMore, FleetShared, FleetSignature, Time,
};
use unicode_width::UnicodeWidthStr as _;

use crate::escape::escaped;

/// Maximum width of a name, in columns of the terminal.
const MAX_WIDTH: usize = 60;

/// Maximum number of descriptors of an example, and of steps of their lineage.
const MAX_EXAMPLE: usize = 20;

/// First cells of a row of duplicates.
type Names = fn(&FleetDuplicates) -> Vec<String>;

/// Returns duplicates, with the columns of the key that they are grouped by; `now` is in seconds since 1970.
#[must_use]
pub fn duplicates(all: &[FleetDuplicates], now: u32) -> String {
    if all.is_empty() {
        return "no duplicates\n".to_owned();
    }
    let has = |field: fn(&FleetDuplicates) -> &String| all.iter().any(|it| !field(it).is_empty());
    let (heads, name): (&[&str], Names) = if has(|it| &it.signature) {
        (&["SIGNATURE", "PROGRAM", "CAUSE", "PATH"], |it| {
            let names = [&it.signature, &it.program, &it.cause, &it.path];
            names.map(|name| shortened(name)).to_vec()
        })
    } else if has(|it| &it.program) {
        (&["PROGRAM", "SIGNATURES"], |it| grouped(&it.program, it))
    } else if has(|it| &it.host) {
        (&["HOST", "SIGNATURES"], |it| grouped(&it.host, it))
    } else {
        (&["PATH", "SIGNATURES"], |it| grouped(&it.path, it))
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
    for one in all {
        let mut row = name(one);
        row.extend([
            one.hosts.to_string(),
            one.processes.to_string(),
            one.descriptors.to_string(),
            escaped(one.severity.as_bytes()),
            ago(&one.first, now),
            ago(&one.last, now),
            bars(&one.trend),
        ]);
        table.push(row);
    }
    table.text()
}

fn grouped(name: &str, duplicates: &FleetDuplicates) -> Vec<String> {
    vec![shortened(name), duplicates.signatures.to_string()]
}

/// Returns hosts.
#[must_use]
pub fn hosts(all: &[FleetHost], now: u32) -> String {
    if all.is_empty() {
        return "no host has reported\n".to_owned();
    }
    let mut table = Columns::new(&[
        "HOST", "STATE", "LAST", "VERSION", "KERNEL", "SKIPS", "FINDINGS", "LOST", "DRIFT", "CPU",
        "MEMORY", "SPOOLED", "DROPPED", "LABELS",
    ]);
    for host in all {
        let last = host.last.as_ref();
        table.push(vec![
            shortened(&host.host),
            host.state.to_string(),
            last.map_or_else(|| "-".to_owned(), |last| ago(last, now)),
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
    table.text()
}

/// Returns files that several hosts write.
#[must_use]
pub fn shared(all: &[FleetShared], now: u32) -> String {
    if all.is_empty() {
        return "no files written by several hosts\n".to_owned();
    }
    let mut text = String::new();
    for file in all {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{} hosts write {} on {} (inode {}), last {} ago, by {}",
            file.hosts,
            escaped(file.file.as_bytes()),
            escaped(file.network.as_bytes()),
            file.ino,
            ago(&file.last, now),
            escaped(file.programs.join(", ").as_bytes()),
        );
        let more = if file.hosts > file.names.len() as u64 {
            ", ..."
        } else {
            ""
        };
        let names = escaped(file.names.join(", ").as_bytes());
        let _ = writeln!(text, "  {names}{more}");
    }
    text
}

/// Returns a signature, with at most `limit` hosts.
#[must_use]
pub fn signature(signature: &FleetSignature, now: u32, limit: usize) -> String {
    let FleetSignature {
        all,
        hosts,
        example,
    } = signature;
    let mut text = String::new();
    let path = match all.path.as_str() {
        "" => "(unknown path)".to_owned(),
        path => escaped(path.as_bytes()),
    };
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{}  {}  {}\n  {}\n  {path}\n  {}, {}, {}, {}; first {} ago, last {} ago  {}",
        escaped(all.signature.as_bytes()),
        escaped(all.severity.as_bytes()),
        escaped(all.cause.as_bytes()),
        escaped(all.program.as_bytes()),
        counted(all.hosts, "host"),
        counted(all.processes, "process"),
        counted(all.findings, "finding"),
        counted(all.descriptors, "descriptor"),
        ago(&all.first, now),
        ago(&all.last, now),
        bars(&all.trend),
    );
    let mut table = Columns::new(&["  HOST", "PROCESSES", "FINDINGS", "FIRST", "LAST", "FILE"]);
    for host in hosts.iter().take(limit) {
        table.push(vec![
            format!("  {}", shortened(&host.host)),
            host.processes.to_string(),
            host.findings.to_string(),
            ago(&host.first, now),
            ago(&host.last, now),
            shortened(&host.file),
        ]);
    }
    text.push_str(&table.text());
    if hosts.len() > limit {
        text.push_str(&more(&FleetMore {
            more: hosts.len() - limit,
            exact: true,
        }));
    }
    if let Some(example) = example {
        let host = escaped(example.host.as_bytes());
        let _ = writeln!(
            text,
            "example from {host}, {} ago:",
            ago(&example.time, now)
        );
        let finding = example.finding.as_deref();
        let finding = finding.and_then(|json| serde_json::from_str(json.get()).ok());
        if let Some(finding) = finding {
            descriptors(&finding, &mut text);
        }
        if !example.frames.is_empty() {
            let _ = writeln!(text, "  opened in:");
            for frame in example.frames.lines() {
                let _ = writeln!(text, "    {}", escaped(frame.as_bytes()));
            }
        }
    }
    text
}

/// Returns the line that counts the rows omitted by `--limit`.
#[must_use]
pub fn more(more: &FleetMore) -> String {
    let or_more = if more.exact { "" } else { " or more" };
    let others = noun(&more.more, "other");
    format!(
        "and {}{or_more} {others}: increase --limit to list all\n",
        more.more
    )
}

/// Appends the descriptors of a finding, each with its lineage, and the advice.
fn descriptors(finding: &Finding, text: &mut String) {
    let word = |word: &str| escaped(word.as_bytes());
    for fd in finding.fds.iter().take(MAX_EXAMPLE) {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "  fd {} {} {}",
            fd.fd,
            word(&fd.access),
            word(&fd.origin)
        );
        for link in fd.chain.iter().take(MAX_EXAMPLE) {
            let (how, comm) = (word(&link.how), word(&link.comm));
            let _ = write!(text, " <- {how} by {comm} ({})", link.pid);
        }
        text.push('\n');
    }
    let _ = writeln!(text, "  {}", word(&finding.advice));
}

/// Returns the time from `time` to `now`, in its largest unit.
fn ago(time: &Time, now: u32) -> String {
    match now.saturating_sub(time.seconds().unwrap_or_default()) {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Returns a name for a column, without its middle if it is too wide.
fn shortened(name: &str) -> String {
    // An empty cell would make the next cell look like part of this column.
    if name.is_empty() {
        return "-".to_owned();
    }
    let text = escaped(name.as_bytes());
    if text.width() <= MAX_WIDTH {
        return text;
    }
    let head: String = text.chars().take(MAX_WIDTH / 2 - 2).collect();
    let mut tail: Vec<char> = text.chars().rev().take(MAX_WIDTH / 2 - 1).collect();
    tail.reverse();
    format!("{head}...{}", String::from_iter(tail))
}

/// Returns a bar for each number, relative to the largest.
fn bars(numbers: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = numbers.iter().copied().max().unwrap_or_default().max(1);
    let bar = |number: u64| match number {
        0 => '·',
        number => {
            let eighths = (u128::from(number) * 8).div_ceil(largest.into());
            BARS[usize::try_from(eighths - 1).unwrap_or(7).min(7)]
        }
    };
    numbers.iter().map(|&number| bar(number)).collect()
}

/// Table of text.
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

    /// Returns the table, each column as wide as its widest cell.
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

    #[test]
    fn columns_are_aligned_and_names_escaped() {
        let all = FleetDuplicates {
            signature: "v1:ab".into(),
            program: "a\x1b[2J".into(),
            cause: "reopened".into(),
            path: "/var/log/{n}.log".into(),
            hosts: 400,
            processes: 401,
            descriptors: 1203,
            severity: "warning".into(),
            first: Time::of_seconds(1_700_000_000),
            last: Time::of_seconds(1_700_009_990),
            trend: vec![0, 1, 8],
            ..FleetDuplicates::default()
        };
        let text = duplicates(&[all], 1_700_010_000);
        let expected = [
            "SIGNATURE  PROGRAM   CAUSE     PATH              HOSTS  PROCESSES  FDS   SEVERITY  FIRST  LAST  TREND",
            "v1:ab      a\\x1b[2J  reopened  /var/log/{n}.log  400    401        1203  warning   2 h    10 s  ·▁█",
        ];
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn omitted_rows_are_counted() {
        let text = |more, exact| super::more(&FleetMore { more, exact });
        assert_eq!(text(1, true), "and 1 other: increase --limit to list all\n");
        assert_eq!(
            text(9, false),
            "and 9 or more others: increase --limit to list all\n"
        );
    }
}
