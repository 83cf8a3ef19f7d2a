//! Export to an OpenTelemetry collector, including one that is unreachable, overloaded, or rejects or ignores requests.
mod decoded;
mod exporter;
mod receiver;
mod sent;

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{http::StatusCode, response::IntoResponse as _};
use fdwatch_agent::{
    config,
    otlp::{Export, Pace},
    sink::Sink,
    state::AgentState,
};
use fdwatch_test_support::{PYTHON, eventually, program};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceResponse,
};
use prost::Message as _;
use tokio::sync::watch;

use self::exporter::{Exporter, PACE};
use self::receiver::{Answer, OPENSSL, Receiver, Secured, certificate, numbers, ok, silent};
use self::sent::view;

#[test]
fn unreachable_receiver_loses_nothing() {
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

    // Another restart has the same effect.
    drop(receiver);
    exporter.offer(401..=500);
    let listener = eventually("the port", || TcpListener::bind(address).ok());
    let receiver = Receiver::start_on(listener, ok);
    exporter.counts([500, 0, 500, 0]);
    assert_eq!(receiver.numbers(), (401..=500).collect::<Vec<_>>());
}

#[test]
fn retry_after_is_respected() {
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
fn long_retry_after_pauses_requests() {
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
fn refused_batch_is_not_resent() {
    for status in [400, 401, 404, 413, 500, 307] {
        let answer: Answer = match status {
            400 => |_| StatusCode::BAD_REQUEST.into_response(),
            401 => |_| StatusCode::UNAUTHORIZED.into_response(),
            404 => |_| StatusCode::NOT_FOUND.into_response(),
            413 => |_| StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            // A redirect to another host, which must not get the data.
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
fn partial_rejections_are_counted() {
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

#[test]
fn full_queue_counts_dropped_events() {
    let (address, connections) = silent();
    let mut exporter = Exporter::start(address, 10, PACE);
    exporter.offer([1]);
    eventually("the first request", || {
        (!connections.lock().unwrap().is_empty()).then_some(())
    });
    exporter.offer(2..=26);
    exporter.counts([11, 15, 0, 0]);
    // The stop is not delayed, and unsent events are counted.
    exporter.stop();
    exporter.counts([11, 15, 0, 11]);
}

#[test]
fn silent_receiver_is_given_up() {
    let (address, connections) = silent();
    let pace = Pace {
        request: Duration::from_millis(50),
        give_up: Duration::from_millis(300),
        ..PACE
    };
    let exporter = Exporter::start(address, 10, pace);
    exporter.offer(1..=5);
    exporter.counts([5, 0, 0, 5]);
    assert!(connections.lock().unwrap().len() > 1, "no retry");
}

#[test]
fn remaining_events_are_sent_on_stop() {
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
fn unreadable_token_is_reported() {
    let (shared, _questions) = AgentState::new();
    let (_stop, stopped) = watch::channel(false);
    let (_outlet, events) = Sink::new("otlp", 1, Arc::default());
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

#[test]
fn only_given_certificate_is_trusted() {
    if !program(OPENSSL) || !program(PYTHON) {
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
    assert!(!body.exists(), "sent to an untrusted receiver");

    let trusting = export(Some(certificate), PACE);
    trusting.offer([2]);
    trusting.counts([1, 0, 1, 0]);
    assert_eq!(numbers(&fs::read(body).unwrap()), [2]);
}
