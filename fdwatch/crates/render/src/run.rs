//! What came of a command that was run: for a person, and for programs.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::{
    escape::Escaped,
    text::{self, DIM, MARGIN},
};
use fdwatch_core::{
    leaks::{Group, Kind},
    plural::{counted, either, noun},
};
use fdwatch_events::{RunReport, time::Clock};

const BOLD: Style = Style::new().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// A group of leaks.
pub fn leak(group: &Group, clock: &Clock) -> String {
    let told = &group.first;
    let mut text = String::new();
    let time = clock.time_of_day(told.at);
    let process = text::process(&told.process);
    let name = text::path_or_type(&told.file);
    let kind = told.kind.name();
    let into: Vec<_> = group.into.iter().map(text::process).collect();
    let into = match told.kind {
        Kind::AtExit => String::new(),
        Kind::OverExec => format!("  into {}", into.join(", ")),
    };
    let _ = writeln!(
        text,
        "{DIM}{time}{DIM:#}  {YELLOW}LEAKED {YELLOW:#}  {kind:<8}  {process}  {BOLD}{name}{BOLD:#}{into}{}",
        times(group)
    );
    let descriptor = &told.descriptor;
    let opened = descriptor.opened.map_or_else(String::new, |opened| {
        format!("at {}", clock.time_of_day(opened))
    });
    let thread = descriptor.tid.filter(|&tid| tid != told.process.pid);
    let thread = thread.map_or_else(String::new, |tid| format!(", thread {tid}"));
    let _ = writeln!(
        text,
        "{MARGIN}  {}  {:<9}  {opened}{thread}",
        text::descriptor_column(descriptor),
        descriptor.origin,
    );
    text.push_str(&text::stack("in", &descriptor.stack));
    if !group.other_paths.is_empty() {
        let paths = group
            .other_paths
            .iter()
            .map(|path| Escaped(path).to_string());
        let paths: Vec<_> = paths.collect();
        let _ = writeln!(
            text,
            "{MARGIN}{DIM}        also {}{DIM:#}",
            paths.join(", ")
        );
    }
    let advice = match told.kind {
        Kind::AtExit => "close it where it is no longer needed",
        Kind::OverExec => "open it with O_CLOEXEC, or close it before another program is run",
    };
    let _ = writeln!(text, "{MARGIN}{DIM}> {advice}{DIM:#}");
    text
}

fn times(group: &Group) -> String {
    match (group.count, group.processes) {
        (0 | 1, _) => String::new(),
        (count, 0 | 1) => format!("  ({count} times)"),
        (count, processes) => format!("  ({count} times, in {processes} processes)"),
    }
}

/// All of it in one line.
pub fn summary(report: &RunReport) -> String {
    let at_exit = report.fold.count(Kind::AtExit);
    let over_exec = report.fold.count(Kind::OverExec);
    let mut text = format!(
        "{}; descriptors left open at exit: {at_exit}, let into other programs: {over_exec}, files held twice: {}",
        counted(report.processes, "process"),
        report.duplicates.len(),
    );
    if !report.running.is_empty() {
        /// Of so many the names.
        const MAX: usize = 8;
        let names: Vec<_> = report.running.iter().take(MAX).map(text::process).collect();
        let more = report.running.len().saturating_sub(MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let _ = write!(text, "; still running: {}{more}", names.join(", "));
    }
    let stats = &report.stats;
    let (lost, mappings) = (stats.lost_in_all(), report.mappings_lost);
    let more = report.more_leaks + report.more_duplicates;
    let others = [
        (report.ignored, "ignored".to_owned()),
        (
            more,
            format!("more that {} not told", either(&more, "is", "are")),
        ),
        (
            lost,
            format!(
                "{} lost, so that this may be wrong: use a larger --ring-size",
                either(&lost, "event was", "events were")
            ),
        ),
        text::left_out(stats),
        (
            mappings,
            noun(&mappings, "mapping") + " lost, so that names are missing",
        ),
        (stats.malformed, noun(&stats.malformed, "malformed record")),
    ];
    for (count, what) in others.into_iter().filter(|&(count, _)| count > 0) {
        let _ = write!(text, "; {count} {what}");
    }
    text
}
