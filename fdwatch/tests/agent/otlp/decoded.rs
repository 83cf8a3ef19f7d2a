//! Exported messages, decoded by another implementation of the protocol.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::body::Bytes;
use fdwatch_agent::{
    config,
    metrics::{self, Kind, families},
};
use fdwatch_events::event::EventKind;
use fdwatch_probe::Lost;
use fdwatch_test_support::{eventually, parse, python_with_packages};
use serde_json::Value;

use super::{
    exporter::{Exporter, PACE},
    receiver::{Receiver, ok},
    sent::{WALL_TIME, budget, event, finding, growth, threshold, view},
};

/// Decodes messages to JSON with the protocol's own description.
fn decode(python: &Path, kind: &str, bodies: &[Bytes]) -> Vec<Value> {
    const PROGRAM: &str = "
import json, pathlib, sys
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest as logs
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest as metrics
kind = {'logs': logs, 'metrics': metrics}[sys.argv[1]]
for path in sys.argv[2:]:
    message = kind.FromString(pathlib.Path(path).read_bytes())
    unknown = message.FindInitializationErrors()
    assert not unknown, unknown
    print(json.dumps(MessageToDict(message)))
";
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.args(["-c", PROGRAM, kind]);
    for (number, body) in bodies.iter().enumerate() {
        let file = directory.path().join(number.to_string());
        fs::write(&file, body).unwrap();
        command.arg(file);
    }
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(parse).collect()
}

/// Returns attributes by key.
fn attributes(of: &Value) -> BTreeMap<String, Value> {
    let attributes = of["attributes"].as_array().unwrap().iter();
    let pair = |it: &Value| {
        let value = it["value"].as_object().unwrap().values().next().unwrap();
        (it["key"].as_str().unwrap().to_owned(), value.clone())
    };
    attributes.map(pair).collect()
}

#[test]
fn decoded_logs_match_events() {
    let Some(python) = python_with_packages() else {
        return;
    };
    let receiver = Receiver::start(ok);
    let token = tempfile::NamedTempFile::new().unwrap();
    fs::write(token.path(), "s3cret\n").unwrap();
    let endpoint = config::Endpoint {
        url: format!("http://{}", receiver.address),
        token_file: Some(token.path().to_owned()),
        ca_file: None,
    };
    let exporter = Exporter::start_with(endpoint, 10, Duration::from_secs(3600), PACE);
    let reported = [
        finding(),
        growth(),
        threshold(),
        EventKind::Loss(Lost::default()),
        budget(),
    ];
    for (number, reported) in (1..).zip(reported) {
        exporter.sink.offer(&Arc::new(event(number, reported)));
    }
    let mut long = event(6, threshold());
    long.json = format!("\"{}\"", "x".repeat(1 << 20));
    exporter.sink.offer(&Arc::new(long));
    exporter.counts([6, 0, 6, 0]);

    let got = receiver.got();
    for request in &got {
        assert_eq!(request.path, "/v1/logs");
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
        assert_eq!(request.headers["authorization"], "Bearer s3cret");
    }
    let bodies: Vec<_> = got.into_iter().map(|request| request.body).collect();
    let messages = decode(&python, "logs", &bodies);
    let resource = attributes(&messages[0]["resourceLogs"][0]["resource"]);
    assert_eq!(resource["service.name"], "fdwatch");
    let records: Vec<_> = messages
        .iter()
        .flat_map(|it| {
            it["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
                .as_array()
                .unwrap()
        })
        .collect();
    let about: Vec<_> = records
        .iter()
        .map(|it| {
            (
                it["eventName"].as_str().unwrap(),
                it["severityNumber"].as_str().unwrap(),
                it["severityText"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("fdwatch.finding", "SEVERITY_NUMBER_WARN", "warning"),
        ("fdwatch.growth", "SEVERITY_NUMBER_ERROR", "critical"),
        ("fdwatch.threshold", "SEVERITY_NUMBER_INFO", "info"),
        ("fdwatch.loss", "SEVERITY_NUMBER_WARN", "warning"),
        ("fdwatch.budget", "SEVERITY_NUMBER_WARN", "warning"),
        ("fdwatch.threshold", "SEVERITY_NUMBER_INFO", "info"),
    ];
    assert_eq!(about, expected);

    let first = records[0];
    assert_eq!(first["timeUnixNano"], (WALL_TIME + 1).to_string());
    assert_eq!(
        first["body"]["stringValue"],
        "a\"b\\n\\xff[4242]: finding on /var/log/x.log (deleted, occupies 4.0 KiB) (reopened) is gone after 1.5 s"
    );
    let of = attributes(first);
    for (key, expected) in [
        ("fdwatch.key", "00000000000000000000000000000001"),
        ("fdwatch.change", "gone"),
        ("fdwatch.cause", "reopened"),
        ("fdwatch.advice", "close it"),
        ("process.pid", "4242"),
        ("process.parent_pid", "1"),
        ("process.title", "a\"b\\n\\xff"),
        ("process.executable.path", "/usr/bin/python3.11"),
        ("process.real_user.id", "33"),
        ("file.path", "/var/log/x.log"),
        ("file.inode", "99"),
        ("fdwatch.file.device", "8:1"),
        ("fdwatch.file.pinned_bytes", "4096"),
        ("fdwatch.json", "{\"number\":1}"),
        ("fdwatch.values_changed", "2"),
    ] {
        assert_eq!(of[key], expected, "{key}");
    }
    let words = of["process.command_args"]["values"].as_array().unwrap();
    assert_eq!(words[1]["stringValue"].as_str().unwrap().len(), 4096);
    assert_eq!(attributes(records[1])["fdwatch.seconds_left"], 124.0);
    assert_eq!(attributes(records[4])["fdwatch.sheds"], "audits");
    let long = attributes(records[5]);
    assert!(!long.contains_key("fdwatch.json"));
    assert_eq!(
        long["fdwatch.json_left_out_bytes"],
        ((1 << 20) + 2).to_string()
    );
}

#[test]
fn decoded_metrics_match_prometheus() {
    let Some(python) = python_with_packages() else {
        return;
    };
    let receiver = Receiver::start(ok);
    let endpoint = config::Endpoint {
        url: format!("http://{}", receiver.address),
        token_file: None,
        ca_file: None,
    };
    let exporter = Exporter::start_with(endpoint, 10, Duration::from_millis(20), PACE);
    exporter.shared.set_view(view());
    let got = eventually("numbers", || {
        let got = receiver.got();
        got.into_iter()
            .find(|request| request.path == "/v1/metrics")
    });
    let message = decode(&python, "metrics", &[got.body]).remove(0);
    let scope = &message["resourceMetrics"][0]["scopeMetrics"][0];
    let reported: BTreeMap<_, _> = scope["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["name"].as_str().unwrap().to_owned(), it))
        .collect();
    let families = families(&exporter.shared, &config::Metrics::default());
    let families = families.iter().filter(|family| !family.samples.is_empty());
    let mut count = 0;
    for family in families {
        count += 1;
        // The name a collector makes for Prometheus.
        let kind = if family.kind == Kind::Counter {
            "sum"
        } else {
            "gauge"
        };
        let (name, metric) = reported
            .iter()
            .find(|(name, metric)| {
                let unit = match metric["unit"].as_str() {
                    Some("s") => "_seconds",
                    Some("By") => "_bytes",
                    Some("1") => "_ratio",
                    Some(other) => panic!("{other}"),
                    None => "",
                };
                let last = if metric.get("sum").is_some() {
                    "_total"
                } else {
                    ""
                };
                format!("{}{unit}{last}", name.replace('.', "_")) == family.full_name()
            })
            .unwrap_or_else(|| panic!("{}", family.full_name()));
        let points = metric[kind]["dataPoints"].as_array().unwrap();
        assert_eq!(points.len(), family.samples.len(), "{name}");
        if kind == "sum" {
            assert_eq!(metric["sum"]["isMonotonic"], true);
            assert_eq!(
                metric["sum"]["aggregationTemporality"],
                "AGGREGATION_TEMPORALITY_CUMULATIVE"
            );
            let start = (WALL_TIME - 10_000_000_000).to_string();
            assert_eq!(points[0]["startTimeUnixNano"], start);
        }
    }
    assert_eq!(count, reported.len());
    let found = &reported["fdwatch.findings_told"]["sum"]["dataPoints"][0];
    assert_eq!(
        (&found["asInt"], &attributes(found)["change"]),
        (&"7".into(), &"found".into())
    );
    let share = &reported["fdwatch.process_descriptors_limit_used"]["gauge"]["dataPoints"][0];
    assert_eq!(
        (&share["asDouble"], &attributes(share)["comm"]),
        (&0.5.into(), &"x\\n".into())
    );
    assert!(
        metrics::encode(&exporter.shared, &config::Metrics::default())
            .contains("fdwatch_findings_told_total{change=\"found\"} 7\n")
    );
}
