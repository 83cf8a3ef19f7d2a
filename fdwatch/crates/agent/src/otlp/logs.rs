//! Events as log records. Attributes have the names of OpenTelemetry's semantic conventions where these define one, and
//! `fdwatch.*` otherwise.

use std::sync::Arc;

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
};

use super::value::{Attributes, resource, scope, text};
use crate::sentence::sentence;
use fdwatch_core::{
    device::major_minor,
    diagnose::{Finding, ProcessInfo, Severity},
    duplicates::Change,
};
use fdwatch_events::{
    GrowthReport,
    event::{Event, EventKind, ThresholdReport},
};

/// Size limit of the JSON of an event: bytes. A longer one is omitted as a whole, and its size is reported.
pub(super) const MAX_JSON: usize = 32 << 10;

/// Creates a request with these events.
pub(super) fn request(events: &[Arc<Event>]) -> ExportLogsServiceRequest {
    let logs = ScopeLogs {
        scope: Some(scope()),
        log_records: events.iter().map(|event| record(event)).collect(),
        ..ScopeLogs::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource()),
            scope_logs: vec![logs],
            ..ResourceLogs::default()
        }],
    }
}

fn record(event: &Event) -> LogRecord {
    let (number, severity) = severity(&event.kind);
    LogRecord {
        time_unix_nano: event.wall_time,
        observed_time_unix_nano: event.wall_time,
        severity_number: number as i32,
        severity_text: severity.to_owned(),
        body: Some(AnyValue {
            value: Some(text(sentence(&event.kind))),
        }),
        attributes: attributes(event),
        event_name: format!("fdwatch.{}", event.kind.kind()),
        ..LogRecord::default()
    }
}

/// Returns the severity. A finding that is gone keeps its own, so that filters see both its start and its end.
fn severity(kind: &EventKind) -> (SeverityNumber, &'static str) {
    let severity = match kind {
        EventKind::Loss(_) | EventKind::Budget(_) => Severity::Warning,
        kind => kind.severity().unwrap_or(Severity::Info),
    };
    let number = match severity {
        Severity::Info => SeverityNumber::Info,
        Severity::Warning => SeverityNumber::Warn,
        Severity::Critical => SeverityNumber::Error,
    };
    (number, severity.name())
}

fn attributes(event: &Event) -> Vec<opentelemetry_proto::tonic::common::v1::KeyValue> {
    let mut to = Attributes::default();
    to.add("fdwatch.number", integer(event.number));
    to.add("fdwatch.key", event.key.map(|key| text(key.to_string())));
    let change = event.kind.change().map(|change| match change {
        Change::Found => "found",
        Change::Changed => "changed",
        Change::Gone => "gone",
    });
    to.add("fdwatch.change", change.map(text));
    if let Some(of) = event.kind.process() {
        process(of, &mut to);
    }
    match &event.kind {
        EventKind::Finding(of) => finding(of, &mut to),
        EventKind::Growth(of) => growth(of, &mut to),
        EventKind::Threshold(of) => threshold(of, &mut to),
        EventKind::Loss(lost) => to.add("fdwatch.lost", integer(lost.total())),
        EventKind::Budget(report) => {
            to.add("fdwatch.sheds", text(report.shedding.name()));
            to.add("fdwatch.cpu", Value::DoubleValue(report.percent_used));
            to.add("fdwatch.max_cpu", Value::DoubleValue(report.percent));
        }
    }
    if event.json.len() <= MAX_JSON {
        to.add("fdwatch.json", text(event.json.as_str()));
    } else {
        to.add(
            "fdwatch.json_left_out_bytes",
            integer(event.json.len() as u64),
        );
    }
    to.done()
}

fn process(of: &ProcessInfo, to: &mut Attributes) {
    to.add("process.pid", Value::IntValue(of.pid.into()));
    let parent = (of.ppid != 0).then(|| Value::IntValue(of.ppid.into()));
    to.add("process.parent_pid", parent);
    to.name("process.title", Some(&of.comm));
    to.name("process.executable.path", of.exe.as_deref());
    to.names("process.command_args", of.cmdline.as_deref());
    let user = of.uid.map(|uid| Value::IntValue(uid.into()));
    to.add("process.real_user.id", user);
    to.name(
        "process.linux.cgroup",
        of.cgroup.as_deref().map(str::as_bytes),
    );
    to.name(
        "fdwatch.unit",
        of.workload.unit.as_deref().map(str::as_bytes),
    );
    let container = of.workload.container.as_ref();
    to.name("container.id", container.map(|it| it.id.as_bytes()));
    to.name(
        "k8s.pod.uid",
        of.workload.pod_uid.as_deref().map(str::as_bytes),
    );
}

fn finding(of: &Finding, to: &mut Attributes) {
    to.add("fdwatch.cause", text(of.cause.name()));
    to.add("fdwatch.advice", text(of.advice));
    to.name("file.path", of.file.path.as_deref());
    to.add("file.inode", text(of.file.ino.to_string()));
    let (major, minor) = major_minor(of.file.dev);
    to.add("fdwatch.file.device", text(format!("{major}:{minor}")));
    to.add("fdwatch.file.type", text(of.file.file_type.name()));
    to.add("fdwatch.file.deleted", Value::BoolValue(of.file.deleted));
    to.add("fdwatch.file.pinned_bytes", of.file.pinned.map(integer));
    to.add("fdwatch.fd_count", integer(of.open() as u64));
    to.numbers("fdwatch.fds", of.fds.iter().map(|it| it.fd));
    let lifetime = of.lifetime.map(fdwatch_events::time::seconds);
    to.add("fdwatch.lifetime_seconds", lifetime.map(Value::DoubleValue));
}

fn growth(of: &GrowthReport, to: &mut Attributes) {
    to.add("fdwatch.cause", text("growth"));
    to.add("fdwatch.open", integer(of.open as u64));
    to.add("fdwatch.limit", of.process.fd_limit.map(integer));
    let trend = of.trend.as_ref();
    to.add("fdwatch.per_hour", trend.map(|it| integer(it.per_hour)));
    let left = trend.and_then(|it| it.left);
    let left = left.map(fdwatch_events::time::seconds);
    to.add("fdwatch.seconds_left", left.map(Value::DoubleValue));
}

fn threshold(of: &ThresholdReport, to: &mut Attributes) {
    to.add("fdwatch.cause", text("threshold"));
    to.add("fdwatch.measure", text(of.of.name()));
    to.add("fdwatch.value", Value::DoubleValue(of.value));
    to.add("fdwatch.threshold", Value::DoubleValue(of.threshold));
}

/// Converts an integer: OTLP has no unsigned ones.
fn integer(value: u64) -> Value {
    Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX))
}
