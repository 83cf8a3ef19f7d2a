//! Findings for a person's eye. Colours are stripped later where there is no terminal.

use std::{collections::BTreeMap, fmt::Write as _};

use anstyle::{AnsiColor, Style};

use crate::escape::Escaped;
use fdwatch_core::diagnose::TableReport;
use fdwatch_core::growth::GrowthReport;
use fdwatch_core::growth::Pinned;
use fdwatch_core::{
    Lost,
    budget::Shedding,
    detail::{Frame, UNNAMED},
    device::major_minor,
    diagnose::{Descriptor, FileInfo, Finding, Link, ProcessInfo, Severity, numbers},
    duplicates::Change,
    model::{Moment, Statistics},
    plural::{counted, either, noun},
};
use fdwatch_events::BudgetReport;
use fdwatch_events::RunStats;
use fdwatch_events::ThresholdReport;
use fdwatch_events::time::{Clock, span};

const BOLD: Style = Style::new().bold();
pub const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// Width of the time in front of each line.
pub const MARGIN: &str = "          ";

pub fn finding(finding: &Finding, clock: &Clock, now: Moment) -> String {
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
    if finding.change == Change::Found
        && let Some(belongs) = belongs(&finding.process)
    {
        let _ = writeln!(text, "{MARGIN}  {DIM}{belongs}{DIM:#}");
    }
    let mut left_out = Vec::new();
    for (at, descriptor) in finding.fds.iter().enumerate() {
        if is_left_out(&finding.fds, at) {
            left_out.push(descriptor.fd);
            continue;
        }
        if !left_out.is_empty() {
            let these = numbers(&left_out);
            let _ = writeln!(
                text,
                "{MARGIN}  {DIM}and {} more: {these}{DIM:#}",
                left_out.len()
            );
            left_out.clear();
        }
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
        text.push_str(&way(descriptor, clock));
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
    for other in &finding.others {
        let _ = writeln!(
            text,
            "{MARGIN}  {}  {:<9}  in {}",
            descriptor_column(&other.fd),
            other.fd.origin,
            self::process(&other.process),
        );
    }
    if let Some(again) = &finding.closed_again {
        let _ = writeln!(
            text,
            "{MARGIN}{DIM}! not open, and closed again at {}, by thread {}{DIM:#}",
            clock.time_of_day(again.at),
            again.tid,
        );
        text.push_str(&stack("in", &again.stack));
    }
    if finding.more_closed > 0 {
        let _ = writeln!(
            text,
            "{MARGIN}{DIM}- {} more {} closed{DIM:#}",
            finding.more_closed,
            either(&finding.more_closed, "was", "were"),
        );
    }
    if finding.change == Change::Found {
        let _ = writeln!(text, "{MARGIN}{DIM}> {}{DIM:#}", finding.advice);
    }
    text
}

/// Descriptors of a finding that are shown at its beginning and at its end, where it has very many.
const SHOWN: usize = 4;

/// Whether this one is told by its number alone: with so many, of those that may be used as the one before.
/// A leak has hundreds of them, and is told again with each.
fn is_left_out(fds: &[Descriptor], at: usize) -> bool {
    let last = fds.len().saturating_sub(SHOWN);
    let how = |fd: &Descriptor| (fd.access, fd.append);
    at >= SHOWN
        && at < last
        && fds.len() > 4 * SHOWN
        && fds.get(at).map(how) == fds.get(at - 1).map(how)
}

/// How the descriptor was made and closed, if that is known: a line for the path and one for each
/// stack.
fn detail(descriptor: &Descriptor) -> String {
    let mut text = String::new();
    if let Some(path) = &descriptor.asked_path {
        let _ = writeln!(text, "{MARGIN}{DIM}        as {}{DIM:#}", Escaped(path));
    }
    text.push_str(&stack("in", &descriptor.stack));
    text.push_str(&stack("closed in", &descriptor.closed_stack));
    text
}

/// A stack, as a line; nothing, if there is none.
pub fn stack(what: &str, frames: &[Frame]) -> String {
    /// Frames that are shown; JSON has all.
    const MAX: usize = 8;
    if frames.is_empty() {
        return String::new();
    }
    let more = frames.len().saturating_sub(MAX);
    let more = if more > 0 {
        format!(" < {more} more")
    } else {
        String::new()
    };
    let frames: Vec<_> = frames.iter().take(MAX).map(frame).collect();
    format!(
        "{MARGIN}{DIM}        {what} {}{more}{DIM:#}\n",
        frames.join(" < ")
    )
}

/// How the descriptor came to the process, and what it outlives: a line each.
fn way(descriptor: &Descriptor, clock: &Clock) -> String {
    let mut text = String::new();
    if !descriptor.chain.is_empty() {
        let links: Vec<_> = descriptor
            .chain
            .iter()
            .map(|link| self::link(link, clock))
            .collect();
        let _ = writeln!(text, "{MARGIN}{DIM}        by {}{DIM:#}", links.join(", "));
    }
    if let Some(role) = &descriptor.role {
        let _ = writeln!(
            text,
            "{MARGIN}{DIM}        {}{DIM:#}",
            Escaped(role.as_bytes())
        );
    }
    if let Some(connection) = descriptor.outlives() {
        let closed = connection.closed.unwrap_or_default();
        let _ = writeln!(
            text,
            "{MARGIN}{DIM}        outlives the connection it was opened for: {}, accepted just before by the same thread, closed at {}{DIM:#}",
            connection.fd,
            clock.time_of_day(closed),
        );
    }
    text
}

fn link(link: &Link, clock: &Clock) -> String {
    let at = link.at.map_or_else(
        || "before fdwatch".to_owned(),
        |at| format!("at {}", clock.time_of_day(at)),
    );
    let (who, pid) = (Escaped(&link.comm), link.pid);
    match link.how {
        "fork" => format!("forked to {who}[{pid}] {at}"),
        "exec" => format!("kept over exec of {who} {at}"),
        "unknown" => format!("{who}[{pid}] {at}"),
        how => format!("{how} in {who}[{pid}] {at}"),
    }
}

pub fn frame(frame: &Frame) -> String {
    let Some(place) = &frame.place else {
        return format!("{:#x}", frame.address);
    };
    if place.symbol == UNNAMED {
        let module = place.module.as_deref().map_or(&b"?"[..], base_name);
        return format!("{:#x} ({})", place.offset, Escaped(module));
    }
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

pub fn process(process: &ProcessInfo) -> String {
    format!("{}[{}]", Escaped(&process.comm), process.pid)
}

/// The path, or what it is that has none.
pub fn path_or_type(file: &FileInfo) -> String {
    match &file.path {
        Some(_) => path(file),
        None => format!("{} ({})", file.file_type.name(), path(file)),
    }
}

pub fn path(file: &FileInfo) -> String {
    let (major, minor) = major_minor(file.dev);
    let name = match &file.path {
        Some(path) => Escaped(path).to_string(),
        None => format!("inode {} on {major}:{minor}", file.ino),
    };
    let deleted = match file.pinned {
        Some(bytes) => format!(" (deleted, {} held)", size(bytes)),
        None if file.deleted => " (deleted)".to_owned(),
        None => String::new(),
    };
    format!("{name}{deleted}")
}

/// What a process belongs to, if anything is known of that.
pub fn belongs(process: &ProcessInfo) -> Option<String> {
    /// Digits of an id that tell it from others.
    const MAX_ID: usize = 12;
    let mut parts = Vec::new();
    if let Some((group, name)) = &process.supervisor {
        let name = format!("{group}:{name}");
        parts.push(format!("{} of supervisord", Escaped(name.as_bytes())));
    }
    if let Some(container) = &process.workload.container {
        let id: String = container.id.chars().take(MAX_ID).collect();
        let runtime = container.runtime.unwrap_or("container");
        parts.push(format!("{runtime} {}", Escaped(id.as_bytes())));
    }
    if let Some(pod) = &process.workload.pod_uid {
        parts.push(format!("pod {pod}"));
    }
    if let Some(unit) = process
        .workload
        .unit
        .as_ref()
        .filter(|_| process.workload.container.is_none())
    {
        parts.push(Escaped(unit.as_bytes()).to_string());
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// A size, for a person.
pub fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| bytes >> shift > 0);
    unit.map_or_else(
        || counted(bytes, "byte"),
        |(shift, unit)| {
            let tenths = bytes.saturating_mul(10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        },
    )
}

pub fn descriptor_column(descriptor: &Descriptor) -> String {
    let append = if descriptor.append { "a" } else { "" };
    let access = format!("{}{append}", descriptor.access.name());
    let cloexec = if descriptor.cloexec { "cloexec" } else { "" };
    format!("{:>5} {access:<4} {cloexec:<7}", descriptor.fd)
}

pub fn started(stats: &RunStats) -> String {
    format!(
        "watching {} of {}; Ctrl-C ends",
        counted(stats.descriptors, "descriptor"),
        counted(stats.processes, "process")
    )
}

pub fn loss(lost: &Lost, clock: &Clock, now: Moment) -> String {
    let time = clock.time_of_day(now);
    let kinds: Vec<_> = lost
        .by_kind()
        .map(|(kind, lost)| format!("{kind} {lost}"))
        .collect();
    format!(
        "{DIM}{time}{DIM:#}  {RED}LOST{RED:#}     {} since the start ({}): tables may be wrong until they are audited; \
         use a larger --ring-size\n",
        counted(lost.total(), "record"),
        kinds.join(", "),
    )
}

pub fn growth(report: &GrowthReport, clock: &Clock, now: Moment) -> String {
    let time = clock.time_of_day(now);
    let process = process(&report.process);
    let limit = report
        .process
        .fd_limit
        .map_or_else(String::new, |most| format!(" of {most}"));
    let open = counted(report.open, "descriptor");
    let Some(trend) = &report.trend else {
        return format!(
            "{DIM}{time}{DIM:#}  {GREEN}STEADY {GREEN:#}            {process}  {open}{limit}, and no more of them\n"
        );
    };
    let style = if trend.severity == Severity::Critical {
        RED
    } else {
        YELLOW
    };
    let left = trend
        .left
        .map_or_else(String::new, |left| format!(": none left in {}", span(left)));
    let mut text = format!(
        "{DIM}{time}{DIM:#}  {style}GROWS  {style:#}  {:<8}  {process}  {open}{limit}, {} more an hour{left}\n",
        trend.severity.name(),
        trend.per_hour,
    );
    let _ = writeln!(
        text,
        "{MARGIN}  {DIM}more: {}; by origin {}{DIM:#}",
        counts(&trend.more.by_type),
        counts(&trend.more.by_origin),
    );
    if report.pinned.files > 0 {
        let _ = writeln!(text, "{MARGIN}  {DIM}{}{DIM:#}", pinned(report.pinned));
    }
    text
}

/// The space that deleted files take.
pub fn pinned(Pinned { files, bytes }: Pinned) -> String {
    let hold = either(&files, "holds", "hold");
    format!("{} {hold} {}", counted(files, "deleted file"), size(bytes))
}

pub fn threshold(report: &ThresholdReport, clock: &Clock, now: Moment) -> String {
    let time = clock.time_of_day(now);
    let process = process(&report.process);
    let of = report.of.name();
    let (value, most) = (report.value, report.threshold);
    let severity = report.severity.name();
    if report.change == Change::Gone {
        return format!(
            "{DIM}{time}{DIM:#}  {GREEN}WITHIN {GREEN:#}  {severity:<8}  {process}  {of} {value}, of {most}\n"
        );
    }
    let style = if report.severity == Severity::Critical {
        RED
    } else {
        YELLOW
    };
    format!(
        "{DIM}{time}{DIM:#}  {style}BEYOND {style:#}  {severity:<8}  {process}  {of} {value}, more than {most}\n"
    )
}

/// Counts by name, the most first.
pub fn counts(counts: &BTreeMap<&'static str, usize>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|&(name, &count)| (std::cmp::Reverse(count), *name));
    let words: Vec<_> = sorted
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    words.join(", ")
}

pub fn budget(report: &BudgetReport, clock: &Clock, now: Moment) -> String {
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
                    "of these there are only snapshots, which are not exact: {}",
                    pids.join(" ")
                )
            };
            format!("audits again, and the busiest processes are not followed; {whom}")
        }
    };
    format!(
        "{DIM}{time}{DIM:#}  {RED}BUDGET{RED:#}   {percent_used:.1} % of a processor used, more than {percent} (--max-cpu): {what}\n"
    )
}

pub fn table(table: &TableReport) -> String {
    let mut text = format!(
        "{BOLD}{}{BOLD:#}  {}{}\n",
        process(&table.process),
        counted(table.fds.len(), "descriptor"),
        table
            .process
            .fd_limit
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
        let role = descriptor.role.as_ref();
        let role = role.map_or_else(String::new, |role| {
            format!("  {DIM}{}{DIM:#}", Escaped(role.as_bytes()))
        });
        let _ = writeln!(
            text,
            "{}  {:<9}  {:<9}  {}{role}",
            descriptor_column(descriptor),
            descriptor.origin,
            file.file_type.name(),
            path(file),
        );
    }
    text
}

pub fn summary(stats: &RunStats) -> String {
    let usage = stats.usage;
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let megabytes = usage.peak_rss as f64 / f64::from(1 << 20);
    let lost = stats.lost_in_all();
    let mut text = format!(
        "{}, lost {lost}, in {}; {} found, {} changed, {} gone; {} of {}; \
         own cost: {:.2} s CPU, {megabytes:.1} MiB",
        counted(stats.statistics.events(), "event"),
        span(stats.duration),
        stats.found,
        stats.changed,
        stats.gone,
        counted(stats.descriptors, "descriptor"),
        counted(stats.processes, "process"),
        usage.user + usage.system,
    );
    let drift = stats.statistics.drift;
    let _ = write!(
        text,
        "; drift {} in {}",
        drift.total(),
        counted(drift.audits, "audit")
    );
    let Statistics {
        contested,
        contested_otherwise,
        ..
    } = stats.statistics;
    if contested > 0 {
        let _ = write!(
            text,
            "; contested {contested}, {contested_otherwise} otherwise"
        );
    }
    if stats.shedding != Shedding::Nothing || stats.most_not_followed > 0 {
        let _ = write!(
            text,
            "; left undone at the end: {}; not followed at once, at the most: {}",
            stats.shedding.name(),
            counted(stats.most_not_followed, "process")
        );
    }
    let unreadable = stats.unreadable_processes;
    let unfitting = [
        (
            unreadable,
            noun(&unreadable, "process") + " could not be read",
        ),
        (stats.malformed, noun(&stats.malformed, "malformed record")),
        left_out(stats),
    ];
    for (count, what) in unfitting.into_iter().filter(|&(count, _)| count > 0) {
        let _ = write!(text, "; {count} {what}");
    }
    text
}

/// How much of detail there was no room for, and what it is called.
pub fn left_out(stats: &RunStats) -> (u64, String) {
    let count = stats.lost.detail_left_out();
    let what = either(&count, "stack or path", "stacks and paths");
    (count, format!("{what} left out"))
}
