//! Sends requests and retries them: OTLP over HTTP, with protobuf.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    time::{Duration, Instant},
};

use reqwest::{Client, Response, StatusCode, header::CONTENT_TYPE};
use tokio::{sync::watch, time::sleep};

use fdwatch_http::retry::{Backoff, FIRST_WAIT, MAX_WAIT, retry_after};

/// Time limits of the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time limit of a request.
    pub request: Duration,
    /// Limit of the wait before the first retry; doubles with each further one.
    pub first_wait: Duration,
    /// Limit of all waits, unless the receiver requests a longer one.
    pub max_wait: Duration,
    /// Time after which a request is given up.
    pub give_up: Duration,
    /// Time to send the remaining events when the agent stops.
    pub stop: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            first_wait: FIRST_WAIT,
            max_wait: MAX_WAIT,
            give_up: Duration::from_secs(15 * 60),
            stop: Duration::from_secs(3),
        }
    }
}

/// Size limit of a response: bytes. The rest is not read.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// Why a request failed.
#[derive(Debug)]
struct RequestError {
    reason: String,
    retry: Retry,
}

/// Whether a failed request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// No: it would be rejected again.
    Never,
    /// Yes.
    Later,
    /// Yes, but not before this time has passed.
    After(Duration),
}

/// A client of one receiver.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) client: Client,
    /// The URL, without the path of a request.
    pub(super) url: String,
    pub(super) pace: Pace,
    pub(super) stop: watch::Receiver<bool>,
    /// Paths whose last request failed: reported once.
    pub(super) failing: RefCell<BTreeSet<&'static str>>,
}

impl Sender {
    /// Sends a request until it is accepted. Gives up after `give_up`, or after one more attempt when the agent
    /// stops.
    ///
    /// # Errors
    ///
    /// The reason of the last failure, if it was given up.
    pub(super) async fn send(
        &self,
        path: &'static str,
        body: Vec<u8>,
        give_up: Duration,
    ) -> Result<Vec<u8>, String> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let body = bytes::Bytes::from(body);
        let began = Instant::now();
        let mut backoff = Backoff::new(self.pace.first_wait, self.pace.max_wait);
        let mut is_last = false;
        loop {
            is_last |= is_stopping(&self.stop);
            let error = match self.send_once(&url, body.clone()).await {
                Ok(response) => {
                    if self.failing.borrow_mut().remove(path) {
                        tracing::info!("OTLP export to {url} works again");
                    }
                    return Ok(response);
                }
                Err(error) => error,
            };
            if self.failing.borrow_mut().insert(path) {
                let reason = &error.reason;
                tracing::warn!("OTLP export to {url} failed: {reason}");
            }
            let requested = match error.retry {
                Retry::Never => return Err(error.reason),
                Retry::Later => None,
                Retry::After(time) => Some(time),
            };
            if is_last {
                return Err(error.reason);
            }
            let wait = backoff.next_wait(requested);
            let left = give_up.saturating_sub(began.elapsed());
            tokio::select! {
                () = sleep(wait.min(left)) => {}
                () = stopped(&self.stop) => {}
            }
            // The receiver requested a longer wait than there is time left. The time left is waited for, so that
            // the next request does not follow immediately.
            if requested.is_some_and(|requested| requested > left) {
                return Err(error.reason);
            }
            is_last = wait >= left;
        }
    }

    async fn send_once(&self, url: &str, body: bytes::Bytes) -> Result<Vec<u8>, RequestError> {
        let request = self
            .client
            .post(url)
            .timeout(self.pace.request)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        let response = request.send().await.map_err(|error| RequestError {
            reason: chain(&error),
            retry: Retry::Later,
        })?;
        check_status(&response)?;
        // The request was accepted, even if the response is cut off. A retry would store it twice.
        Ok(read(response).await)
    }
}

/// Returns an error unless the request succeeded. The OTLP specification lists the status codes for which it may be
/// sent again.
fn check_status(response: &Response) -> Result<(), RequestError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let retry = match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            retry_after(response.headers()).map_or(Retry::Later, Retry::After)
        }
        _ => Retry::Never,
    };
    Err(RequestError {
        reason: format!("HTTP status {status}"),
        retry,
    })
}

/// Reads the body of a response, up to `MAX_RESPONSE_BYTES`.
async fn read(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_RESPONSE_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == MAX_RESPONSE_BYTES {
            break;
        }
    }
    body
}

/// Describes an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Returns whether the agent is stopping.
pub(super) fn is_stopping(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Waits until the agent stops; a dropped sender counts as a stop.
pub(super) async fn stopped(stop: &watch::Receiver<bool>) {
    let _ = stop.clone().wait_for(|stop| *stop).await;
}
