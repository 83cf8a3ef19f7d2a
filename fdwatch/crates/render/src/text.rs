//! Human-readable text. Colours are removed later if the output is not a terminal.

use std::{collections::BTreeMap, fmt::Write as _};

use anstyle::{AnsiColor, Style};
use fdwatch_core::{
    Lost,
    budget::ShedLevel,
    detail::{Frame, UNNAMED},
    device::major_minor,
    diagnose::{Descriptor, FileInfo, Finding, Link, ProcessInfo, Severity, TableReport, numbers},
    duplicates::Change,
    growth::{GrowthReport, Pinned},
    model::Moment,
    plural::{counted, either, noun, thousands},
};
use fdwatch_events::{
    BudgetReport, RunStats, ThresholdReport,
    time::{Clock, span},
};

use crate::escape::Escaped;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// Returns the colour of a severity.
pub(crate) const fn severity_style(severity: Option<Severity>) -> Style {
    match severity {
        Some(Severity::Critical) => RED,
        Some(Severity::Warning) => YELLOW,
        Some(Severity::Info) => CYAN,
        None => Style::new(),
    }
}

/// Returns the start of each line of text: when, what happened, the severity, and the process.
fn head(at: &str, style: Style, word: &str, severity: &str, process: &ProcessInfo) -> String {
    let process = self::process(process);
    format!("{DIM}{at}{DIM:#}  {style}{word:<7}{style:#}  {severity:<8}  {process}")
}

/// Indentation by the width of the time.
pub(crate) const MARGIN: &str = "          ";

/// Returns a finding: a line for it, one or more for each descriptor, and one of advice.
pub(crate) fn finding(finding: &Finding, clock: &Clock, now: Moment) -> String {
    let mut text = String::new();
    let (word, style) = match (finding.change, finding.severity) {
        (Change::Gone, _) => ("GONE", GREEN),
        (Change::Found, Severity::Critical) => ("FOUND", RED),
        (Change::Found, _) => ("FOUND", YELLOW),
        (Change::Changed, Severity::Critical) => ("CHANGED", RED),
        (Change::Changed, _) => ("CHANGED", CYAN),
    };
    let head = head(
        &clock.time_of_day(now),
        style,
        word,
        finding.severity.name(),
        &finding.process,
    );
    let (name, cause) = (path(&finding.file), finding.cause.name());
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{head}  {BOLD}{name}{BOLD:#}  ({cause}{})",
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
        text.push_str(&lineage(descriptor, clock));
    }
    if finding.more_fds > 0 {
        let more = counted(finding.more_fds, "more descriptor");
        let _ = writeln!(text, "{MARGIN}  {DIM}{more} in between{DIM:#}");
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
            process(&other.process),
        );
    }
    if let Some(again) = &finding.closed_again {
        let _ = writeln!(
            text,
            "{MARGIN}{DIM}! closed again at {} by thread {}, although it was not open{DIM:#}",
            clock.time_of_day(again.at),
            again.tid,
        );
        text.push_str(&stack("in", &again.stack));
    }
    if finding.more_closed > 0 {
        let _ = writeln!(
            text,
            "{MARGIN}{DIM}- {} more closed{DIM:#}",
            finding.more_closed,
        );
    }
    if finding.change == Change::Found {
        let _ = writeln!(text, "{MARGIN}{DIM}> {}{DIM:#}", finding.advice);
    }
    text
}

/// Descriptors shown at each end of a long list.
const SHOWN: usize = 4;

/// Returns whether only the number of the descriptor is shown: in the middle of a long list, with the
/// same mode as the one before. A leak has hundreds of descriptors, and changes with each.
fn is_left_out(fds: &[Descriptor], at: usize) -> bool {
    let last = fds.len().saturating_sub(SHOWN);
    let how = |fd: &Descriptor| (fd.access, fd.append);
    at >= SHOWN
        && at < last
        && fds.len() > 4 * SHOWN
        && fds.get(at).map(how) == fds.get(at - 1).map(how)
}

/// Returns the detail of a descriptor: a line for the path, and one for each stack.
fn detail(descriptor: &Descriptor) -> String {
    let mut text = String::new();
    if let Some(path) = &descriptor.asked_path {
        let _ = writeln!(text, "{MARGIN}{DIM}        as {}{DIM:#}", Escaped(path));
    }
    text.push_str(&stack("in", &descriptor.stack));
    text.push_str(&stack("closed in", &descriptor.closed_stack));
    text
}

/// Returns a stack as a line, or an empty string for an empty stack.
pub(crate) fn stack(what: &str, frames: &[Frame]) -> String {
    /// Frames shown; JSON has all.
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

/// Returns how a descriptor reached its process, its role, and the closed connection it was opened
/// for: a line each.
fn lineage(descriptor: &Descriptor, clock: &Clock) -> String {
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
            "{MARGIN}{DIM}        still open although its connection (fd {}, accepted by the same thread) was closed at {}{DIM:#}",
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
        "exec" => format!("kept across exec of {who} {at}"),
        "unknown" => format!("{who}[{pid}] {at}"),
        how => format!("{how} in {who}[{pid}] {at}"),
    }
}

/// Returns a frame of a stack: the function and where it is from.
pub(crate) fn frame(frame: &Frame) -> String {
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
        let _ = write!(history, ", {} times", finding.times);
    }
    history
}

/// Returns the name and ID of a process.
#[must_use]
pub fn process(process: &ProcessInfo) -> String {
    format!("{}[{}]", Escaped(&process.comm), process.pid)
}

/// Returns the path of a file, or its type if it has none.
pub(crate) fn path_or_type(file: &FileInfo) -> String {
    match &file.path {
        Some(_) => path(file),
        None => format!("{} ({})", file.file_type.name(), path(file)),
    }
}

/// Returns the path of a file, or its identity if the path is unknown.
#[must_use]
pub fn path(file: &FileInfo) -> String {
    let (major, minor) = major_minor(file.dev);
    let name = match &file.path {
        Some(path) => Escaped(path).to_string(),
        None => format!("inode {} on {major}:{minor}", file.ino),
    };
    let deleted = match file.pinned {
        Some(bytes) => format!(" (deleted, occupies {})", size(bytes)),
        None if file.deleted => " (deleted)".to_owned(),
        None => String::new(),
    };
    format!("{name}{deleted}")
}

/// Returns what a process belongs to: supervisord program, container, pod or unit.
pub(crate) fn belongs(process: &ProcessInfo) -> Option<String> {
    /// Digits of an ID that are shown.
    const MAX_ID: usize = 12;
    let mut parts = Vec::new();
    if let Some((group, name)) = &process.supervisor {
        let name = format!("{group}:{name}");
        parts.push(format!("supervisord {}", Escaped(name.as_bytes())));
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

/// Returns a size in its largest unit.
#[must_use]
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

/// Returns the number and mode of a descriptor.
pub(crate) fn descriptor_column(descriptor: &Descriptor) -> String {
    let append = if descriptor.append { "a" } else { "" };
    let access = format!("{}{append}", descriptor.access.name());
    let cloexec = if descriptor.cloexec { "cloexec" } else { "" };
    format!("{:>5} {access:<4} {cloexec:<7}", descriptor.fd)
}

/// Returns the line at the start of a watch.
#[must_use]
pub fn started(stats: &RunStats) -> String {
    format!(
        "watching {} of {}; press Ctrl-C to stop\n",
        large_count(stats.descriptors as u64, "descriptor"),
        large_count(stats.processes as u64, "process")
    )
}

/// Returns a line for lost records.
pub(crate) fn loss(lost: &Lost, clock: &Clock, now: Moment) -> String {
    let time = clock.time_of_day(now);
    let kinds: Vec<_> = lost
        .by_kind()
        .map(|(kind, lost)| format!("{kind} {lost}"))
        .collect();
    format!(
        "{DIM}{time}{DIM:#}  {RED}LOST{RED:#}     {} since the start ({}); tables may be wrong until the next audit: \
         increase --ring-size\n",
        large_count(lost.total(), "record"),
        kinds.join(", "),
    )
}

/// Returns a growth: a line for it, one for what was added, and one for deleted files.
pub(crate) fn growth(report: &GrowthReport, clock: &Clock, now: Moment) -> String {
    let time = clock.time_of_day(now);
    let open = open_of_limit(report.open as u64, report.process.fd_limit);
    let Some(trend) = &report.trend else {
        let head = head(&time, GREEN, "STEADY", "", &report.process);
        return format!("{head}  {open}, no longer growing\n");
    };
    let style = urgency_style(trend.severity);
    let severity = trend.severity.name();
    let head = head(&time, style, "GROWING", severity, &report.process);
    let left = trend.left.map_or_else(String::new, |left| {
        format!(", limit reached in {}", rounded(left))
    });
    let mut text = format!("{head}  {open}, +{}/h{left}\n", thousands(trend.per_hour));
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{MARGIN}  {DIM}new: {}; by origin {}{DIM:#}",
        counts(&trend.more.by_type),
        counts(&trend.more.by_origin),
    );
    if report.pinned.files > 0 {
        let _ = writeln!(text, "{MARGIN}  {DIM}{}{DIM:#}", pinned(report.pinned));
    }
    text
}

/// Returns how many descriptors are open, and the limit if it is known.
pub(crate) fn open_of_limit(open: u64, limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!(
            "{} of {}",
            thousands(open),
            large_count(limit, "descriptor")
        ),
        None => large_count(open, "descriptor"),
    }
}

/// Returns a count with its noun, such as `1,232 descriptors`.
#[must_use]
pub fn large_count(count: u64, noun: &str) -> String {
    format!("{} {}", thousands(count), self::noun(&count, noun))
}

/// Returns a span of time for an estimate: seconds below a minute have no fraction.
#[must_use]
pub fn rounded(nanoseconds: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    match nanoseconds.saturating_add(SECOND / 2) / SECOND {
        seconds @ 0..60 => format!("{seconds} s"),
        _ => span(nanoseconds),
    }
}

const fn urgency_style(severity: Severity) -> Style {
    match severity {
        Severity::Critical => RED,
        Severity::Warning | Severity::Info => YELLOW,
    }
}

/// Returns the space that deleted files occupy.
pub(crate) fn pinned(Pinned { files, bytes }: Pinned) -> String {
    let verb = either(&files, "occupies", "occupy");
    format!("{} {verb} {}", counted(files, "deleted file"), size(bytes))
}

/// Returns a line for a threshold that is exceeded, or no longer exceeded.
pub(crate) fn threshold(report: &ThresholdReport, clock: &Clock, now: Moment) -> String {
    let (word, style) = match report.change {
        Change::Gone => ("NORMAL", GREEN),
        Change::Found | Change::Changed => ("ABOVE", urgency_style(report.severity)),
    };
    let time = clock.time_of_day(now);
    let head = head(&time, style, word, report.severity.name(), &report.process);
    let (of, value, threshold) = (report.of.name(), report.value, report.threshold);
    format!("{head}  {of} {value} (threshold {threshold})\n")
}

/// Returns counts by name, largest first.
pub(crate) fn counts(counts: &BTreeMap<&'static str, usize>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|&(name, &count)| (std::cmp::Reverse(count), *name));
    let words: Vec<_> = sorted
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    words.join(", ")
}

/// Returns a line for a change of the skipped work.
pub(crate) fn budget(report: &BudgetReport, clock: &Clock, now: Moment) -> String {
    let time = clock.time_of_day(now);
    let &BudgetReport {
        shedding,
        percent,
        percent_used,
        ref not_followed,
    } = report;
    let skipped = match shedding {
        ShedLevel::Nothing => {
            return format!(
                "{DIM}{time}{DIM:#}  {GREEN}BUDGET{GREEN:#}   used {percent_used:.1} % of a CPU: no work is skipped\n"
            );
        }
        ShedLevel::Detail => "skipping stacks and paths".to_owned(),
        ShedLevel::Audits => "skipping stacks, paths and audits".to_owned(),
        ShedLevel::Busiest => {
            let pids: Vec<_> = not_followed.iter().map(u32::to_string).collect();
            let which = if pids.is_empty() {
                "none".to_owned()
            } else {
                pids.join(" ")
            };
            format!(
                "skipping stacks and paths; the busiest processes are covered by audits only: {which}"
            )
        }
    };
    format!(
        "{DIM}{time}{DIM:#}  {RED}BUDGET{RED:#}   used {percent_used:.1} % of a CPU, limit {percent} % (--max-cpu): {skipped}\n"
    )
}

/// Returns a table: a line for the process, and one for each descriptor.
pub(crate) fn table(table: &TableReport) -> String {
    let mut text = format!(
        "{BOLD}{}{BOLD:#}  {}\n",
        process(&table.process),
        open_of_limit(table.fds.len() as u64, table.process.fd_limit),
    );
    if table.fds.is_empty() {
        return text;
    }
    // Writing to a string does not fail.
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

/// Returns the totals of a run: a line of results and cost, and one for each problem.
#[must_use]
pub fn summary(stats: &RunStats) -> String {
    let lost = match stats.lost_in_all() {
        0 => "none lost".to_owned(),
        lost => format!("{} lost (increase --ring-size)", thousands(lost)),
    };
    let usage = stats.usage;
    let mut text = format!(
        "{}, {lost}. {}. Used {:.2} s CPU, {}.\n",
        large_count(stats.statistics.events(), "event"),
        findings(stats),
        usage.user + usage.system,
        size(usage.peak_rss),
    );
    let mut problem = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    let skipped = skipped(stats);
    if !skipped.is_empty() {
        problem(format!("budget exceeded: {}", skipped.join(", ")));
    } else if stats.lost.detail_left_out() > 0 {
        problem(dropped_detail(stats));
    }
    let drift = stats.statistics.drift;
    if drift.total() > 0 {
        problem(format!(
            "drift: {} in {}",
            large_count(drift.total(), "descriptor"),
            large_count(drift.audits, "audit")
        ));
    }
    if stats.unreadable_processes > 0 {
        let processes = large_count(stats.unreadable_processes, "process");
        problem(format!("{processes} could not be read"));
    }
    if stats.malformed > 0 {
        problem(large_count(stats.malformed, "malformed record"));
    }
    let unreported = stats.unreported;
    if unreported.files > 0 {
        let files = large_count(unreported.files as u64, "file");
        let processes = large_count(unreported.processes as u64, "process");
        problem(format!(
            "too many findings: {files} of {processes} not reported"
        ));
    }
    if unreported.double_closes > 0 {
        let closes = large_count(unreported.double_closes, "double close");
        problem(format!(
            "too many double closes at once: {closes} not reported"
        ));
    }
    if unreported.rotation_checks > 0 {
        let descriptors = large_count(unreported.rotation_checks, "descriptor");
        problem(format!(
            "{descriptors} not checked for rotation: too many at once"
        ));
    }
    text
}

/// Returns how many findings appeared, by severity.
fn findings(stats: &RunStats) -> String {
    if stats.found == 0 {
        return "No findings".to_owned();
    }
    let severities = [Severity::Critical, Severity::Warning, Severity::Info];
    let counts = severities.map(|severity| (stats.severities[severity as usize], severity.name()));
    let counts = counts.into_iter().filter(|&(count, _)| count > 0);
    let counts: Vec<_> = counts
        .map(|(count, name)| format!("{} {name}", thousands(count)))
        .collect();
    let findings = large_count(stats.found, "finding");
    format!("{findings} ({})", counts.join(", "))
}

/// Returns the work that was skipped to stay within the budget.
fn skipped(stats: &RunStats) -> Vec<String> {
    let mut skipped = Vec::new();
    match stats.shedding {
        ShedLevel::Nothing => {}
        ShedLevel::Detail => skipped.push("stacks and paths skipped".to_owned()),
        ShedLevel::Audits => skipped.push("audits skipped".to_owned()),
        ShedLevel::Busiest => skipped.push("busiest processes skipped".to_owned()),
    }
    if stats.most_not_followed > 0 {
        skipped.push(format!(
            "up to {} covered by audits only",
            large_count(stats.most_not_followed as u64, "process")
        ));
    }
    if !skipped.is_empty() && stats.lost.detail_left_out() > 0 {
        skipped.push(dropped_detail(stats));
    }
    skipped
}

/// Returns how many stacks and paths were dropped.
pub(crate) fn dropped_detail(stats: &RunStats) -> String {
    let count = stats.lost.detail_left_out();
    let what = either(&count, "stack or path", "stacks and paths");
    format!("{} {what} dropped", thousands(count))
}
