//! Events and metrics to export.

use fdwatch_agent::snapshot::Snapshot;
use fdwatch_core::{
    budget::ShedLevel,
    diagnose::{Cause, FileInfo, Finding, ProcessInfo, Severity},
    duplicates::Change,
    growth::Trend,
    model::{FileType, Moment},
};
use fdwatch_events::{
    BudgetReport, GrowthReport, Pinned, ProcessRow,
    event::{Event, EventKind, Key, Measure, ThresholdReport},
};

pub(crate) const WALL_TIME: u64 = 1_700_000_000_000_000_000;

pub(crate) fn event(number: u64, kind: EventKind) -> Event {
    Event {
        number,
        at: Moment(number),
        wall_time: WALL_TIME + number,
        key: kind.change().map(|_| Key(number.into())),
        json: format!("{{\"number\":{number}}}"),
        kind,
    }
}

pub(crate) fn process() -> ProcessInfo {
    ProcessInfo {
        pid: 4242,
        ppid: 1,
        comm: b"a\"b\n\xff".to_vec(),
        exe: Some(b"/usr/bin/python3.11".to_vec()),
        cmdline: Some(vec![b"python3".to_vec(), b"x".repeat(10_000)]),
        fd_limit: Some(1024),
        uid: Some(33),
        cgroup: Some("/system.slice/x.service".to_owned()),
        ..ProcessInfo::default()
    }
}

pub(crate) fn finding() -> EventKind {
    let path = Some(b"/var/log/x.log".to_vec());
    let file = FileInfo {
        deleted: true,
        pinned: Some(4096),
        ..FileInfo::new(path, 8 << 20 | 1, 99, FileType::Regular)
    };
    let (cause, severity) = (Cause::Reopened, Severity::Warning);
    EventKind::Finding(Box::new(Finding {
        lifetime: Some(1_500_000_000),
        advice: "close it",
        ..Finding::new(1, Change::Gone, process(), file, cause, severity)
    }))
}

pub(crate) fn growth() -> EventKind {
    EventKind::Growth(Box::new(GrowthReport {
        change: Change::Found,
        process: process(),
        open: 900,
        pinned: Pinned::default(),
        trend: Some(Trend {
            tgid: 4242,
            open: 900,
            was: 100,
            since: Moment(1),
            per_hour: 3600,
            limit: Some(1024),
            left: Some(124_000_000_000),
            more: fdwatch_core::diagnose::Census::default(),
            severity: Severity::Critical,
        }),
    }))
}

pub(crate) fn threshold() -> EventKind {
    EventKind::Threshold(Box::new(ThresholdReport {
        change: Change::Found,
        process: process(),
        of: Measure::LimitShare,
        value: 91.5,
        threshold: 90.0,
        severity: Severity::Info,
    }))
}

pub(crate) fn budget() -> EventKind {
    EventKind::Budget(BudgetReport {
        shedding: ShedLevel::Audits,
        percent: 1.0,
        percent_used: 1.5,
        not_followed: Vec::new(),
    })
}

pub(crate) fn view() -> Snapshot {
    let mut view = Snapshot {
        at: Moment(1),
        wall_time: WALL_TIME,
        audit_time: 1_500_000_000,
        processes: vec![ProcessRow {
            pid: 42,
            comm: b"x\n".to_vec(),
            descriptors: 512,
            limit: Some(1024),
            ..ProcessRow::default()
        }],
        ..Snapshot::default()
    };
    view.stats.duration = 10_000_000_000;
    view.stats.found = 7;
    view
}
