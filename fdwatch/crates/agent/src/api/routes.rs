//! What can be asked for, and the answers. Who may ask is settled before; what an answer is made of
//! comes by [`State`].

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, RawQuery, State as Extracted},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::{sync::oneshot, time::timeout};

use super::{
    access::{self, Gate, Token},
    answer::{Refusal, bad, error as refusal, internal, typed},
    health::{health, version},
    page,
    query::{self, Query, Shape},
    state::State,
    stream,
};
use crate::{exporter::open_for_write, metrics, snapshot::Active, state::LoopRequest};
use fdwatch_core::model::Moment;
use fdwatch_events::{
    Event, ProcessRow,
    wire::{Findings, Object, Processes, Wire, Written, WrittenFile},
};
use fdwatch_fleet::rows::SharedFileRow;
use fdwatch_host::proc;
use fdwatch_options::Target;
use fdwatch_render::{Format, Reporter, json_line};

/// Objects in one answer, if nothing else is asked for, and at the most.
const LIMIT: usize = 200;
const MAX: usize = 10_000;

/// Processes in one answer, at the most: each is asked of /proc.
const MAX_PROCESSES: usize = 1000;

/// End of an object whose last field is an empty array.
const ARRAY_END: &str = "]}";

/// How long the live loop may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

pub(super) fn router(state: State, token: Option<Token>) -> Router {
    let gate = Gate {
        token,
        shared: Arc::clone(&state.shared),
        lookups: Arc::default(),
    };
    Router::new()
        .route("/", get(page::index))
        .route("/page/{name}", get(page::named))
        .route("/metrics", get(metrics))
        .route("/v1/findings", get(findings))
        .route("/v1/processes", get(processes))
        .route("/v1/processes/{pid}/fds", get(fds))
        .route("/v1/explain/{pid}", get(explain))
        .route("/v1/written", get(written))
        .route("/v1/events", get(events))
        .route("/v1/health", get(health))
        .route("/v1/summary", get(summary))
        .route("/v1/version", get(version))
        .route("/v1/openapi.json", get(openapi))
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .layer(DefaultBodyLimit::max(0))
        .layer(middleware::from_fn_with_state(gate, access::check))
        .with_state(state)
}

async fn nothing() -> Refusal {
    refusal(
        StatusCode::NOT_FOUND,
        "not found: /v1/openapi.json lists the paths",
    )
}

async fn not_so(method: Method) -> Response {
    let words = format!("{method} is not for this: GET is");
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, &words).into_response();
    let allowed = HeaderValue::from_static("GET, HEAD");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

fn pid(text: &str) -> Result<u32, Refusal> {
    text.parse()
        .ok()
        .filter(|&pid| pid > 0 && i32::try_from(pid).is_ok())
        .ok_or_else(|| bad("the process is not a number that processes have"))
}

fn limit(query: &Query, most: usize) -> usize {
    query.limit.unwrap_or(LIMIT).min(most)
}

fn busy() -> Refusal {
    refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "the agent has other things to do: try again later",
    )
}

async fn ask<T>(
    state: &State,
    question: impl FnOnce(oneshot::Sender<T>) -> LoopRequest,
) -> Result<T, Refusal> {
    let (sender, receiver) = oneshot::channel();
    if !state.shared.ask(question(sender)) {
        return Err(busy());
    }
    match timeout(ANSWER, receiver).await {
        Ok(Ok(answer)) => Ok(answer),
        _ => Err(busy()),
    }
}

/// `/v1/findings`: what is there now.
async fn findings(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = query::read(query.as_deref(), &["format", "limit"], true).map_err(bad)?;
    let mut active = state.shared.active();
    active.retain(|active| active.last.kind.is_wanted(&query.filter));
    active.sort_by_key(|active| std::cmp::Reverse((active.last.kind.severity(), active.since)));
    let all = active.len();
    active.truncate(limit(&query, MAX));
    let more = all - active.len();
    let wire = state.wire().clone();
    let (before, between, after) = match query.shape {
        Shape::Json => {
            // The array is filled while it is sent: the whole may be large, and the client slow.
            let empty = Object::new(Findings {
                host: wire.host().to_owned(),
                more,
                findings: Vec::new(),
            });
            let mut frame = serde_json::to_string(&empty).map_err(internal)?;
            let end = frame.split_off(frame.len() - ARRAY_END.len());
            (frame, ",", end)
        }
        Shape::Lines | Shape::Text => (String::new(), "", String::new()),
    };
    let shape = query.shape;
    let pieces = active.into_iter().enumerate().map(move |(i, active)| {
        let mut piece = if i == 0 { "" } else { between }.as_bytes().to_vec();
        piece.extend(finding(&active, shape, &wire));
        piece
    });
    // Each is made when there is room for it: clients that take nothing cost next to nothing.
    let pieces = std::iter::once(before.into_bytes())
        .chain(pieces)
        .chain(std::iter::once(after.into_bytes()));
    let pieces = tokio_stream::iter(pieces.map(Ok::<_, Infallible>));
    Ok(typed(shape, Body::from_stream(pieces)))
}

/// Returns a current finding: the line of its last event, with the time it appeared.
fn finding(active: &Active, shape: Shape, wire: &Wire) -> Vec<u8> {
    let Event { kind, at, key, .. } = &*active.last;
    let line = || wire.event(kind, *at, *key, Some(active.since));
    // Writing to memory does not fail.
    match shape {
        Shape::Json => serde_json::to_vec(&line()).unwrap_or_default(),
        Shape::Lines => json_line(&line()).unwrap_or_default().into_bytes(),
        Shape::Text => {
            let mut reporter = Reporter::new(Vec::new(), Format::Text, wire.clone());
            let _ = reporter.event(kind, *at);
            reporter.into_output()
        }
    }
}

/// `/v1/processes`: those with the most descriptors.
async fn processes(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = query::read(query.as_deref(), &["limit"], false).map_err(bad)?;
    let most = limit(&query, MAX_PROCESSES);
    let rows = ask(&state, |answer| LoopRequest::Processes { most, answer }).await?;
    let rows = tokio::task::spawn_blocking(move || rows.into_iter().map(completed).collect());
    let rows: Vec<ProcessRow> = rows.await.unwrap_or_default();
    let view = state.shared.view();
    let wire = state.wire();
    let body = Processes {
        time: wire.time(view.at),
        more: view.stats.processes.saturating_sub(rows.len()),
        processes: rows.iter().map(|row| wire.row(row)).collect(),
    };
    Ok(Json(Object::new(body)).into_response())
}

/// The row, with what /proc says where the loop did not ask.
fn completed(mut row: ProcessRow) -> ProcessRow {
    if row.limit.is_none()
        && let Some(process) = proc::process(row.pid, row.start_time)
    {
        row.uid = process.uid;
        row.unit = process.workload.unit;
        row.limit = process.fd_limit;
    }
    row
}

/// `/v1/processes/{pid}/fds`
async fn fds(
    Extracted(state): Extracted<State>,
    Path(asked): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let pid = pid(&asked)?;
    let query = query::read(query.as_deref(), &["format"], false).map_err(bad)?;
    let answer = ask(&state, |answer| LoopRequest::Table { pid, answer }).await?;
    let answer = answer.ok_or_else(|| no_process(pid))?;
    let supervisords = Arc::clone(&state.supervisords);
    // /proc is asked for each descriptor, which takes its time.
    let report = tokio::task::spawn_blocking(move || answer.report(&supervisords)).await;
    let now = state.shared.view().at;
    state.show(query.shape, &report.map_err(internal)?, now)
}

fn no_process(pid: u32) -> Refusal {
    refusal(
        StatusCode::NOT_FOUND,
        &format!("there is no process {pid}, or the kernel hides it"),
    )
}

/// `/v1/written`: files of network file systems that are open for writing.
async fn written(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = query::read(query.as_deref(), &["limit"], false).map_err(bad)?;
    let (mounts, found) = open_for_write::look(&state.shared).await.ok_or_else(busy)?;
    let host = state.wire().host().to_owned();
    let left_out = found.left_out;
    // /proc is asked for each process.
    let rows =
        tokio::task::spawn_blocking(move || open_for_write::rows(&found.open, &mounts, &host, 0));
    let rows = rows.await.map_err(internal)?;
    let most = limit(&query, MAX);
    let body = Written {
        left_out,
        more: rows.len().saturating_sub(most),
        files: rows.into_iter().take(most).map(written_file).collect(),
    };
    let line = state.wire().body(body, Moment(proc::boottime()));
    Ok(Json(line).into_response())
}

fn written_file(row: SharedFileRow) -> WrittenFile {
    WrittenFile {
        network: row.network,
        ino: row.ino,
        program: row.program,
        path: (!row.file.is_empty()).then_some(row.file),
        writers: row.writers,
    }
}

/// `/v1/explain/{pid}`
async fn explain(
    Extracted(state): Extracted<State>,
    Path(asked): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let pid = pid(&asked)?;
    let query = query::read(query.as_deref(), &["format", "target"], false).map_err(bad)?;
    let target = query.target.as_deref().map(absolute_target).transpose();
    let target = target.map_err(bad)?;
    let answer = ask(&state, |answer| LoopRequest::Explain {
        pid,
        target,
        answer,
    })
    .await?;
    let explanation = answer.map_err(|reason| refusal(StatusCode::NOT_FOUND, &reason))?;
    let now = state.shared.view().at;
    state.show(query.shape, &*explanation, now)
}

fn absolute_target(text: &str) -> Result<Target, &'static str> {
    if let Ok(fd) = text.parse() {
        return Ok(Target::Fd(fd));
    }
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(Target::Path(text.to_owned()));
    }
    Err("target: neither a descriptor nor a path from the root")
}

/// `/v1/events`
async fn events(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = query::read(query.as_deref(), &["format", "current"], true).map_err(bad)?;
    Ok(stream::answer(&state, query))
}

/// `/v1/summary`: the account fdwatch gives of itself, as `watch` does at its end.
async fn summary(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = query::read(query.as_deref(), &["format"], false).map_err(bad)?;
    let view = state.shared.view();
    state.show(query.shape, &view.stats, view.at)
}

/// `/v1/openapi.json`
async fn openapi() -> Response {
    typed(
        Shape::Json,
        include_str!(concat!(env!("OUT_DIR"), "/openapi.json")),
    )
}

/// `/metrics`
async fn metrics(Extracted(state): Extracted<State>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let format = metrics::Format::accepted(accept);
    let text = metrics::encode_as(format, &state.shared, &state.metrics);
    let kind = HeaderValue::from_static(format.content_type());
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
