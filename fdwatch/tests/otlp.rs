//! What a collector of OpenTelemetry gets, as another implementation of the protocol reads it, and what
//! becomes of it where the collector is not there, has no time, says no, or never answers.
#![allow(
    clippy::unwrap_used,
    reason = "what a test cannot go on without fails it, and says where"
)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use common::{eventually, program};
use fdwatch::{
    agent::{
        config,
        event::{Event, Key, Measure, ThresholdReport, Told},
        metrics::{self, Kind, families},
        otlp::{Export, Pace},
        outlet::{Counts, Outlet},
        shared::Shared,
        view::{ProcessRow, View},
    },
    budget::Shedding,
    diagnose::{Cause, FileInfo, Finding, ProcessInfo, Severity},
    duplicates::Change,
    growth::Trend,
    model::{FileType, Moment},
    probe::Lost,
    report::{BudgetReport, GrowthReport, Pinned},
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message as _;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

/// Quick, so that what is tried again is tried soon.
const PACE: Pace = Pace {
    answer: Duration::from_secs(20),
    again: Duration::from_millis(10),
    longest: Duration::from_millis(50),
    give_up: Duration::from_secs(120),
    stop: Duration::from_millis(500),
};

/// What a receiver got.
#[derive(Clone, Debug)]
struct Request {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    at: Instant,
}

/// What it answers the request of each number, from 0 on.
type Answer = fn(usize) -> Response;

fn ok(_: usize) -> Response {
    StatusCode::OK.into_response()
}

/// A receiver in this process.
struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Request>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    fn start(answer: Answer) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    fn start_on(listener: TcpListener, answer: Answer) -> Self {
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let take = move |State(got): State<Arc<Mutex<Vec<Request>>>>,
                         uri: Uri,
                         headers: HeaderMap,
                         body: Bytes| async move {
            let mut got = got.lock().unwrap();
            got.push(Request {
                path: uri.path().to_owned(),
                headers,
                body,
                at: Instant::now(),
            });
            answer(got.len() - 1)
        };
        let router = Router::new().fallback(take).with_state(Arc::clone(&got));
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                _ = stopped => {}
            }
        };
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(serve);
        });
        Self {
            address,
            got,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn got(&self) -> Vec<Request> {
        self.got.lock().unwrap().clone()
    }

    /// The numbers of the events it got, in order.
    fn numbers(&self) -> Vec<u64> {
        let got = self.got();
        let got = got.iter().filter(|request| request.path == "/v1/logs");
        got.flat_map(|request| numbers(&request.body)).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn numbers(body: &[u8]) -> Vec<u64> {
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    let scopes = request
        .resource_logs
        .into_iter()
        .flat_map(|it| it.scope_logs);
    let records = scopes.flat_map(|it| it.log_records);
    records
        .map(|record| record.time_unix_nano - WALL_TIME)
        .collect()
}

const WALL_TIME: u64 = 1_700_000_000_000_000_000;

/// An exporter that runs.
struct Exporter {
    outlet: Outlet,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    fn start(address: SocketAddr, queue: usize, pace: Pace) -> Self {
        let endpoint = config::Endpoint {
            url: format!("http://{address}/"),
            token_file: None,
            ca_file: None,
        };
        Self::start_with(endpoint, queue, Duration::from_secs(3600), pace)
    }

    fn start_with(
        endpoint: config::Endpoint,
        queue: usize,
        interval: Duration,
        pace: Pace,
    ) -> Self {
        let (shared, _questions) = Shared::new();
        let counts = Arc::new(Counts::default());
        let (outlet, events) = Outlet::new("otlp", queue, Arc::clone(&counts));
        let (stop, stopped) = watch::channel(false);
        let export = Export {
            config: config::Otlp {
                endpoint,
                interval,
                queue,
            },
            metrics: config::Metrics::default(),
            pace,
            shared: Arc::clone(&shared),
            counts,
        };
        let thread = export.spawn(events, stopped).unwrap();
        Self {
            outlet,
            shared,
            stop,
            thread: Some(thread),
        }
    }

    fn offer(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.outlet.offer(&Arc::new(event(number, threshold())));
        }
    }

    /// Waits until so much was taken, dropped, delivered and given up.
    fn counts(&self, expected: [u64; 4]) {
        eventually(&format!("{expected:?}"), || {
            (self.outlet.counts.now() == expected).then_some(())
        });
    }

    /// Makes it stop, and waits until it has.
    fn stop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn event(number: u64, told: Told) -> Event {
    Event {
        number,
        at: Moment(number),
        wall_time: WALL_TIME + number,
        key: told.change().map(|_| Key(number.into())),
        json: format!("{{\"number\":{number}}}"),
        told,
    }
}

fn process() -> ProcessInfo {
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

fn finding() -> Told {
    Told::Finding(Box::new(Finding {
        id: 1,
        change: Change::Gone,
        process: process(),
        file: FileInfo {
            path: Some(b"/var/log/x.log".to_vec()),
            dev: 8 << 20 | 1,
            ino: 99,
            file_type: FileType::Regular,
            deleted: true,
            pinned: Some(4096),
            process_path: None,
            host_path: None,
        },
        fds: Vec::new(),
        closed: Vec::new(),
        more_closed: 0,
        lifetime: Some(1_500_000_000),
        times: 1,
        cause: Cause::Reopened,
        severity: Severity::Warning,
        advice: "close it",
        others: Vec::new(),
        closed_again: None,
        shared_by: Vec::new(),
    }))
}

fn growth() -> Told {
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

fn threshold() -> Told {
    Told::Threshold(Box::new(ThresholdReport {
        change: Change::Found,
        process: process(),
        of: Measure::LimitShare,
        value: 91.5,
        threshold: 90.0,
        severity: Severity::Info,
    }))
}

fn budget() -> Told {
    Told::Budget(BudgetReport {
        shedding: Shedding::Audits,
        percent: 1.0,
        percent_used: 1.5,
        not_followed: Vec::new(),
    })
}

fn view() -> View {
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

/// A Python that has the protocol's own description (`cargo xtask test` gets it), if there is one.
fn decoder() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_fdwatch"))
        .ancestors()
        .nth(2)?;
    let python = target.join("python/bin/python");
    program(python.to_str()?).then_some(python)
}

/// The messages as JSON, by the protocol's own description.
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
    lines.lines().map(common::parse).collect()
}

/// Attributes by key.
fn attributes(of: &Value) -> BTreeMap<String, Value> {
    let attributes = of["attributes"].as_array().unwrap().iter();
    let pair = |it: &Value| {
        let value = it["value"].as_object().unwrap().values().next().unwrap();
        (it["key"].as_str().unwrap().to_owned(), value.clone())
    };
    attributes.map(pair).collect()
}

#[test]
fn what_is_told_is_what_another_implementation_reads() {
    let Some(python) = decoder() else { return };
    let receiver = Receiver::start(ok);
    let token = tempfile::NamedTempFile::new().unwrap();
    fs::write(token.path(), "s3cret\n").unwrap();
    let endpoint = config::Endpoint {
        url: format!("http://{}", receiver.address),
        token_file: Some(token.path().to_owned()),
        ca_file: None,
    };
    let exporter = Exporter::start_with(endpoint, 10, Duration::from_secs(3600), PACE);
    let told = [
        finding(),
        growth(),
        threshold(),
        Told::Loss(Lost::default()),
        budget(),
    ];
    for (number, told) in (1..).zip(told) {
        exporter.outlet.offer(&Arc::new(event(number, told)));
    }
    let mut long = event(6, threshold());
    long.json = format!("\"{}\"", "x".repeat(1 << 20));
    exporter.outlet.offer(&Arc::new(long));
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
        "a\"b\\n\\xff[4242] is rid of the finding on /var/log/x.log (deleted, 4.0 KiB held) (reopened), which lived 1.5 s"
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
fn numbers_are_those_that_prometheus_gets() {
    let Some(python) = decoder() else { return };
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
    let told: BTreeMap<_, _> = scope["metrics"]
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
        // As a collector makes a name for Prometheus of it.
        let kind = if family.kind == Kind::Counter {
            "sum"
        } else {
            "gauge"
        };
        let (name, metric) = told
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
    assert_eq!(count, told.len());
    let found = &told["fdwatch.findings_told"]["sum"]["dataPoints"][0];
    assert_eq!(
        (&found["asInt"], &attributes(found)["change"]),
        (&"7".into(), &"found".into())
    );
    let share = &told["fdwatch.process_descriptors_limit_used"]["gauge"]["dataPoints"][0];
    assert_eq!(
        (&share["asDouble"], &attributes(share)["comm"]),
        (&0.5.into(), &"x\\n".into())
    );
    assert!(
        metrics::encode(&exporter.shared, &config::Metrics::default())
            .contains("fdwatch_findings_told_total{change=\"found\"} 7\n")
    );
}

#[test]
fn nothing_is_lost_while_the_receiver_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let exporter = Exporter::start(address, 500, PACE);
    exporter.offer(1..=400);
    exporter.counts([400, 0, 0, 0]);
    let listener = TcpListener::bind(address).unwrap();
    let receiver = Receiver::start_on(listener, ok);
    exporter.counts([400, 0, 400, 0]);
    assert_eq!(receiver.numbers(), (1..=400).collect::<Vec<_>>());

    // And again.
    drop(receiver);
    exporter.offer(401..=500);
    let listener = eventually("the port", || TcpListener::bind(address).ok());
    let receiver = Receiver::start_on(listener, ok);
    exporter.counts([500, 0, 500, 0]);
    assert_eq!(receiver.numbers(), (401..=500).collect::<Vec<_>>());
}

#[test]
fn a_receiver_that_asks_for_time_gets_it() {
    let receiver = Receiver::start(|number| match number {
        0 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response(),
        1 => StatusCode::TOO_MANY_REQUESTS.into_response(),
        _ => StatusCode::OK.into_response(),
    });
    let exporter = Exporter::start(receiver.address, 10, PACE);
    exporter.offer([1]);
    exporter.counts([1, 0, 1, 0]);
    let got = receiver.got();
    assert_eq!(got.len(), 3);
    assert!(got[1].at - got[0].at >= Duration::from_secs(1));
    assert!(got.iter().all(|request| request.body == got[0].body));
}

#[test]
fn a_receiver_that_asks_for_too_much_time_is_left_alone_meanwhile() {
    let receiver = Receiver::start(|_| {
        let much = [("retry-after", "86400")];
        (StatusCode::TOO_MANY_REQUESTS, much).into_response()
    });
    let pace = Pace {
        give_up: Duration::from_secs(1),
        ..PACE
    };
    let exporter = Exporter::start(receiver.address, 10, pace);
    let began = Instant::now();
    exporter.offer([1]);
    exporter.counts([1, 0, 0, 1]);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(receiver.numbers(), [1]);
}

#[test]
fn what_is_refused_is_not_sent_again() {
    for status in [400, 401, 404, 413, 500, 307] {
        let answer: Answer = match status {
            400 => |_| StatusCode::BAD_REQUEST.into_response(),
            401 => |_| StatusCode::UNAUTHORIZED.into_response(),
            404 => |_| StatusCode::NOT_FOUND.into_response(),
            413 => |_| StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            // To another host: what is told here is not for it.
            307 => |_| {
                let to = [("location", "http://127.0.0.2:9/v1/logs")];
                (StatusCode::TEMPORARY_REDIRECT, to).into_response()
            },
            _ => |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
        let receiver = Receiver::start(answer);
        let mut exporter = Exporter::start(receiver.address, 10, PACE);
        exporter.offer([1]);
        exporter.counts([1, 0, 0, 1]);
        exporter.stop();
        assert_eq!(receiver.numbers(), [1], "{status}");
    }
}

#[test]
fn what_is_rejected_of_a_batch_is_counted() {
    let receiver = Receiver::start(|_| {
        let answer = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: 1,
                error_message: "too\nlong".to_owned(),
            }),
        };
        answer.encode_to_vec().into_response()
    });
    let exporter = Exporter::start(receiver.address, 10, PACE);
    exporter.offer([1]);
    exporter.counts([1, 0, 0, 1]);
    assert_eq!(receiver.numbers(), [1]);
}

/// A receiver that takes connections and what comes over them, and never answers.
fn silent() -> (SocketAddr, Arc<Mutex<Vec<std::net::TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let held = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::clone(&held);
    // It ends with the process.
    thread::spawn(move || {
        for connection in listener.incoming() {
            connections.lock().unwrap().push(connection.unwrap());
        }
    });
    (address, held)
}

#[test]
fn what_the_queue_has_no_room_for_is_counted_exactly() {
    let (address, connections) = silent();
    let mut exporter = Exporter::start(address, 10, PACE);
    exporter.offer([1]);
    eventually("the first to be on its way", || {
        (!connections.lock().unwrap().is_empty()).then_some(())
    });
    exporter.offer(2..=26);
    exporter.counts([11, 15, 0, 0]);
    // It does not hold up the end, and what was not sent is not forgotten.
    exporter.stop();
    exporter.counts([11, 15, 0, 11]);
}

#[test]
fn a_receiver_that_never_answers_is_given_up() {
    let (address, connections) = silent();
    let pace = Pace {
        answer: Duration::from_millis(50),
        give_up: Duration::from_millis(300),
        ..PACE
    };
    let exporter = Exporter::start(address, 10, pace);
    exporter.offer(1..=5);
    exporter.counts([5, 0, 0, 5]);
    assert!(connections.lock().unwrap().len() > 1, "it was tried once");
}

#[test]
fn what_is_left_at_the_end_is_sent() {
    let receiver = Receiver::start(ok);
    let pace = Pace {
        stop: Duration::from_secs(60),
        ..PACE
    };
    let mut exporter = Exporter::start(receiver.address, 1000, pace);
    exporter.shared.set_view(view());
    exporter.offer(1..=1000);
    exporter.stop();
    exporter.counts([1000, 0, 1000, 0]);
    assert_eq!(receiver.numbers(), (1..=1000).collect::<Vec<_>>());
    let last = receiver.got().pop().unwrap();
    assert_eq!(last.path, "/v1/metrics");
}

#[test]
fn a_token_that_cannot_be_read_is_said() {
    let (shared, _questions) = Shared::new();
    let (_stop, stopped) = watch::channel(false);
    let (_outlet, events) = Outlet::new("otlp", 1, Arc::default());
    let export = Export {
        config: config::Otlp {
            endpoint: config::Endpoint {
                url: "http://127.0.0.1:1".to_owned(),
                token_file: Some("/nonexistent/token".into()),
                ca_file: None,
            },
            interval: Duration::from_secs(1),
            queue: 1,
        },
        metrics: config::Metrics::default(),
        pace: PACE,
        shared,
        counts: Arc::default(),
    };
    let error = format!("{:#}", export.spawn(events, stopped).unwrap_err());
    assert!(
        error.starts_with("OTLP: cannot read /nonexistent/token: "),
        "{error}"
    );
}

const OPENSSL: &str = "/usr/bin/openssl";

/// Makes a key and a certificate for 127.0.0.1, by which it is trusted if that is.
fn certificate(directory: &Path) -> PathBuf {
    const CONFIG: &str = "[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = fdwatch test
[extensions]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
";
    let config = directory.join("openssl.cnf");
    fs::write(&config, CONFIG).unwrap();
    let certificate = directory.join("cert.pem");
    let output = Command::new(OPENSSL)
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .arg("-config")
        .arg(&config)
        .arg("-keyout")
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    certificate
}

/// A receiver over TLS, in another program, that writes what it gets to a file. It ends its answer by ending
/// the connection, and does so without a word.
struct Secured(Child);

impl Secured {
    const PROGRAM: &'static str = "
import http.server, pathlib, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        pathlib.Path('body').write_bytes(body)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('cert.pem', 'key.pem')
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
";

    fn start(directory: &Path) -> (Self, String) {
        let mut server = Command::new(common::PYTHON)
            .args(["-c", Self::PROGRAM])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let output = server.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut port).unwrap();
        (Self(server), format!("https://127.0.0.1:{}", port.trim()))
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_receiver_is_trusted_by_its_certificate_alone() {
    if !program(OPENSSL) || !program(common::PYTHON) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let certificate = certificate(directory.path());
    let (_server, url) = Secured::start(directory.path());
    let body = directory.path().join("body");
    let export = |ca_file: Option<PathBuf>, pace| {
        let endpoint = config::Endpoint {
            url: url.clone(),
            token_file: None,
            ca_file,
        };
        Exporter::start_with(endpoint, 10, Duration::from_secs(3600), pace)
    };
    let pace = Pace {
        give_up: Duration::from_millis(200),
        ..PACE
    };
    let stranger = export(None, pace);
    stranger.offer([1]);
    stranger.counts([1, 0, 0, 1]);
    assert!(!body.exists(), "it was told to who is not trusted");

    let trusting = export(Some(certificate), PACE);
    trusting.offer([2]);
    trusting.counts([1, 0, 1, 0]);
    assert_eq!(numbers(&fs::read(body).unwrap()), [2]);
}
