//! Delivery of alerts: its time limits, its outcome, and delivery over HTTP.

use std::{error::Error as _, time::Duration};

use reqwest::{Client, StatusCode, header};

use super::state::Outcome;
use fdwatch_http::retry::retry_after;

/// Time limits of delivery.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Limit of the wait after the first failed attempt; doubles with each further one.
    pub first_wait: Duration,
    /// Limit of all waits.
    pub max_wait: Duration,
    /// Attempts in a row.
    pub tries: u32,
    /// Wait after all attempts of a row failed.
    pub rest: Duration,
    /// Interval in which Alertmanagers are reminded of firing alerts.
    pub remind: Duration,
    /// Time limit of a command.
    pub command: Duration,
    /// Time after the first snapshot in which alerts of an earlier run must be found again; the others are resolved.
    pub settle: Duration,
    /// The same for growth, which takes longer to detect.
    pub settle_growth: Duration,
    /// Time limit of deliveries under way when the agent stops. Shorter than the one of the services, so that the file
    /// is written afterwards.
    pub leave: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_secs(1),
            max_wait: Duration::from_secs(30),
            tries: 5,
            rest: Duration::from_secs(60),
            remind: Duration::from_secs(60),
            command: Duration::from_secs(30),
            settle: Duration::from_secs(30),
            settle_growth: Duration::from_secs(20 * 60),
            leave: Duration::from_millis(1500),
        }
    }
}

/// The result of one delivery.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) outcome: Outcome,
    /// Why it was not delivered.
    pub(super) reason: String,
    /// The wait that the receiver requests.
    pub(super) retry_after: Option<Duration>,
}

impl Sent {
    const fn new(outcome: Outcome, reason: String) -> Self {
        Self {
            outcome,
            reason,
            retry_after: None,
        }
    }

    pub(super) const fn delivered() -> Self {
        Self::new(Outcome::Delivered, String::new())
    }

    pub(super) const fn failed(reason: String) -> Self {
        Self::new(Outcome::Failed, reason)
    }

    pub(super) const fn unanswered(reason: String) -> Self {
        Self::new(Outcome::Unanswered, reason)
    }

    pub(super) const fn refused(reason: String) -> Self {
        Self::new(Outcome::Refused, reason)
    }

    pub(super) fn is_delivered(&self) -> bool {
        self.outcome == Outcome::Delivered
    }
}

/// Posts JSON.
pub(super) async fn post(client: &Client, url: &str, body: String) -> Sent {
    let request = client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json");
    let response = match request.body(body).send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Sent::failed(describe(&error)),
        Err(error) => return Sent::unanswered(describe(&error)),
    };
    // The body of the response is not read: it may be endless.
    let status = response.status();
    // Includes errors that an operator can fix at the receiver, without a change here.
    let is_temporary = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
        );
    let reason = format!("HTTP status {status}");
    if status.is_success() {
        Sent::delivered()
    } else if is_temporary {
        // A proxy got no response from the receiver.
        let sent = match status {
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Sent::unanswered(reason),
            _ => Sent::failed(reason),
        };
        Sent {
            retry_after: retry_after(response.headers()),
            ..sent
        }
    } else {
        Sent::refused(reason)
    }
}

/// Describes an error with its causes, but without the URL, which may contain a secret.
fn describe(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "timed out".to_owned()
    } else if error.is_connect() {
        "cannot connect".to_owned()
    } else {
        "cannot send".to_owned()
    };
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
