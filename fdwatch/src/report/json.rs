//! Findings as JSON, one object per line. Lossless: what is not UTF-8 stands beside its path in
//! hexadecimal.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

use serde::Serialize;

use super::{
    Account, BudgetReport, Explanation, GrowthReport, RunReport, TableReport, TracedCall, calls,
    explanation::Body,
    time::{Clock, seconds, tenths},
};
use crate::{
    detail::Frame,
    diagnose::{Around, Descriptor, FileInfo, Finding, Link, ProcessInfo},
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<OtherWriter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_again: Option<Again>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared_by: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Process {
    pid: u32,
    start_time: Option<String>,
    ppid: u32,
    comm: String,
    exe: Option<String>,
    cmdline: Option<Vec<String>>,
    uid: Option<u32>,
    cgroup: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Container>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supervisor: Option<Supervisor>,
}

#[derive(Serialize)]
struct Container {
    id: String,
    runtime: Option<&'static str>,
}

#[derive(Serialize)]
struct Supervisor {
    group: String,
    process: String,
}

#[derive(Serialize)]
pub(super) struct File {
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    dev: String,
    ino: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned_bytes: Option<u64>,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chain: Vec<ChainLink>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    around: Vec<NearFd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlives: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_by: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    closed_stack: Vec<StackFrame>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File>,
}

#[derive(Serialize)]
struct OtherWriter {
    process: Process,
    fds: Vec<Fd>,
}

#[derive(Serialize)]
struct Again {
    at: String,
    tid: u32,
    stack: Vec<StackFrame>,
}

#[derive(Serialize)]
struct ChainLink {
    how: &'static str,
    at: Option<String>,
    pid: u32,
    comm: String,
}

#[derive(Serialize)]
struct NearFd {
    fd: u32,
    origin: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    seconds_before: f64,
    closed_at: Option<String>,
}

#[derive(Serialize)]
pub(super) struct StackFrame {
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
struct Growth {
    change: &'static str,
    process: Process,
    open: usize,
    limit: Option<u64>,
    severity: Option<&'static str>,
    was: Option<usize>,
    since: Option<String>,
    per_hour: Option<u64>,
    seconds_left: Option<f64>,
    more_by_type: Option<BTreeMap<&'static str, usize>>,
    more_by_origin: Option<BTreeMap<&'static str, usize>>,
    pinned: Pinned,
}

#[derive(Serialize)]
pub(super) struct Pinned {
    pub(super) files: usize,
    pub(super) bytes: u64,
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
    closed_unopened: u64,
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
            others: finding
                .others
                .iter()
                .map(|other| OtherWriter {
                    process: process(&other.process, clock),
                    fds: vec![self.fd(&other.fd, clock)],
                })
                .collect(),
            closed_again: finding.closed_again.as_ref().map(|again| Again {
                at: clock.rfc3339(again.at),
                tid: again.tid,
                stack: again.stack.iter().map(stack_frame).collect(),
            }),
            shared_by: finding.shared_by.clone(),
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

    pub(super) fn growth(
        &self,
        report: &GrowthReport,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        let trend = report.trend.as_ref();
        let body = Growth {
            change: change(report.change),
            process: process(&report.process, clock),
            open: report.open,
            limit: report.process.most_fds,
            severity: trend.map(|trend| trend.severity.name()),
            was: trend.map(|trend| trend.was),
            since: trend.map(|trend| clock.rfc3339(trend.since)),
            per_hour: trend.map(|trend| trend.per_hour),
            seconds_left: trend.and_then(|trend| trend.left).map(seconds),
            more_by_type: trend.map(|trend| trend.more.by_type.clone()),
            more_by_origin: trend.map(|trend| trend.more.by_origin.clone()),
            pinned: Pinned {
                files: report.pinned.files,
                bytes: report.pinned.bytes,
            },
        };
        self.line("growth", body, clock, now)
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

    pub(super) fn call(&self, traced: &TracedCall, clock: &Clock) -> serde_json::Result<String> {
        self.line("call", calls::Body::of(traced), clock, traced.call.at)
    }

    pub(super) fn explanation(
        &self,
        explanation: &Explanation,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        self.line("explanation", Body::of(explanation, clock), clock, now)
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
            closed_unopened: account.statistics.closed_unopened,
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
            chain: descriptor
                .chain
                .iter()
                .map(|link| chain_link(link, clock))
                .collect(),
            around: descriptor
                .around
                .iter()
                .map(|near| near_fd(near, clock))
                .collect(),
            outlives: descriptor.outlives().map(|connection| connection.fd),
            role: descriptor.role.clone(),
            closed_at: descriptor.closed.map(|moment| clock.rfc3339(moment)),
            closed_by: descriptor.closed_by,
            closed_stack: descriptor.closed_stack.iter().map(stack_frame).collect(),
            lifetime: lifetime.map(|(closed, opened)| tenths(closed.since(opened))),
            file: descriptor.other_file.as_deref().map(file),
        }
    }
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn chain_link(link: &Link, clock: &Clock) -> ChainLink {
    ChainLink {
        how: link.how,
        at: link.at.map(|at| clock.rfc3339(at)),
        pid: link.pid,
        comm: lossy(&link.comm),
    }
}

fn near_fd(near: &Around, clock: &Clock) -> NearFd {
    NearFd {
        fd: near.fd,
        origin: near.origin,
        kind: near.file_type.name(),
        seconds_before: tenths(near.before),
        closed_at: near.closed.map(|at| clock.rfc3339(at)),
    }
}

pub(super) fn stack_frame(frame: &Frame) -> StackFrame {
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

pub(super) fn process(process: &ProcessInfo, clock: &Clock) -> Process {
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
        uid: process.uid,
        cgroup: process.cgroup.clone(),
        unit: process.who.unit.clone(),
        container: process.who.container.as_ref().map(|it| Container {
            id: it.id.clone(),
            runtime: it.runtime,
        }),
        pod_uid: process.who.pod_uid.clone(),
        supervisor: process
            .supervisor
            .clone()
            .map(|(group, process)| Supervisor { group, process }),
    }
}

pub(super) fn file(file: &FileInfo) -> File {
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
        pinned_bytes: file.pinned,
    }
}

fn losses(lost: &Lost) -> Losses {
    Losses {
        total: lost.total(),
        by_kind: lost.by_kind().collect(),
    }
}
