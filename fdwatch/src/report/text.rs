//! Findings for a person's eye. Colours are stripped later where there is no terminal.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::{
    Account, BudgetReport, TableReport,
    escape::Escaped,
    time::{Clock, span},
};
use crate::{
    budget::Shedding,
    detail::Frame,
    diagnose::{Descriptor, FileInfo, Finding, ProcessInfo, Severity},
    duplicates::Change,
    model::{Moment, Statistics},
    probe::Lost,
    proc::major_minor,
};

const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// Width of the time in front of each line.
pub(super) const MARGIN: &str = "          ";

pub(super) fn finding(finding: &Finding, clock: &Clock, now: Moment) -> String {
    let mut text = String::new();
    let (word, style) = match (finding.change, finding.severity) {
        (Change::Gone, _) => ("GONE", GREEN),
        (Change::Found, Severity::Critical) => ("FOUND", RED),
        (Change::Found, _) => ("FOUND", YELLOW),
        (Change::Changed, Severity::Critical) => ("CHANGED", RED),
        (Change::Changed, _) => ("CHANGED", CYAN),
    };
    let time = clock.time_of_day(now);
    let severity = finding.severity.name();
    let process = process(&finding.process);
    let name = path(&finding.file);
    let cause = finding.cause.name();
    let _ = writeln!(
        text,
        "{DIM}{time}{DIM:#}  {style}{word:<7}{style:#}  {severity:<8}  {process}  {BOLD}{name}{BOLD:#}  ({cause}{})",
        history(finding),
    );
    for descriptor in &finding.fds {
        let since = descriptor.opened.map_or_else(
            || "before fdwatch".to_owned(),
            |opened| format!("at {}", clock.time_of_day(opened)),
        );
        let _ = writeln!(
            text,
            "{MARGIN}  {}  {:<9}  {since}{}{}",
            descriptor_column(descriptor),
            descriptor.origin,
            descriptor
                .tid
                .filter(|&tid| tid != finding.process.pid)
                .map_or_else(String::new, |tid| format!(", thread {tid}")),
            descriptor
                .other_file
                .as_ref()
                .map_or_else(String::new, |file| format!("  {}", path(file))),
        );
        text.push_str(&detail(descriptor));
    }
    for descriptor in &finding.closed {
        let lived = descriptor.closed.zip(descriptor.opened);
        let lived = lived.map_or_else(String::new, |(closed, opened)| {
            format!(" after {}", span(closed.since(opened)))
        });
        let at = descriptor.closed.unwrap_or_default();
        let _ = writeln!(
            text,
            "{MARGIN}{DIM}- {}  {:<9}  closed at {}{lived}{DIM:#}",
            descriptor_column(descriptor),
            descriptor.origin,
            clock.time_of_day(at),
        );
        text.push_str(&detail(descriptor));
    }
    if finding.more_closed > 0 {
        let _ = writeln!(
            text,
            "{MARGIN}{DIM}- {} more were closed{DIM:#}",
            finding.more_closed
        );
    }
    if finding.change == Change::Found {
        let _ = writeln!(text, "{MARGIN}{DIM}> {}{DIM:#}", finding.advice);
    }
    text
}

/// How the descriptor was made, if that is known: a line for the path and one for the stack.
fn detail(descriptor: &Descriptor) -> String {
    let mut text = String::new();
    if let Some(path) = &descriptor.asked_path {
        let _ = writeln!(text, "{MARGIN}{DIM}        as {}{DIM:#}", Escaped(path));
    }
    text + &stack(descriptor)
}

/// The line for the stack.
pub(super) fn stack(descriptor: &Descriptor) -> String {
    /// Frames that are shown; JSON has all.
    const MOST: usize = 8;
    let mut text = String::new();
    if !descriptor.stack.is_empty() {
        let frames = descriptor.stack.iter().take(MOST).map(frame);
        let more = descriptor.stack.len().saturating_sub(MOST);
        let more = if more > 0 {
            format!(" < {more} more")
        } else {
            String::new()
        };
        let frames: Vec<_> = frames.collect();
        let _ = writeln!(
            text,
            "{MARGIN}{DIM}        in {}{more}{DIM:#}",
            frames.join(" < ")
        );
    }
    text
}

fn frame(frame: &Frame) -> String {
    let Some(place) = &frame.place else {
        return format!("{:#x}", frame.address);
    };
    let name = Escaped(place.symbol.as_bytes());
    if let Some(file) = &place.file {
        let line = place
            .line
            .map_or_else(String::new, |line| format!(":{line}"));
        return format!("{name} ({}{line})", Escaped(base_name(file)));
    }
    match &place.module {
        Some(module) => format!("{name} ({})", Escaped(base_name(module))),
        None => name.to_string(),
    }
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn history(finding: &Finding) -> String {
    let mut history = String::new();
    if let Some(lifetime) = finding.lifetime {
        let _ = write!(history, ", lived {}", span(lifetime));
    }
    if finding.times > 1 {
        let _ = write!(history, ", {} times since last told", finding.times);
    }
    history
}

pub(super) fn process(process: &ProcessInfo) -> String {
    format!("{}[{}]", Escaped(&process.comm), process.pid)
}

/// The path, or what it is that has none.
pub(super) fn path_or_type(file: &FileInfo) -> String {
    match &file.path {
        Some(_) => path(file),
        None => format!("{} ({})", file.file_type.name(), path(file)),
    }
}

fn path(file: &FileInfo) -> String {
    let (major, minor) = major_minor(file.dev);
    let name = match &file.path {
        Some(path) => Escaped(path).to_string(),
        None => format!("inode {} on {major}:{minor}", file.ino),
    };
    let deleted = if file.deleted { " (deleted)" } else { "" };
    format!("{name}{deleted}")
}

pub(super) fn descriptor_column(descriptor: &Descriptor) -> String {
    let append = if descriptor.append { "a" } else { "" };
    let access = format!("{}{append}", descriptor.access.name());
    let cloexec = if descriptor.cloexec { "cloexec" } else { "" };
    format!("{:>5} {access:<4} {cloexec:<7}", descriptor.fd)
}

pub(super) fn started(account: &Account) -> String {
    format!(
        "watching {} descriptors of {} processes; Ctrl-C ends",
        account.descriptors, account.processes
    )
}

pub(super) fn loss(lost: &Lost, clock: &Clock, now: Moment) -> String {
    let time = clock.time_of_day(now);
    let kinds: Vec<_> = lost
        .by_kind()
        .map(|(kind, lost)| format!("{kind} {lost}"))
        .collect();
    format!(
        "{DIM}{time}{DIM:#}  {RED}LOST{RED:#}     {} records since the start ({}): tables may be wrong until they are audited; \
         use a larger --ring-size\n",
        lost.total(),
        kinds.join(", "),
    )
}

pub(super) fn budget(report: &BudgetReport, clock: &Clock, now: Moment) -> String {
    let time = clock.time_of_day(now);
    let &BudgetReport {
        shedding,
        percent,
        percent_used,
        ref not_followed,
    } = report;
    let what = match shedding {
        Shedding::Nothing => {
            return format!(
                "{DIM}{time}{DIM:#}  {GREEN}BUDGET{GREEN:#}   {percent_used:.1} % of a processor used: all is done again\n"
            );
        }
        Shedding::Detail => "no more stacks and paths".to_owned(),
        Shedding::Audits => "no more audits".to_owned(),
        Shedding::Busiest => {
            let pids: Vec<_> = not_followed.iter().map(u32::to_string).collect();
            let whom = if pids.is_empty() {
                "no process stands out".to_owned()
            } else {
                format!(
                    "not followed but by snapshots, and so not exact: {}",
                    pids.join(" ")
                )
            };
            format!("audits again; {whom}")
        }
    };
    format!(
        "{DIM}{time}{DIM:#}  {RED}BUDGET{RED:#}   {percent_used:.1} % of a processor used, more than {percent} (--max-cpu): {what}\n"
    )
}

pub(super) fn table(table: &TableReport) -> String {
    let mut text = format!(
        "{BOLD}{}{BOLD:#}  {} descriptors{}\n",
        process(&table.process),
        table.fds.len(),
        table
            .process
            .most_fds
            .map_or_else(String::new, |most| format!(" of {most}")),
    );
    if table.fds.is_empty() {
        return text;
    }
    let _ = writeln!(
        text,
        "{DIM}{:>5} {:<4} {:<7}  {:<9}  {:<9}  file{DIM:#}",
        "fd", "mode", "", "origin", "type"
    );
    for (descriptor, file) in &table.fds {
        let _ = writeln!(
            text,
            "{}  {:<9}  {:<9}  {}",
            descriptor_column(descriptor),
            descriptor.origin,
            file.file_type.name(),
            path(file),
        );
    }
    text
}

pub(super) fn summary(account: &Account) -> String {
    let usage = account.usage;
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let megabytes = usage.peak_rss as f64 / f64::from(1 << 20);
    let lost = account.lost_in_all();
    let mut text = format!(
        "{} events, lost {lost}, in {}; {} found, {} changed, {} gone; {} descriptors of {} processes; \
         own cost: {:.2} s CPU, {megabytes:.1} MiB",
        account.statistics.events(),
        span(account.duration),
        account.found,
        account.changed,
        account.gone,
        account.descriptors,
        account.processes,
        usage.user + usage.system,
    );
    let drift = account.statistics.drift;
    let _ = write!(text, "; drift {} in {} audits", drift.total(), drift.audits);
    let Statistics {
        contested,
        contested_otherwise,
        ..
    } = account.statistics;
    if contested > 0 {
        let _ = write!(
            text,
            "; contested {contested}, {contested_otherwise} otherwise"
        );
    }
    if account.shedding != Shedding::Nothing || account.most_not_followed > 0 {
        let _ = write!(
            text,
            "; left undone at the end: {}; not followed at once, at the most: {} processes",
            account.shedding.name(),
            account.most_not_followed
        );
    }
    let unfitting = [
        (account.unreadable_processes, "processes could not be read"),
        (account.malformed, "malformed records"),
        (account.lost.detail_left_out(), "stacks and paths left out"),
    ];
    for (count, what) in unfitting.into_iter().filter(|&(count, _)| count > 0) {
        let _ = write!(text, "; {count} {what}");
    }
    text
}
