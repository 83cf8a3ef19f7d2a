//! Formats each event as one sentence, for output that contains nothing else of it. Pure.

use fdwatch_core::{
    Lost,
    budget::ShedLevel,
    diagnose::Finding,
    duplicates::Change,
    plural::{counted, either},
};
use fdwatch_events::{
    BudgetReport, GrowthReport,
    event::{EventKind, ThresholdReport},
    time::span,
};
use fdwatch_render::text::{path, process};

/// Limit of descriptors that are listed.
const MAX_NUMBERS: usize = 8;

/// Returns the sentence, without a full stop.
pub(crate) fn sentence(kind: &EventKind) -> String {
    match kind {
        EventKind::Finding(finding) => of_finding(finding),
        EventKind::Growth(report) => growth(report),
        EventKind::Threshold(report) => threshold(report),
        EventKind::Loss(lost) => loss(lost),
        EventKind::Budget(report) => budget(report),
    }
}

fn of_finding(finding: &Finding) -> String {
    let process = process(&finding.process);
    let path = path(&finding.file);
    let cause = finding.cause.name();
    if finding.change == Change::Gone {
        let lived = finding.lifetime.map(span);
        let lived = lived.map_or_else(String::new, |lived| format!(" after {lived}"));
        return format!("{process}: finding on {path} ({cause}) is gone{lived}");
    }
    let count = finding.open();
    let numbers = finding.fds.iter().take(MAX_NUMBERS);
    let numbers: Vec<_> = numbers.map(|it| it.fd.to_string()).collect();
    let more = if count > numbers.len() { " ..." } else { "" };
    let numbers = numbers.join(" ");
    let descriptors = counted(count, "descriptor");
    format!("{process} holds {path} on {descriptors} ({numbers}{more}): {cause}")
}

fn growth(report: &GrowthReport) -> String {
    let process = process(&report.process);
    let limit = report.process.fd_limit;
    let limit = limit.map_or_else(String::new, |limit| format!(" of {limit}"));
    let open = counted(report.open, "descriptor");
    let Some(trend) = &report.trend else {
        return format!("{process} has {open}{limit}, no longer growing");
    };
    let left = trend.left.map(span);
    let left = left.map_or_else(String::new, |left| format!(", limit reached in {left}"));
    let more = trend.per_hour;
    format!("{process} has {open}{limit}, growing by {more} per hour{left}")
}

fn threshold(report: &ThresholdReport) -> String {
    let process = process(&report.process);
    let (of, value, limit) = (report.of.name(), report.value, report.threshold);
    if report.change == Change::Gone {
        format!("{process} is below a threshold again: {of} is {value}, threshold {limit}")
    } else {
        format!("{process} exceeds a threshold: {of} is {value}, threshold {limit}")
    }
}

fn loss(lost: &Lost) -> String {
    let total = lost.total();
    let (records, were) = (counted(total, "record"), either(&total, "was", "were"));
    format!("{records} {were} lost since the start: tables may be wrong until the next audit")
}

fn budget(report: &BudgetReport) -> String {
    let (used, limit) = (report.percent_used, report.percent);
    match report.shedding {
        ShedLevel::Nothing => {
            format!("fdwatch uses {used:.1} % of a processor and is within its budget again")
        }
        shedding => format!(
            "fdwatch uses {used:.1} % of a processor, above its budget of {limit} %: skipping {}",
            shedding.name()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fdwatch_core::diagnose::{ProcessInfo, Severity};
    use fdwatch_events::event::Measure;

    #[test]
    fn untrusted_name_stays_on_one_line() {
        let report = ThresholdReport {
            change: Change::Found,
            process: ProcessInfo {
                pid: 7,
                comm: b"a\nb\x1b[2J".to_vec(),
                ..ProcessInfo::default()
            },
            of: Measure::LimitShare,
            value: 91.5,
            threshold: 90.0,
            severity: Severity::Critical,
        };
        assert_eq!(
            sentence(&EventKind::Threshold(Box::new(report))),
            "a\\nb\\x1b[2J[7] exceeds a threshold: limit-share is 91.5, threshold 90"
        );
    }

    #[test]
    fn ended_growth_is_stated() {
        let report = GrowthReport {
            change: Change::Gone,
            process: ProcessInfo {
                pid: 7,
                comm: b"x".to_vec(),
                fd_limit: Some(1024),
                ..ProcessInfo::default()
            },
            open: 80,
            pinned: fdwatch_events::Pinned::default(),
            trend: None,
        };
        assert_eq!(
            sentence(&EventKind::Growth(Box::new(report))),
            "x[7] has 80 descriptors of 1024, no longer growing"
        );
    }
}
