//! Findings as JSON, one object per line. Lossless: what is not UTF-8 stands beside its path in
//! hexadecimal.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

use serde::Serialize;

use super::{
    Account, BudgetReport, RunReport, TableReport,
    time::{Clock, seconds, tenths},
};
use crate::{
    detail::Frame,
    diagnose::{Descriptor, FileInfo, Finding, ProcessInfo},
    duplicates::Change,
    leaks::{Group, Kind},
    model::Moment,
    probe::Lost,
    proc::major_minor,
};

/// Version of all objects' form. Fields may be added within one.
pub(super) const SCHEMA: u32 = 1;

/// What makes JSON of findings.
#[derive(Debug)]
pub(super) struct Json {
    host: String,
    /// Descriptions are told apart by a hash of their address, with a key of this process's own: the
    /// address itself would help whoever attacks the kernel.
    descriptions: RandomState,
}

#[derive(Serialize)]
struct Line<'a, T> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    time: String,
    host: &'a str,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct FindingBody {
    change: &'static str,
    id: u64,
    process: Process,
    file: File,
    fds: Vec<Fd>,
    closed: Vec<Fd>,
    more_closed: u32,
    lifetime: Option<f64>,
    times: u32,
    cause: &'static str,
    severity: &'static str,
    advice: &'static str,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
    start_time: Option<String>,
    ppid: u32,
    comm: String,
    exe: Option<String>,
    cmdline: Option<Vec<String>>,
}

#[derive(Serialize)]
struct File {
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    dev: String,
    ino: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    deleted: bool,
}

#[derive(Serialize)]
struct Fd {
    fd: u32,
    access: &'static str,
    append: bool,
    cloexec: bool,
    description: String,
    origin: &'static str,
    opened_at: Option<String>,
    tid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_path: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stack: Vec<StackFrame>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File>,
}

#[derive(Serialize)]
struct StackFrame {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
struct Started {
    processes: usize,
    descriptors: usize,
    ring_bytes: Option<u32>,
}

#[derive(Serialize)]
struct Losses {
    total: u64,
    by_kind: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct Loss {
    lost: Losses,
}

#[derive(Serialize)]
struct Budget<'a> {
    sheds: &'static str,
    max_cpu: f64,
    cpu: f64,
    not_followed: &'a [u32],
}

#[derive(Serialize)]
struct Leak {
    kind: &'static str,
    process: Process,
    into: Vec<Process>,
    file: File,
    fd: Fd,
    count: u64,
    processes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_paths: Vec<String>,
}

#[derive(Serialize)]
struct Run {
    command: Vec<String>,
    exit_code: u8,
    processes: u64,
    running: Vec<Process>,
    leaks: RunLeaks,
    duplicates: usize,
    ignored: u64,
    not_told: u64,
    events: u64,
    lost: Losses,
    detail_left_out: u64,
    mappings_lost: u64,
    malformed: u64,
}

#[derive(Serialize)]
struct RunLeaks {
    exit: u64,
    exec: u64,
}

#[derive(Serialize)]
struct Table {
    process: Process,
    fds: Vec<Fd>,
}

#[derive(Serialize)]
struct Summary {
    duration: f64,
    events: u64,
    by_kind: BTreeMap<&'static str, u64>,
    lost: Losses,
    findings: Findings,
    processes: usize,
    descriptors: usize,
    unknown_closed: u64,
    unknown_tables: u64,
    drift: Drift,
    contested: Contested,
    malformed: u64,
    unreadable_processes: u64,
    cpu: Cpu,
    memory: Memory,
    budget: BudgetSummary,
    detail_left_out: u64,
}

#[derive(Serialize)]
struct BudgetSummary {
    sheds: &'static str,
    most_not_followed: usize,
    caught_up: u64,
}

#[derive(Serialize)]
struct Drift {
    audits: u64,
    missing: u64,
    phantom: u64,
    wrong_file: u64,
    close_on_exec: u64,
}

#[derive(Serialize)]
struct Contested {
    numbers: u64,
    otherwise: u64,
}

#[derive(Serialize)]
struct Findings {
    found: u64,
    changed: u64,
    gone: u64,
}

#[derive(Serialize)]
struct Cpu {
    user: f64,
    system: f64,
}

#[derive(Serialize)]
struct Memory {
    peak_rss: u64,
}

impl Json {
    pub(super) fn new(host: String) -> Self {
        Self {
            host,
            descriptions: RandomState::new(),
        }
    }

    pub(super) fn finding(
        &self,
        finding: &Finding,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        let body = FindingBody {
            change: change(finding.change),
            id: finding.id,
            process: process(&finding.process, clock),
            file: file(&finding.file),
            fds: self.fds(&finding.fds, clock),
            closed: self.fds(&finding.closed, clock),
            more_closed: finding.more_closed,
            lifetime: finding.lifetime.map(tenths),
            times: finding.times,
            cause: finding.cause.name(),
            severity: finding.severity.name(),
            advice: finding.advice,
        };
        self.line("finding", body, clock, now)
    }

    pub(super) fn started(
        &self,
        account: &Account,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        let body = Started {
            processes: account.processes,
            descriptors: account.descriptors,
            ring_bytes: account.ring_bytes,
        };
        self.line("started", body, clock, now)
    }

    pub(super) fn loss(
        &self,
        lost: &Lost,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        self.line("loss", Loss { lost: losses(lost) }, clock, now)
    }

    pub(super) fn budget(
        &self,
        report: &BudgetReport,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        let body = Budget {
            sheds: report.shedding.name(),
            max_cpu: report.percent,
            cpu: (report.percent_used * 100.0).round() / 100.0,
            not_followed: &report.not_followed,
        };
        self.line("budget", body, clock, now)
    }

    pub(super) fn table(
        &self,
        table: &TableReport,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        let fds = table.fds.iter();
        let body = Table {
            process: process(&table.process, clock),
            fds: fds
                .map(|(descriptor, info)| Fd {
                    file: Some(file(info)),
                    ..self.fd(descriptor, clock)
                })
                .collect(),
        };
        self.line("table", body, clock, now)
    }

    /// A group of leaks, at the time of the first.
    pub(super) fn leak(&self, group: &Group, clock: &Clock) -> serde_json::Result<String> {
        let told = &group.first;
        let body = Leak {
            kind: told.kind.name(),
            process: process(&told.process, clock),
            into: group.into.iter().map(|into| process(into, clock)).collect(),
            file: file(&told.file),
            fd: self.fd(&told.descriptor, clock),
            count: group.count,
            processes: group.processes,
            other_paths: group.other_paths.iter().map(|path| lossy(path)).collect(),
        };
        self.line("leak", body, clock, told.at)
    }

    pub(super) fn run(
        &self,
        report: &RunReport,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        let running = report.running.iter();
        let body = Run {
            command: report.command.iter().map(|word| lossy(word)).collect(),
            exit_code: report.exit_code,
            processes: report.processes,
            running: running.map(|running| process(running, clock)).collect(),
            leaks: RunLeaks {
                exit: report.fold.count(Kind::AtExit),
                exec: report.fold.count(Kind::OverExec),
            },
            duplicates: report.duplicates.len(),
            ignored: report.ignored,
            not_told: report.more_leaks + report.more_duplicates,
            events: report.account.statistics.events(),
            lost: losses(&report.account.lost),
            detail_left_out: report.account.lost.detail_left_out(),
            mappings_lost: report.mappings_lost,
            malformed: report.account.malformed,
        };
        self.line("run", body, clock, now)
    }

    pub(super) fn summary(
        &self,
        account: &Account,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        let (usage, drift) = (account.usage, account.statistics.drift);
        let body = Summary {
            duration: seconds(account.duration),
            events: account.statistics.events(),
            by_kind: fdwatch_common::Kind::ALL
                .into_iter()
                .map(|kind| (kind.name(), account.statistics.records[kind as usize]))
                .collect(),
            lost: Losses {
                total: account.lost_in_all(),
                ..losses(&account.lost)
            },
            findings: Findings {
                found: account.found,
                changed: account.changed,
                gone: account.gone,
            },
            processes: account.processes,
            descriptors: account.descriptors,
            unknown_closed: account.statistics.unknown_closed,
            unknown_tables: account.statistics.unknown_tables,
            drift: Drift {
                audits: drift.audits,
                missing: drift.missing,
                phantom: drift.phantom,
                wrong_file: drift.wrong_file,
                close_on_exec: drift.close_on_exec,
            },
            contested: Contested {
                numbers: account.statistics.contested,
                otherwise: account.statistics.contested_otherwise,
            },
            malformed: account.malformed,
            unreadable_processes: account.unreadable_processes,
            cpu: Cpu {
                user: usage.user,
                system: usage.system,
            },
            memory: Memory {
                peak_rss: usage.peak_rss,
            },
            budget: BudgetSummary {
                sheds: account.shedding.name(),
                most_not_followed: account.most_not_followed,
                caught_up: account.statistics.caught_up,
            },
            detail_left_out: account.lost.detail_left_out(),
        };
        self.line("summary", body, clock, now)
    }

    fn line(
        &self,
        kind: &str,
        body: impl Serialize,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        serde_json::to_string(&Line {
            schema: SCHEMA,
            kind,
            time: clock.rfc3339(now),
            host: &self.host,
            body,
        })
    }

    fn fds(&self, descriptors: &[Descriptor], clock: &Clock) -> Vec<Fd> {
        let descriptors = descriptors.iter();
        descriptors
            .map(|descriptor| self.fd(descriptor, clock))
            .collect()
    }

    fn fd(&self, descriptor: &Descriptor, clock: &Clock) -> Fd {
        let lifetime = descriptor.closed.zip(descriptor.opened);
        Fd {
            fd: descriptor.fd,
            access: descriptor.access.name(),
            append: descriptor.append,
            cloexec: descriptor.cloexec,
            description: format!(
                "{:016x}",
                self.descriptions.hash_one(descriptor.description)
            ),
            origin: descriptor.origin,
            opened_at: descriptor.opened.map(|moment| clock.rfc3339(moment)),
            tid: descriptor.tid,
            asked_path: descriptor.asked_path.as_deref().map(lossy),
            stack: descriptor.stack.iter().map(stack_frame).collect(),
            closed_at: descriptor.closed.map(|moment| clock.rfc3339(moment)),
            lifetime: lifetime.map(|(closed, opened)| tenths(closed.since(opened))),
            file: descriptor.other_file.as_deref().map(file),
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn stack_frame(frame: &Frame) -> StackFrame {
    let place = frame.place.as_ref();
    StackFrame {
        address: format!("{:x}", frame.address),
        symbol: place.map(|place| place.symbol.clone()),
        offset: place.map(|place| place.offset),
        module: place.and_then(|place| place.module.as_deref()).map(lossy),
        file: place.and_then(|place| place.file.as_deref()).map(lossy),
        line: place.and_then(|place| place.line),
    }
}

const fn change(change: Change) -> &'static str {
    match change {
        Change::Found => "found",
        Change::Changed => "changed",
        Change::Gone => "gone",
    }
}

fn process(process: &ProcessInfo, clock: &Clock) -> Process {
    let started = process.start_time;
    Process {
        pid: process.pid,
        start_time: (started != 0).then(|| clock.rfc3339(Moment(started))),
        ppid: process.ppid,
        comm: lossy(&process.comm),
        exe: process.exe.as_deref().map(lossy),
        cmdline: process
            .cmdline
            .as_ref()
            .map(|line| line.iter().map(|word| lossy(word)).collect()),
    }
}

fn file(file: &FileInfo) -> File {
    let (major, minor) = major_minor(file.dev);
    let path = file.path.as_deref();
    File {
        path: path.map(lossy),
        path_bytes: path
            .filter(|path| str::from_utf8(path).is_err())
            .map(|path| path.iter().map(|byte| format!("{byte:02x}")).collect()),
        dev: format!("{major}:{minor}"),
        ino: file.ino,
        kind: file.file_type.name(),
        deleted: file.deleted,
    }
}

fn losses(lost: &Lost) -> Losses {
    Losses {
        total: lost.total(),
        by_kind: lost.by_kind().collect(),
    }
}
