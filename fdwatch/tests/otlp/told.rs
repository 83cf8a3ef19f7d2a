//! What is told, and the numbers there are.

use fdwatch::{
    agent::{
        event::{Event, Key, Measure, ThresholdReport, Told},
        view::{ProcessRow, View},
    },
    budget::Shedding,
    diagnose::{Cause, FileInfo, Finding, ProcessInfo, Severity},
    duplicates::Change,
    growth::Trend,
    model::{FileType, Moment},
    report::{BudgetReport, GrowthReport, Pinned},
};

pub(crate) const WALL_TIME: u64 = 1_700_000_000_000_000_000;

pub(crate) fn event(number: u64, told: Told) -> Event {
    Event {
        number,
        at: Moment(number),
        wall_time: WALL_TIME + number,
        key: told.change().map(|_| Key(number.into())),
        json: format!("{{\"number\":{number}}}"),
        told,
    }
}

pub(crate) fn process() -> ProcessInfo {
    ProcessInfo {
        pid: 4242,
        ppid: 1,
        comm: b"a\"b\n\xff".to_vec(),
        exe: Some(b"/usr/bin/python3.11".to_vec()),
        cmdline: Some(vec![b"python3".to_vec(), b"x".repeat(10_000)]),
        most_fds: Some(1024),
        uid: Some(33),
        cgroup: Some("/system.slice/x.service".to_owned()),
        ..ProcessInfo::default()
    }
}

pub(crate) fn finding() -> Told {
    let path = Some(b"/var/log/x.log".to_vec());
    let file = FileInfo {
        deleted: true,
        pinned: Some(4096),
        ..FileInfo::new(path, 8 << 20 | 1, 99, FileType::Regular)
    };
    let (cause, severity) = (Cause::Reopened, Severity::Warning);
    Told::Finding(Box::new(Finding {
        lifetime: Some(1_500_000_000),
        advice: "close it",
        ..Finding::new(1, Change::Gone, process(), file, cause, severity)
    }))
}

pub(crate) fn growth() -> Told {
    Told::Growth(Box::new(GrowthReport {
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
            more: fdwatch::diagnose::Census::default(),
            severity: Severity::Critical,
        }),
    }))
}

pub(crate) fn threshold() -> Told {
    Told::Threshold(Box::new(ThresholdReport {
        change: Change::Found,
        process: process(),
        of: Measure::LimitShare,
        value: 91.5,
        threshold: 90.0,
        severity: Severity::Info,
    }))
}

pub(crate) fn budget() -> Told {
    Told::Budget(BudgetReport {
        shedding: Shedding::Audits,
        percent: 1.0,
        percent_used: 1.5,
        not_followed: Vec::new(),
    })
}

pub(crate) fn view() -> View {
    let mut view = View {
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
        ..View::default()
    };
    view.account.duration = 10_000_000_000;
    view.account.found = 7;
    view
}
