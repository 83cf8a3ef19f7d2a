//! What a webhook and a command are told, as JSON; and the webhook.

use reqwest::{Client, StatusCode, header};
use serde_json::value::RawValue;

use super::{state::Alert, worker::Sent};
use fdwatch_events::{time::rfc3339, wire};

/// An event that is larger than that stays out: bytes.
const MAX_EVENT: usize = 256 << 10;

/// Returns an alert as JSON, with its event as it was reported.
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

/// Posts JSON, and says what became of it.
pub(super) async fn post(client: &Client, url: &str, body: String) -> Sent {
    let request = client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json");
    let response = match request.body(body).send().await {
        Ok(response) => response,
        Err(error) => return Sent::failed(words(&error)),
    };
    // What it answers beyond that is not read: it may be endless.
    let status = response.status();
    // What a person may mend there, without a change here.
    let may_change_its_mind = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
        );
    if status.is_success() {
        Sent::delivered()
    } else if may_change_its_mind {
        Sent::failed(format!("it answers {status}"))
    } else {
        Sent::refused(format!("it answers {status}"))
    }
}

/// An error with all that led to it, without the URL, which may have a secret in it.
fn words(error: &reqwest::Error) -> String {
    let mut words = if error.is_timeout() {
        "it took too long".to_owned()
    } else if error.is_connect() {
        "cannot connect".to_owned()
    } else {
        "cannot send".to_owned()
    };
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        words.push_str(&format!(": {error}"));
        source = error.source();
    }
    words
}
