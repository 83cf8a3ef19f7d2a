//! What an agent's history has, for a person's eye or as JSON.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::{
    Format,
    escape::Escaped,
    json::{SCHEMA, lossy, lost_bytes},
    time::{Clock, seconds, span},
};
use fdwatch_agent::history::read::{Hourly, Occurrence};
use fdwatch_core::{device::major_minor, diagnose::Severity, model::Moment, plural::counted};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

#[derive(Serialize)]
struct OccurrenceLine<'a> {
    schema: u32,
    #[serde(rename = "type")]
    line: &'static str,
    kind: &'a str,
    key: String,
    first: String,
    first_seen: bool,
    last: String,
    ended: Option<String>,
    end_seen: bool,
    lifetime: Option<f64>,
    severity: Option<&'static str>,
    cause: Option<&'a str>,
    measure: Option<&'a str>,
    process: ProcessBody<'a>,
    file: Option<FileBody>,
    fds: Option<u64>,
    most_fds: Option<u64>,
    times: u64,
    finding_bytes: u64,
}

#[derive(Serialize)]
struct ProcessBody<'a> {
    pid: u32,
    comm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe_bytes: Option<String>,
    unit: Option<&'a str>,
}

#[derive(Serialize)]
struct FileBody {
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    dev: String,
    ino: u64,
}

#[derive(Serialize)]
struct HourlyLine<'a> {
    schema: u32,
    #[serde(rename = "type")]
    line: &'static str,
    hour: String,
    /// None for all that are not told of by themselves.
    process: Option<ProcessBody<'a>>,
    processes: u64,
    fewest: u64,
    most: u64,
    last: u64,
}

/// Shows something that came, and may have gone by `now` (nanoseconds since 1970).
///
/// # Errors
///
/// If it cannot be written.
pub fn occurrence(
    output: &mut impl Write,
    format: Format,
    occurrence: &Occurrence,
    clock: &Clock,
    now: u64,
) -> io::Result<()> {
    let text = match format {
        Format::Text => occurrence_text(occurrence, clock, now),
        Format::Json => occurrence_json(occurrence, clock)?,
    };
    output.write_all(text.as_bytes())
}

/// Shows how many descriptors a process had in an hour.
///
/// # Errors
///
/// If it cannot be written.
pub fn hourly(
    output: &mut impl Write,
    format: Format,
    hourly: &Hourly,
    clock: &Clock,
) -> io::Result<()> {
    let text = match format {
        Format::Text => hourly_text(hourly, clock),
        Format::Json => hourly_json(hourly, clock)?,
    };
    output.write_all(text.as_bytes())
}

fn occurrence_text(occurrence: &Occurrence, clock: &Clock, now: u64) -> String {
    let time = clock.date_and_time(Moment(occurrence.since));
    let (name, style) = match occurrence.severity {
        Some(Severity::Critical) => ("critical", AnsiColor::Red.on_default().bold()),
        Some(Severity::Warning) => ("warning", AnsiColor::Yellow.on_default().bold()),
        Some(Severity::Info) => ("info", AnsiColor::Cyan.on_default()),
        None => ("", Style::new()),
    };
    let until = |ended: u64| span(ended.saturating_sub(occurrence.since));
    let lasted = match occurrence.ended {
        None => format!("there for {}", until(now)),
        Some(ended) if occurrence.end_seen => format!("lived {}", until(ended)),
        Some(_) => format!("lived {} or more", until(occurrence.last_change)),
    };
    let what = occurrence.cause.as_deref().unwrap_or(&occurrence.kind);
    let what = Escaped(what.as_bytes()).to_string();
    let fds = occurrence.most_fds.or(occurrence.fds);
    // What was gone before it was told held none by then, which says nothing of how many it had.
    let fds = fds.filter(|&fds| fds > 0);
    let fds = fds.map_or_else(String::new, |fds| format!("{fds} fds"));
    let process = process_name(&occurrence.comm, occurrence.pid);
    let mut text = format!(
        "{DIM}{time}{DIM:#}{}  {style}{name:<8}{style:#}  {what:<19}  {fds:>9}  {}  ",
        if occurrence.since_seen { " " } else { "?" },
        padded(&process, 23),
    );
    let path = occurrence.path.as_deref();
    let file = match (path, occurrence.dev, occurrence.ino) {
        (Some(path), ..) => Escaped(path).to_string(),
        (None, Some(dev), Some(ino)) => {
            let (major, minor) = major_minor(dev);
            format!("inode {ino} on {major}:{minor}")
        }
        _ => String::new(),
    };
    // To a string nothing fails.
    let _ = write!(text, "{}", padded(&lasted, 24));
    if !file.is_empty() {
        let _ = write!(text, "  {BOLD}{file}{BOLD:#}");
    }
    let mut text = text.trim_end().to_owned();
    text.push('\n');
    text
}

fn occurrence_json(occurrence: &Occurrence, clock: &Clock) -> io::Result<String> {
    let time = |at| clock.rfc3339(Moment(at));
    let is_threshold = occurrence.kind == "threshold";
    let cause = occurrence.cause.as_deref();
    let path = occurrence.path.as_deref();
    let line = OccurrenceLine {
        schema: SCHEMA,
        line: "history",
        kind: &occurrence.kind,
        key: occurrence.key.to_string(),
        first: time(occurrence.since),
        first_seen: occurrence.since_seen,
        last: time(occurrence.last_change),
        ended: occurrence.ended.map(time),
        end_seen: occurrence.end_seen,
        lifetime: occurrence
            .ended
            .filter(|_| occurrence.end_seen)
            .map(|ended| seconds(ended.saturating_sub(occurrence.since))),
        severity: occurrence.severity.map(Severity::name),
        cause: cause.filter(|_| !is_threshold),
        measure: cause.filter(|_| is_threshold),
        process: ProcessBody {
            exe: occurrence.exe.as_deref().map(lossy),
            exe_bytes: occurrence.exe.as_deref().and_then(lost_bytes),
            ..process(occurrence.pid, &occurrence.comm, occurrence.unit.as_deref())
        },
        file: occurrence.dev.zip(occurrence.ino).map(|(dev, ino)| {
            let (major, minor) = major_minor(dev);
            FileBody {
                path: path.map(lossy),
                path_bytes: path.and_then(lost_bytes),
                dev: format!("{major}:{minor}"),
                ino,
            }
        }),
        fds: occurrence.fds,
        most_fds: occurrence.most_fds,
        times: occurrence.times,
        finding_bytes: occurrence.json_bytes,
    };
    let mut text = serde_json::to_string(&line).map_err(io::Error::other)?;
    // It is put in as it was told; a line that is no JSON would break this one.
    let told = occurrence.json.as_deref().map(str::trim);
    let told = told.filter(|json| serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok());
    text.pop();
    // Within a value of JSON an end of a line means nothing, and is of no use here.
    let told = told.map_or_else(|| "null".to_owned(), |json| json.replace(['\n', '\r'], " "));
    let _ = writeln!(text, ",\"finding\":{told}}}");
    Ok(text)
}

fn hourly_text(hourly: &Hourly, clock: &Clock) -> String {
    let time = clock.date_and_time(Moment(hourly.hour));
    let process = if hourly.pid == 0 {
        counted(hourly.processes, "other")
    } else {
        process_name(&hourly.comm, hourly.pid)
    };
    let unit = hourly.unit.as_deref().unwrap_or_default();
    let text = format!(
        "{DIM}{time}{DIM:#}  {}  {:>7} to {:>7}, {:>7} last  {}",
        padded(&process, 23),
        hourly.fewest,
        hourly.most,
        hourly.last,
        Escaped(unit.as_bytes()),
    );
    let mut text = text.trim_end().to_owned();
    text.push('\n');
    text
}

fn hourly_json(hourly: &Hourly, clock: &Clock) -> io::Result<String> {
    let line = HourlyLine {
        schema: SCHEMA,
        line: "history-processes",
        hour: clock.rfc3339(Moment(hourly.hour)),
        process: (hourly.pid != 0)
            .then(|| process(hourly.pid, &hourly.comm, hourly.unit.as_deref())),
        processes: hourly.processes,
        fewest: hourly.fewest,
        most: hourly.most,
        last: hourly.last,
    };
    super::line(serde_json::to_string(&line))
}

fn process<'a>(pid: u32, comm: &[u8], unit: Option<&'a str>) -> ProcessBody<'a> {
    ProcessBody {
        pid,
        comm: lossy(comm),
        comm_bytes: lost_bytes(comm),
        exe: None,
        exe_bytes: None,
        unit,
    }
}

fn process_name(comm: &[u8], pid: u32) -> String {
    format!("{}[{pid}]", Escaped(comm))
}

/// As wide as `width` columns of a terminal, or wider.
fn padded(text: &str, width: usize) -> String {
    let spaces = width.saturating_sub(text.width());
    format!("{text}{:spaces$}", "")
}
