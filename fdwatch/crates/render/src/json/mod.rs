//! Findings as JSON, one object per line. Lossless: what is not UTF-8 stands beside its path in
//! hexadecimal. What is worth telling is not known here. The forms are documented in docs/schema.

mod shapes;

use std::hash::{BuildHasher, RandomState};

use serde::Serialize;

use self::shapes::{
    Again, Budget, BudgetSummary, ChainLink, Container, Contested, Cpu, Drift, Fd, FindingBody,
    Findings, Growth, Leak, Line, Loss, Losses, Memory, NearFd, OtherWriter, Run, RunLeaks,
    Started, Summary, Supervisor, Table, Threshold,
};
pub use self::shapes::{File, Pinned, Process, StackFrame};
use crate::{Explanation, RunReport, TracedCall, calls, explanation::Body};
use fdwatch_core::{
    Lost,
    detail::Frame,
    device::major_minor,
    diagnose::{Descriptor, FileInfo, Finding, Link, NearbyOpen, ProcessInfo},
    duplicates::Change,
    leaks::{Group, Kind},
    model::Moment,
};
use fdwatch_core::{diagnose::TableReport, growth::GrowthReport};
use fdwatch_events::ThresholdReport;
use fdwatch_events::{
    BudgetReport, RunStats,
    time::{Clock, seconds, tenths},
};

/// Version of all objects' form, which is in docs/schema. Fields may be added within one.
pub const SCHEMA: u32 = 1;

/// What makes JSON of findings.
#[derive(Clone, Debug)]
pub struct Json {
    host: String,
    /// Descriptions are told apart by a hash of their address, with a key of this process's own: the
    /// address itself would help whoever attacks the kernel.
    descriptions: RandomState,
}

impl Json {
    pub fn new(host: String) -> Self {
        Self {
            host,
            descriptions: RandomState::new(),
        }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn finding(
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

    pub fn started(
        &self,
        stats: &RunStats,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        let body = Started {
            processes: stats.processes,
            descriptors: stats.descriptors,
            ring_bytes: stats.ring_bytes,
        };
        self.line("started", body, clock, now)
    }

    pub fn loss(&self, lost: &Lost, clock: &Clock, now: Moment) -> serde_json::Result<String> {
        self.line("loss", Loss { lost: losses(lost) }, clock, now)
    }

    pub fn growth(
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
            limit: report.process.fd_limit,
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

    pub fn threshold(
        &self,
        report: &ThresholdReport,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        let body = Threshold {
            change: change(report.change),
            process: process(&report.process, clock),
            of: report.of.name(),
            value: report.value,
            threshold: report.threshold,
            severity: report.severity.name(),
        };
        self.line("threshold", body, clock, now)
    }

    pub fn budget(
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

    pub fn table(
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

    pub fn call(&self, traced: &TracedCall, clock: &Clock) -> serde_json::Result<String> {
        self.line("call", calls::Body::of(traced), clock, traced.call.at)
    }

    pub fn explanation(
        &self,
        explanation: &Explanation,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        self.line("explanation", Body::of(explanation, clock), clock, now)
    }

    /// A group of leaks, at the time of the first.
    pub fn leak(&self, group: &Group, clock: &Clock) -> serde_json::Result<String> {
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

    pub fn run(
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
            events: report.stats.statistics.events(),
            lost: losses(&report.stats.lost),
            detail_left_out: report.stats.lost.detail_left_out(),
            mappings_lost: report.mappings_lost,
            malformed: report.stats.malformed,
        };
        self.line("run", body, clock, now)
    }

    pub fn summary(
        &self,
        stats: &RunStats,
        clock: &Clock,
        now: Moment,
    ) -> serde_json::Result<String> {
        let (usage, drift) = (stats.usage, stats.statistics.drift);
        let body = Summary {
            duration: seconds(stats.duration),
            events: stats.statistics.events(),
            by_kind: fdwatch_common::Kind::ALL
                .into_iter()
                .map(|kind| (kind.name(), stats.statistics.records[kind as usize]))
                .collect(),
            lost: Losses {
                total: stats.lost_in_all(),
                ..losses(&stats.lost)
            },
            findings: Findings {
                found: stats.found,
                changed: stats.changed,
                gone: stats.gone,
            },
            processes: stats.processes,
            descriptors: stats.descriptors,
            unknown_closed: stats.statistics.unknown_closed,
            unknown_tables: stats.statistics.unknown_tables,
            closed_unopened: stats.statistics.closed_unopened,
            drift: Drift {
                audits: drift.audits,
                missing: drift.missing,
                phantom: drift.phantom,
                wrong_file: drift.wrong_file,
                close_on_exec: drift.close_on_exec,
            },
            contested: Contested {
                numbers: stats.statistics.contested,
                otherwise: stats.statistics.contested_otherwise,
            },
            malformed: stats.malformed,
            unreadable_processes: stats.unreadable_processes,
            cpu: Cpu {
                user: usage.user,
                system: usage.system,
            },
            memory: Memory {
                peak_rss: usage.peak_rss,
            },
            budget: BudgetSummary {
                sheds: stats.shedding.name(),
                most_not_followed: stats.most_not_followed,
                caught_up: stats.statistics.caught_up,
            },
            detail_left_out: stats.lost.detail_left_out(),
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

pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is not UTF-8, in hexadecimal; nothing of what is.
pub fn lost_bytes(bytes: &[u8]) -> Option<String> {
    str::from_utf8(bytes)
        .is_err()
        .then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn chain_link(link: &Link, clock: &Clock) -> ChainLink {
    ChainLink {
        how: link.how,
        at: link.at.map(|at| clock.rfc3339(at)),
        pid: link.pid,
        comm: lossy(&link.comm),
    }
}

fn near_fd(near: &NearbyOpen, clock: &Clock) -> NearFd {
    NearFd {
        fd: near.fd,
        origin: near.origin,
        kind: near.file_type.name(),
        seconds_before: tenths(near.before),
        closed_at: near.closed.map(|at| clock.rfc3339(at)),
    }
}

pub fn stack_frame(frame: &Frame) -> StackFrame {
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

pub fn process(process: &ProcessInfo, clock: &Clock) -> Process {
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
        unit: process.workload.unit.clone(),
        container: process.workload.container.as_ref().map(|it| Container {
            id: it.id.clone(),
            runtime: it.runtime,
        }),
        pod_uid: process.workload.pod_uid.clone(),
        supervisor: process
            .supervisor
            .clone()
            .map(|(group, process)| Supervisor { group, process }),
    }
}

pub fn file(file: &FileInfo) -> File {
    let (major, minor) = major_minor(file.dev);
    let path = file.path.as_deref();
    File {
        path: path.map(lossy),
        path_bytes: path.and_then(lost_bytes),
        process_path: file.process_path.as_deref().map(lossy),
        host_path: file.host_path.as_deref().map(lossy),
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
