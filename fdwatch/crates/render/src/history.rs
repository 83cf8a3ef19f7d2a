//! Text of an agent's history.

use std::fmt::Write as _;

use fdwatch_core::{model::Moment, plural::counted};
use fdwatch_events::{
    time::{Clock, span},
    wire::{Hexadecimal, History, HistoryHour, HistoryProcess, Severity, Time},
};
use unicode_width::UnicodeWidthStr as _;

use crate::{
    escape::Escaped,
    text::{BOLD, DIM, severity_style},
};

/// Width of the column of processes.
const PROCESS_WIDTH: usize = 23;

/// Returns a line for an entry; `now` is in nanoseconds since 1970. A time that was not observed is
/// followed by a question mark.
#[must_use]
pub fn entry(entry: &History, now: u64) -> String {
    let first = nanoseconds(&entry.first);
    let until = |time: u64| span(time.saturating_sub(first));
    let lasted = match &entry.ended {
        None => format!("exists for {}", until(now)),
        Some(ended) if entry.end_seen => format!("lived {}", until(nanoseconds(ended))),
        Some(_) => format!("lived {} or more", until(nanoseconds(&entry.last))),
    };
    let what = entry.cause.as_deref().or(entry.measure.as_deref());
    let what = Escaped(what.unwrap_or(&entry.kind).as_bytes()).to_string();
    // A finding that ended before it was reported had 0 descriptors by then.
    let fds = entry.most_fds.or(entry.fds).filter(|&fds| fds > 0);
    let fds = fds.map_or_else(String::new, |fds| format!("{fds} fds"));
    let severity = entry.severity.as_ref();
    let style = severity_style(severity.and_then(Severity::known));
    let severity = severity.map_or("", |severity| severity);
    let mut text = format!(
        "{DIM}{}{DIM:#}{}  {style}{severity:<8}{style:#}  {what:<19}  {fds:>9}  {}  {}",
        date_and_time(&entry.first),
        if entry.first_seen { " " } else { "?" },
        padded(&process(&entry.process), PROCESS_WIDTH),
        padded(&lasted, 24),
    );
    if let Some(file) = &entry.file {
        let name = match &file.path {
            Some(path) => escaped(path, file.path_bytes.as_ref()),
            None => format!("inode {} on {}", file.ino, file.dev),
        };
        // Writing to a string does not fail.
        let _ = write!(text, "  {BOLD}{name}{BOLD:#}");
    }
    text.trim_end().to_owned() + "\n"
}

/// Returns a line for the descriptors of a process in one hour.
#[must_use]
pub fn hour(hour: &HistoryHour) -> String {
    let process = hour.process.as_ref();
    let name = process.map_or_else(|| counted(hour.processes, "other"), self::process);
    let unit = process.and_then(|process| process.unit.as_deref());
    let text = format!(
        "{DIM}{}{DIM:#}  {}  {:>7} to {:>7}, {:>7} last  {}",
        date_and_time(&hour.hour),
        padded(&name, PROCESS_WIDTH),
        hour.fewest,
        hour.most,
        hour.last,
        Escaped(unit.unwrap_or_default().as_bytes()),
    );
    text.trim_end().to_owned() + "\n"
}

fn nanoseconds(time: &Time) -> u64 {
    time.nanoseconds().unwrap_or_default()
}

fn date_and_time(time: &Time) -> String {
    Clock::of_wall_time().date_and_time(Moment(nanoseconds(time)))
}

fn process(process: &HistoryProcess) -> String {
    let comm = escaped(&process.comm, process.comm_bytes.as_ref());
    format!("{comm}[{}]", process.pid)
}

/// Returns a text escaped for a terminal, from its bytes if it is not UTF-8.
fn escaped(text: &str, bytes: Option<&Hexadecimal>) -> String {
    match bytes.and_then(Hexadecimal::bytes) {
        Some(bytes) => Escaped(&bytes).to_string(),
        None => Escaped(text.as_bytes()).to_string(),
    }
}

/// Appends spaces up to `width` columns of a terminal.
fn padded(text: &str, width: usize) -> String {
    let spaces = width.saturating_sub(text.width());
    format!("{text}{:spaces$}", "")
}
