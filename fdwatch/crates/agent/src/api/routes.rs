//! The routes of the API and their handlers. Access is checked before; the data is in [`State`].

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, RawQuery, State as Extracted},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::{sync::oneshot, time::timeout};

use super::{
    access::{self, Gate, Peer, Token},
    health::{health, version},
    page,
    query::{self, Query, Shape},
    response::{ErrorResponse, bad_request, error as error_response, internal, typed},
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

/// Default limit of objects in a response.
const DEFAULT_LIMIT: usize = 200;

/// Maximum number of objects in a response.
const MAX_OBJECTS: usize = 10_000;

/// Maximum number of processes in a response: each is read from /proc.
const MAX_PROCESSES: usize = 1000;

/// The end of a JSON object whose last field is an empty array.
const ARRAY_END: &str = "]}";

/// Time in which the live loop must reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates the router of all paths.
pub(super) fn router(state: State, token: Option<Token>) -> Router {
    let gate = Gate {
        token,
        shared: Arc::clone(&state.shared),
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
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(0))
        .layer(middleware::from_fn_with_state(gate, access::check))
        .with_state(state)
}

async fn not_found() -> ErrorResponse {
    error_response(
        StatusCode::NOT_FOUND,
        "not found: /v1/openapi.json lists the paths",
    )
}

async fn method_not_allowed(method: Method) -> Response {
    let reason = format!("unsupported method {method}: use GET or HEAD");
    let mut response = error_response(StatusCode::METHOD_NOT_ALLOWED, &reason).into_response();
    let allowed = HeaderValue::from_static("GET, HEAD");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

fn parse_pid(text: &str) -> Result<u32, ErrorResponse> {
    text.parse()
        .ok()
        .filter(|&pid| pid > 0 && i32::try_from(pid).is_ok())
        .ok_or_else(|| bad_request(format!("invalid PID: {text}")))
}

fn limit(query: &Query, max: usize) -> usize {
    query.limit.unwrap_or(DEFAULT_LIMIT).min(max)
}

fn busy() -> ErrorResponse {
    error_response(
        StatusCode::SERVICE_UNAVAILABLE,
        "the agent is busy: retry later",
    )
}

/// Sends a request to the live loop, and waits for the reply.
async fn request<T>(
    state: &State,
    request: impl FnOnce(oneshot::Sender<T>) -> LoopRequest,
) -> Result<T, ErrorResponse> {
    let (sender, receiver) = oneshot::channel();
    if !state.shared.send_request(request(sender)) {
        return Err(busy());
    }
    match timeout(REPLY_TIMEOUT, receiver).await {
        Ok(Ok(reply)) => Ok(reply),
        _ => Err(busy()),
    }
}

/// `/v1/findings`: the active findings, most severe first.
async fn findings(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let query = query::read(query.as_deref(), &["format", "limit"], true).map_err(bad_request)?;
    let mut active = state.shared.active();
    active.retain(|active| active.last.kind.is_wanted(&query.filter));
    active.sort_by_key(|active| std::cmp::Reverse((active.last.kind.severity(), active.since)));
    let all = active.len();
    active.truncate(limit(&query, MAX_OBJECTS));
    let more = all - active.len();
    let wire = state.wire().clone();
    let (before, between, after) = match query.shape {
        Shape::Json => {
            // The array is filled while it is sent, because it may be large and the client slow.
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
    // Each piece is created when it can be sent, so that slow clients cost little memory.
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

/// `/v1/processes`: the processes with the most descriptors, the most duplicates, or close to their limit.
async fn processes(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let query = query::read(query.as_deref(), &["limit"], false).map_err(bad_request)?;
    let max = limit(&query, MAX_PROCESSES);
    let rows = request(&state, |reply| LoopRequest::Processes { max, reply }).await?;
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

/// Completes a row from /proc if the loop has not read the process.
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

/// `/v1/processes/{pid}/fds`: the descriptors of a process.
async fn fds(
    Extracted(state): Extracted<State>,
    Path(pid): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let pid = parse_pid(&pid)?;
    let query = query::read(query.as_deref(), &["format"], false).map_err(bad_request)?;
    let table = request(&state, |reply| LoopRequest::Table { pid, reply }).await?;
    let table = table.ok_or_else(|| no_process(pid))?;
    let supervisords = Arc::clone(&state.supervisords);
    // Reads /proc for each descriptor, which blocks.
    let report = tokio::task::spawn_blocking(move || table.report(&supervisords)).await;
    let now = state.shared.view().at;
    state.render(query.shape, &report.map_err(internal)?, now)
}

fn no_process(pid: u32) -> ErrorResponse {
    error_response(
        StatusCode::NOT_FOUND,
        &format!("no such process, or it is hidden: {pid}"),
    )
}

/// `/v1/written`: files of network file systems that are open for writing.
async fn written(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let query = query::read(query.as_deref(), &["limit"], false).map_err(bad_request)?;
    let (mounts, found) = open_for_write::search(&state.shared)
        .await
        .ok_or_else(busy)?;
    let host = state.wire().host().to_owned();
    let left_out = found.left_out;
    // Reads /proc for each process.
    let rows =
        tokio::task::spawn_blocking(move || open_for_write::rows(&found.open, &mounts, &host, 0));
    let rows = rows.await.map_err(internal)?;
    let max = limit(&query, MAX_OBJECTS);
    let body = Written {
        left_out,
        more: rows.len().saturating_sub(max),
        files: rows.into_iter().take(max).map(written_file).collect(),
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

/// `/v1/explain/{pid}`: how a process came to hold its descriptors.
async fn explain(
    Extracted(state): Extracted<State>,
    Path(pid): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let pid = parse_pid(&pid)?;
    let query = query::read(query.as_deref(), &["format", "target"], false).map_err(bad_request)?;
    let target = query.target.as_deref().map(absolute_target).transpose();
    let target = target.map_err(bad_request)?;
    let reply = request(&state, |reply| LoopRequest::Explain { pid, target, reply }).await?;
    let explanation = reply.map_err(|reason| error_response(StatusCode::NOT_FOUND, &reason))?;
    let now = state.shared.view().at;
    state.render(query.shape, &*explanation, now)
}

fn absolute_target(text: &str) -> Result<Target, &'static str> {
    if let Ok(fd) = text.parse() {
        return Ok(Target::Fd(fd));
    }
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(Target::Path(text.to_owned()));
    }
    Err("invalid value for target: must be a descriptor or an absolute path")
}

/// `/v1/events`: a stream of events.
async fn events(
    Extracted(state): Extracted<State>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let query = query::read(query.as_deref(), &["format", "current"], true).map_err(bad_request)?;
    Ok(stream::events(&state, query, peer.holder))
}

/// `/v1/summary`: the summary of the run, as printed by `fdwatch watch` when it ends.
async fn summary(
    Extracted(state): Extracted<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let query = query::read(query.as_deref(), &["format"], false).map_err(bad_request)?;
    let view = state.shared.view();
    state.render(query.shape, &view.stats, view.at)
}

/// `/v1/openapi.json`: the description of this API.
async fn openapi() -> Response {
    typed(
        Shape::Json,
        include_str!(concat!(env!("OUT_DIR"), "/openapi.json")),
    )
}

/// `/metrics`: the metrics, in a format that the client accepts.
async fn metrics(Extracted(state): Extracted<State>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let format = metrics::Format::accepted(accept);
    let text = metrics::encode_as(format, &state.shared, &state.metrics);
    let kind = HeaderValue::from_static(format.content_type());
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
