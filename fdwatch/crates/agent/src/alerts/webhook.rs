//! The JSON object that webhooks and commands receive.

use serde::Serialize;

use super::state::Alert;
use fdwatch_events::time::rfc3339;

/// Size limit of an event in the object: bytes.
const MAX_EVENT: usize = 256 << 10;

#[derive(Serialize)]
struct Body<'a> {
    status: &'static str,
    key: String,
    kind: &'a str,
    summary: &'a str,
    advice: &'a str,
    severity: &'static str,
    cause: &'a str,
    host: &'a str,
    pid: u32,
    comm: &'a str,
    unit: Option<&'a str>,
    path: Option<&'a str>,
    since: String,
    ended: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_left_out_bytes: Option<usize>,
}

/// Encodes an alert as JSON. It contains the event, unless that is too large or no longer known.
pub(super) fn json(alert: &Alert, host: &str) -> serde_json::Result<String> {
    let notice = &alert.notice;
    let event = alert.event.as_ref().map(|event| event.json.as_str());
    let fits = event.filter(|json| json.len() <= MAX_EVENT);
    let body = serde_json::to_string(&Body {
        status: alert.status.name(),
        key: notice.key.to_string(),
        kind: &notice.kind,
        summary: &notice.summary,
        advice: &notice.advice,
        severity: notice.severity.name(),
        cause: &notice.cause,
        host,
        pid: notice.pid,
        comm: &notice.comm,
        unit: notice.unit.as_deref(),
        path: notice.path.as_deref(),
        since: rfc3339(notice.since),
        ended: alert.ended.map(rfc3339),
        event_left_out_bytes: event.filter(|_| fits.is_none()).map(str::len),
    })?;
    // The event is JSON already.
    let open = body.strip_suffix('}').unwrap_or(&body);
    Ok(format!("{open},\"event\":{}}}", fits.unwrap_or("null")))
}
