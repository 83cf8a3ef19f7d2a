//! The JSON object that webhooks and commands receive.

use serde_json::value::RawValue;

use super::state::Alert;
use fdwatch_events::{time::rfc3339, wire};

/// Size limit of an event in the object: bytes.
const MAX_EVENT: usize = 256 << 10;

/// Encodes an alert as JSON. It contains the event as it was reported, unless that is too large or no longer known.
pub(super) fn json(alert: &Alert, host: &str) -> serde_json::Result<String> {
    let notice = &alert.notice;
    let event = alert.event.as_ref().map(|event| event.json.as_str());
    let fits = event.filter(|json| json.len() <= MAX_EVENT);
    serde_json::to_string(&wire::Alert {
        status: alert.status.name().into(),
        key: notice.key,
        kind: notice.kind.clone(),
        summary: notice.summary.clone(),
        advice: notice.advice.clone(),
        severity: notice.severity.name().into(),
        cause: notice.cause.clone(),
        host: host.to_owned(),
        pid: notice.pid,
        comm: notice.comm.clone(),
        unit: notice.unit.clone(),
        path: notice.path.clone(),
        since: rfc3339(notice.since).into(),
        ended: alert.ended.map(|ended| rfc3339(ended).into()),
        event_left_out_bytes: event.filter(|_| fits.is_none()).map(str::len),
        event: fits.and_then(|json| RawValue::from_string(json.to_owned()).ok()),
    })
}
