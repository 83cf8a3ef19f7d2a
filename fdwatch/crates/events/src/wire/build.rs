//! Converts reports to lines of JSON.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

use fdwatch_core::{
    Lost,
    detail::Frame,
    device::major_minor,
    diagnose::{self, Descriptor, FileInfo, Link, NearbyOpen, ProcessInfo, TableReport},
    duplicates::Change,
    growth::{self, GrowthReport},
    leaks::{LeakGroup, LeakKind},
    model::Moment,
    trace::CallKind,
};
use serde::Serialize;

use super::{
    Budget, BudgetSummary, Call, ChainLink, ClosedAgain, Container, CpuTime, Drift, Event,
    ExplainedFile, Explanation, Fd, File, Finding, FindingCounts, Growth, Leak, LeakCounts, Line,
    Loss, Losses, MemoryUse, NearbyFd, OpenDescriptors, OtherWriter, Pinned, Process, ProcessRow,
    RacingFds, Run, Sentence, StackFrame, Started, Summary, Supervisor, Table, Threshold,
    Unreported,
    line::Body,
    name::{Hexadecimal, Text, Time},
};
use crate::{
    BudgetReport, EventKind, Key, RunReport, RunStats, ThresholdReport, TracedCall, report,
    time::{Clock, seconds, tenths},
};

/// Context that all lines of one run share: host, clock and names of open file descriptions.
#[derive(Clone, Debug)]
pub struct Wire {
    host: String,
    /// Clock that the moments are of.
    pub clock: Clock,
    /// Hashes the kernel addresses that identify descriptions, with a key of this process. The addresses
    /// themselves would help to attack the kernel.
    descriptions: RandomState,
}

/// Report that has a line of its own.
pub trait ToWire {
    /// Fields of the line.
    type Body: Body + Serialize;

    /// Returns the fields of the line.
    fn to_wire(&self, wire: &Wire) -> Self::Body;
}

impl Wire {
    /// Creates the context of a run on `host`, with a new key for descriptions.
    #[must_use]
    pub fn new(host: String, clock: Clock) -> Self {
        Self {
            host,
            clock,
            descriptions: RandomState::new(),
        }
    }

    /// Returns the name of the host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the line of a report that was made at the moment `at`.
    pub fn line<T: ToWire>(&self, report: &T, at: Moment) -> Line<T::Body> {
        self.body(report.to_wire(self), at)
    }

    /// Returns the line of an event, with its key, and with the moment it appeared where the event
    /// itself does not have it.
    #[must_use]
    pub fn event(
        &self,
        event: &EventKind,
        at: Moment,
        key: Option<Key>,
        since: Option<Moment>,
    ) -> Event {
        let since = since.map(|since| self.time(since));
        match event {
            EventKind::Finding(finding) => {
                let finding = finding.to_wire(self);
                Event::Finding(Box::new(self.body(
                    Finding {
                        key,
                        since,
                        ..finding
                    },
                    at,
                )))
            }
            EventKind::Growth(report) => {
                let growth = report.to_wire(self);
                Event::Growth(Box::new(self.body(Growth { key, ..growth }, at)))
            }
            EventKind::Threshold(report) => {
                let threshold = report.to_wire(self);
                Event::Threshold(Box::new(self.body(
                    Threshold {
                        key,
                        since,
                        ..threshold
                    },
                    at,
                )))
            }
            EventKind::Loss(lost) => Event::Loss(self.line(lost, at)),
            EventKind::Budget(report) => Event::Budget(self.line(report, at)),
        }
    }

    /// Adds the header of a line to `body`, with the time of the moment `at`.
    pub fn body<T: Body>(&self, body: T, at: Moment) -> Line<T> {
        Line::new(self.time(at), self.host.clone(), body)
    }

    /// Returns the time of the moment `at`.
    #[must_use]
    pub fn time(&self, at: Moment) -> Time {
        self.clock.rfc3339(at).into()
    }

    fn process(&self, process: &ProcessInfo) -> Process {
        let started = process.start_time;
        Process {
            pid: process.pid,
            start_time: (started != 0).then(|| self.time(Moment(started))),
            ppid: process.ppid,
            comm: lossy(&process.comm),
            exe: process.exe.as_deref().map(lossy),
            cmdline: process.cmdline.as_deref().map(words),
            uid: process.uid,
            cgroup: process.cgroup.clone(),
            unit: process.workload.unit.clone(),
            container: process.workload.container.as_ref().map(|it| Container {
                id: it.id.clone(),
                runtime: it.runtime.map(Text::Borrowed),
            }),
            pod_uid: process.workload.pod_uid.clone(),
            supervisor: process
                .supervisor
                .clone()
                .map(|(group, process)| Supervisor { group, process }),
        }
    }

    /// Returns a process with counts of its descriptors.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share, of which three digits are kept"
    )]
    pub fn row(&self, row: &report::ProcessRow) -> ProcessRow {
        let limit = row.limit.filter(|&limit| limit > 0);
        let share = limit.map(|limit| row.descriptors as f64 / limit as f64);
        ProcessRow {
            pid: row.pid,
            start_time: (row.start_time != 0).then(|| self.time(Moment(row.start_time))),
            ppid: row.ppid,
            comm: lossy(&row.comm),
            uid: row.uid,
            unit: row.unit.clone(),
            descriptors: row.descriptors,
            limit: row.limit,
            limit_share: share.map(|share| (share * 1000.0).round() / 1000.0),
            duplicate_files: row.duplicate_files,
            duplicate_descriptors: row.duplicate_descriptors,
            curve: row.curve.clone(),
        }
    }

    fn processes(&self, processes: &[ProcessInfo]) -> Vec<Process> {
        processes.iter().map(|it| self.process(it)).collect()
    }

    fn fds(&self, descriptors: &[Descriptor]) -> Vec<Fd> {
        descriptors.iter().map(|it| self.fd(it)).collect()
    }

    fn fd(&self, descriptor: &Descriptor) -> Fd {
        let lifetime = descriptor.closed.zip(descriptor.opened);
        let description = self.descriptions.hash_one(descriptor.description);
        Fd {
            fd: descriptor.fd,
            access: descriptor.access.name().into(),
            append: descriptor.append,
            cloexec: descriptor.cloexec,
            description: format!("{description:016x}"),
            origin: descriptor.origin.into(),
            opened_at: descriptor.opened.map(|at| self.time(at)),
            tid: descriptor.tid,
            asked_path: descriptor.asked_path.as_deref().map(lossy),
            stack: stack(&descriptor.stack),
            chain: descriptor.chain.iter().map(|it| self.link(it)).collect(),
            around: descriptor
                .recent_opens
                .iter()
                .map(|it| self.nearby(it))
                .collect(),
            outlives: descriptor.outlives().map(|connection| connection.fd),
            role: descriptor.role.clone(),
            closed_at: descriptor.closed.map(|at| self.time(at)),
            closed_by: descriptor.closed_by,
            closed_stack: stack(&descriptor.closed_stack),
            lifetime: lifetime.map(|(closed, opened)| tenths(closed.since(opened))),
            file: descriptor.other_file.as_deref().map(file_of),
        }
    }

    fn link(&self, link: &Link) -> ChainLink {
        ChainLink {
            how: link.how.into(),
            at: link.at.map(|at| self.time(at)),
            pid: link.pid,
            comm: lossy(&link.comm),
        }
    }

    fn nearby(&self, near: &NearbyOpen) -> NearbyFd {
        NearbyFd {
            fd: near.fd,
            origin: near.origin.into(),
            kind: near.file_type.name().into(),
            seconds_before: tenths(near.before),
            closed_at: near.closed.map(|at| self.time(at)),
        }
    }
}

impl ToWire for diagnose::Finding {
    type Body = Finding;

    fn to_wire(&self, wire: &Wire) -> Finding {
        Finding {
            change: change(self.change).into(),
            id: self.id,
            process: wire.process(&self.process),
            file: file_of(&self.file),
            fds: wire.fds(&self.fds),
            more_fds: self.more_fds,
            closed: wire.fds(&self.closed),
            more_closed: self.more_closed,
            lifetime: self.lifetime.map(tenths),
            times: self.times,
            cause: self.cause.name().into(),
            severity: self.severity.name().into(),
            advice: self.advice.into(),
            others: self
                .others
                .iter()
                .map(|other| OtherWriter {
                    process: wire.process(&other.process),
                    fds: vec![wire.fd(&other.fd)],
                })
                .collect(),
            closed_again: self.closed_again.as_ref().map(|again| ClosedAgain {
                at: wire.time(again.at),
                tid: again.tid,
                stack: stack(&again.stack),
            }),
            shared_by: self.shared_by.clone(),
            key: None,
            since: None,
        }
    }
}

impl ToWire for GrowthReport {
    type Body = Growth;

    fn to_wire(&self, wire: &Wire) -> Growth {
        let trend = self.trend.as_ref();
        Growth {
            change: change(self.change).into(),
            process: wire.process(&self.process),
            open: self.open,
            limit: self.process.fd_limit,
            severity: trend.map(|trend| trend.severity.name().into()),
            was: trend.map(|trend| trend.was),
            since: trend.map(|trend| wire.time(trend.since)),
            per_hour: trend.map(|trend| trend.per_hour),
            seconds_left: trend.and_then(|trend| trend.left).map(seconds),
            more_by_type: trend.map(|trend| counts(&trend.more.by_type)),
            more_by_origin: trend.map(|trend| counts(&trend.more.by_origin)),
            pinned: pinned(self.pinned),
            key: None,
        }
    }
}

impl ToWire for ThresholdReport {
    type Body = Threshold;

    fn to_wire(&self, wire: &Wire) -> Threshold {
        Threshold {
            change: change(self.change).into(),
            process: wire.process(&self.process),
            of: self.of.name().into(),
            value: self.value,
            threshold: self.threshold,
            severity: self.severity.name().into(),
            key: None,
            since: None,
        }
    }
}

impl ToWire for Lost {
    type Body = Loss;

    fn to_wire(&self, _: &Wire) -> Loss {
        Loss { lost: losses(self) }
    }
}

impl ToWire for BudgetReport {
    type Body = Budget;

    fn to_wire(&self, _: &Wire) -> Budget {
        Budget {
            sheds: self.shedding.name().into(),
            max_cpu: self.percent,
            cpu: hundredths(self.percent_used),
            not_followed: self.not_followed.clone(),
        }
    }
}

impl ToWire for TableReport {
    type Body = Table;

    fn to_wire(&self, wire: &Wire) -> Table {
        let fds = self.fds.iter().map(|(descriptor, file)| Fd {
            file: Some(file_of(file)),
            ..wire.fd(descriptor)
        });
        Table {
            process: wire.process(&self.process),
            fds: fds.collect(),
        }
    }
}

impl ToWire for TracedCall {
    type Body = Call;

    fn to_wire(&self, _: &Wire) -> Call {
        let call = &self.call;
        let body = Call {
            pid: call.pid,
            tid: call.tid,
            comm: lossy(&call.comm),
            path: self.path.as_deref().map(lossy),
            ..Call::default()
        };
        match &call.what {
            CallKind::Made {
                call,
                fd,
                access,
                append,
                cloexec,
                file_type,
                asked,
                ..
            } => Call {
                call: (*call).into(),
                fd: Some(*fd),
                access: Some(access.name().into()),
                append: Some(*append),
                cloexec: Some(*cloexec),
                file_type: Some(file_type.name().into()),
                asked_path: asked.as_ref().map(|(path, _)| lossy(path)),
                ..body
            },
            CallKind::Closed { fd, was_open } => Call {
                call: "close".into(),
                fd: Some(*fd),
                error: (!was_open).then_some("EBADF".into()),
                ..body
            },
            CallKind::Range { call, from } => Call {
                call: (*call).into(),
                fd: Some(*from),
                ..body
            },
            CallKind::ClosesOnExec { fd, closes } => Call {
                call: "fcntl".into(),
                fd: Some(*fd),
                cloexec: Some(*closes),
                ..body
            },
            CallKind::Forked { child } => Call {
                call: "fork".into(),
                child: Some(*child),
                ..body
            },
            CallKind::Execed => Call {
                call: "exec".into(),
                ..body
            },
            CallKind::Exited => Call {
                call: "exit".into(),
                ..body
            },
        }
    }
}

impl ToWire for report::Explanation {
    type Body = Explanation;

    fn to_wire(&self, wire: &Wire) -> Explanation {
        let files = self.files.iter().map(|it| ExplainedFile {
            file: file_of(&it.finding.file),
            cause: it.finding.cause.name().into(),
            severity: it.finding.severity.name().into(),
            open: it.open(),
            story: it.sentences().iter().map(|it| sentence(it, wire)).collect(),
            advice: it.advice().into_iter().map(Text::Borrowed).collect(),
        });
        Explanation {
            process: wire.process(&self.process),
            descriptors: OpenDescriptors {
                open: self.census.open,
                limit: self.process.fd_limit,
                by_type: counts(&self.census.by_type),
                by_origin: counts(&self.census.by_origin),
            },
            pinned: pinned(self.pinned),
            closed_unopened: self.closed_unopened,
            followed: self.followed,
            files: files.collect(),
        }
    }
}

impl ToWire for LeakGroup {
    type Body = Leak;

    fn to_wire(&self, wire: &Wire) -> Leak {
        let first = &self.first;
        Leak {
            kind: first.kind.name().into(),
            process: wire.process(&first.process),
            into: wire.processes(&self.into),
            file: file_of(&first.file),
            fd: wire.fd(&first.descriptor),
            count: self.count,
            processes: self.processes,
            other_paths: words(&self.other_paths),
        }
    }
}

impl ToWire for RunReport {
    type Body = Run;

    fn to_wire(&self, wire: &Wire) -> Run {
        Run {
            command: words(&self.command),
            exit_code: self.exit_code,
            processes: self.processes,
            running: wire.processes(&self.running),
            leaks: LeakCounts {
                exit: self.fold.count(LeakKind::AtExit),
                exec: self.fold.count(LeakKind::AcrossExec),
            },
            duplicates: self.duplicates.len(),
            ignored: self.ignored,
            not_told: self.more_leaks + self.more_duplicates,
            events: self.stats.statistics.events(),
            lost: losses(&self.stats.lost),
            detail_left_out: self.stats.lost.detail_left_out(),
            mappings_lost: self.mappings_lost,
            malformed: self.stats.malformed,
        }
    }
}

impl ToWire for RunStats {
    type Body = Summary;

    fn to_wire(&self, _: &Wire) -> Summary {
        let (usage, statistics) = (self.usage, self.statistics);
        let drift = statistics.drift;
        let kinds = fdwatch_common::Kind::ALL.into_iter();
        Summary {
            duration: seconds(self.duration),
            events: statistics.events(),
            by_kind: kinds
                .map(|kind| (kind.name().into(), statistics.records[kind as usize]))
                .collect(),
            lost: Losses {
                total: self.lost_in_all(),
                ..losses(&self.lost)
            },
            findings: FindingCounts {
                found: self.found,
                changed: self.changed,
                gone: self.gone,
            },
            processes: self.processes,
            descriptors: self.descriptors,
            unknown_closed: statistics.unknown_closed,
            unknown_tables: statistics.unknown_tables,
            closed_unopened: statistics.closed_unopened,
            drift: Drift {
                audits: drift.audits,
                missing: drift.missing,
                phantom: drift.phantom,
                wrong_file: drift.wrong_file,
                close_on_exec: drift.close_on_exec,
            },
            contested: RacingFds {
                numbers: statistics.racing,
                otherwise: statistics.racing_corrected,
            },
            malformed: self.malformed,
            unreadable_processes: self.unreadable_processes,
            cpu: CpuTime {
                user: usage.user,
                system: usage.system,
            },
            memory: MemoryUse {
                peak_rss: usage.peak_rss,
            },
            budget: BudgetSummary {
                sheds: self.shedding.name().into(),
                most_not_followed: self.most_not_followed,
                caught_up: statistics.caught_up,
            },
            detail_left_out: self.lost.detail_left_out(),
            unreported: self.unreported.into(),
        }
    }
}

impl From<report::Unreported> for Unreported {
    fn from(from: report::Unreported) -> Self {
        Self {
            files: from.files,
            processes: from.processes,
            double_closes: from.double_closes,
            rotation_checks: from.rotation_checks,
        }
    }
}

impl ToWire for report::Started<'_> {
    type Body = Started;

    fn to_wire(&self, _: &Wire) -> Started {
        let Self(stats) = self;
        Started {
            processes: stats.processes,
            descriptors: stats.descriptors,
            ring_bytes: stats.ring_bytes,
        }
    }
}

/// Returns the text of bytes, with a replacement character for each sequence that is not UTF-8.
#[must_use]
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns bytes that are not UTF-8, in hexadecimal; `None` for UTF-8.
#[must_use]
pub fn lost_bytes(bytes: &[u8]) -> Option<Hexadecimal> {
    let is_text = str::from_utf8(bytes).is_ok();
    (!is_text).then(|| {
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<String>().into()
    })
}

/// Returns a file.
#[must_use]
pub fn file_of(file: &FileInfo) -> File {
    let (major, minor) = major_minor(file.dev);
    let path = file.path.as_deref();
    File {
        path: path.map(lossy),
        path_bytes: path.and_then(lost_bytes),
        process_path: file.process_path.as_deref().map(lossy),
        host_path: file.host_path.as_deref().map(lossy),
        dev: format!("{major}:{minor}").into(),
        ino: file.ino,
        kind: file.file_type.name().into(),
        deleted: file.deleted,
        pinned_bytes: file.pinned,
    }
}

/// Rounds to two digits.
#[must_use]
pub fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn words(words: &[Vec<u8>]) -> Vec<String> {
    words.iter().map(|word| lossy(word)).collect()
}

fn stack(frames: &[Frame]) -> Vec<StackFrame> {
    let frame = |frame: &Frame| {
        let place = frame.place.as_ref();
        StackFrame {
            address: format!("{:x}", frame.address),
            symbol: place.map(|place| place.symbol.clone()),
            offset: place.map(|place| place.offset),
            module: place.and_then(|place| place.module.as_deref()).map(lossy),
            file: place.and_then(|place| place.file.as_deref()).map(lossy),
            line: place.and_then(|place| place.line),
        }
    };
    frames.iter().map(frame).collect()
}

fn sentence(sentence: &diagnose::Sentence, wire: &Wire) -> Sentence {
    Sentence {
        at: sentence.at.map(|at| wire.time(at)),
        text: lossy(&sentence.text),
        stack: stack(&sentence.stack),
    }
}

const fn change(change: Change) -> &'static str {
    match change {
        Change::Found => "found",
        Change::Changed => "changed",
        Change::Gone => "gone",
    }
}

fn counts(counts: &BTreeMap<&'static str, usize>) -> BTreeMap<Text, usize> {
    let counts = counts.iter();
    counts.map(|(&name, &count)| (name.into(), count)).collect()
}

fn pinned(growth::Pinned { files, bytes }: growth::Pinned) -> Pinned {
    Pinned { files, bytes }
}

fn losses(lost: &Lost) -> Losses {
    let by_kind = lost.by_kind();
    Losses {
        total: lost.total(),
        by_kind: by_kind.map(|(kind, lost)| (kind.into(), lost)).collect(),
    }
}
