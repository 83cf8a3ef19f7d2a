//! Text of the results of a command.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::{
    escape::Escaped,
    text::{self, BOLD, DIM, MARGIN},
};
use fdwatch_core::{
    diagnose::ProcessInfo,
    leaks::{LeakGroup, LeakKind},
    plural::{either, thousands},
};
use fdwatch_events::{RunReport, time::Clock};

const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Returns a leak: a line for it, one or more for the descriptor, and one of advice.
pub(crate) fn leak(group: &LeakGroup, clock: &Clock) -> String {
    let first = &group.first;
    let mut text = String::new();
    let time = clock.time_of_day(first.at);
    let process = text::process(&first.process);
    let name = text::path_or_type(&first.file);
    let kind = first.kind.name();
    let into: Vec<_> = group.into.iter().map(text::process).collect();
    let into = match first.kind {
        LeakKind::AtExit => String::new(),
        LeakKind::AcrossExec => format!("  into {}", into.join(", ")),
    };
    let _ = writeln!(
        text,
        "{DIM}{time}{DIM:#}  {YELLOW}LEAKED {YELLOW:#}  {kind:<8}  {process}  {BOLD}{name}{BOLD:#}{into}{}",
        times(group)
    );
    let descriptor = &first.descriptor;
    let opened = descriptor.opened.map_or_else(String::new, |opened| {
        format!("at {}", clock.time_of_day(opened))
    });
    let thread = descriptor.tid.filter(|&tid| tid != first.process.pid);
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
    let advice = match first.kind {
        LeakKind::AtExit => "close it where it is no longer needed",
        LeakKind::AcrossExec => {
            "open it with O_CLOEXEC, or close it before running another program"
        }
    };
    let _ = writeln!(text, "{MARGIN}{DIM}> {advice}{DIM:#}");
    text
}

fn times(group: &LeakGroup) -> String {
    match (group.count, group.processes) {
        (0 | 1, _) => String::new(),
        (count, 0 | 1) => format!("  ({count} times)"),
        (count, processes) => format!("  ({count} times, in {processes} processes)"),
    }
}

/// Returns the totals in one line.
pub(crate) fn summary(report: &RunReport) -> String {
    let mut sentences = vec![text::large_count(report.processes, "process")];
    let results = results(report);
    sentences.push(if results.is_empty() {
        "Nothing leaked".to_owned()
    } else {
        results.join(", ")
    });
    if report.ignored > 0 {
        sentences.push(format!("{} ignored", thousands(report.ignored)));
    }
    let more = report.more_leaks + report.more_duplicates;
    if more > 0 {
        sentences.push(format!("{} more not listed", thousands(more)));
    }
    let lost = report.stats.lost_in_all();
    if lost > 0 {
        let events = text::large_count(lost, "event");
        sentences.push(format!(
            "{events} lost, results may be incomplete: increase --ring-size"
        ));
    }
    if report.stats.lost.detail_left_out() > 0 {
        sentences.push(text::dropped_detail(&report.stats));
    }
    if report.mappings_lost > 0 {
        let mappings = text::large_count(report.mappings_lost, "mapping");
        sentences.push(format!("{mappings} lost, some functions lack names"));
    }
    if report.stats.malformed > 0 {
        let malformed = text::large_count(report.stats.malformed, "malformed record");
        sentences.push(malformed);
    }
    if !report.running.is_empty() {
        sentences.push(running(&report.running));
    }
    sentences.join(". ") + "."
}

/// Returns the number of leaks and duplicates, by kind.
fn results(report: &RunReport) -> Vec<String> {
    let at_exit = report.fold.count(LeakKind::AtExit);
    let over_exec = report.fold.count(LeakKind::AcrossExec);
    let duplicates = report.duplicates.len() as u64;
    let mut results = Vec::new();
    let mut add = |count: u64, noun: &str, what: &str| {
        if count > 0 {
            // The noun is printed only with the first count.
            let count = if noun == "descriptor" && !results.is_empty() {
                thousands(count)
            } else {
                text::large_count(count, noun)
            };
            results.push(format!("{count} {what}"));
        }
    };
    add(at_exit, "descriptor", "left open at exit");
    let programs = either(
        &over_exec,
        "passed to another program",
        "passed to other programs",
    );
    add(over_exec, "descriptor", programs);
    add(duplicates, "file", "open twice");
    results
}

/// Returns the processes that are still running.
fn running(running: &[ProcessInfo]) -> String {
    /// Maximum number of processes that are named.
    const MAX: usize = 8;
    let names: Vec<_> = running.iter().take(MAX).map(text::process).collect();
    let more = match running.len().saturating_sub(MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("Still running: {}{more}", names.join(", "))
}
