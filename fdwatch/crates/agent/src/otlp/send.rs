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
    /// Time in which a request must be answered.
    pub answer: Duration,
    /// Limit of the wait before the first retry; doubles with each further one.
    pub again: Duration,
    /// Limit of all waits, unless the receiver asks for more.
    pub longest: Duration,
    /// Time after which a request is given up.
    pub give_up: Duration,
    /// Time to send what is left when the agent stops.
    pub stop: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            again: FIRST_WAIT,
            longest: MAX_WAIT,
            give_up: Duration::from_secs(15 * 60),
            stop: Duration::from_secs(3),
        }
    }
}

/// Size limit of a response: bytes. The rest is not read.
const MAX_ANSWER: usize = 64 << 10;

/// Why a request failed.
#[derive(Debug)]
struct Refusal {
    reason: String,
    again: Again,
}

/// Whether a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// No: it would be refused again.
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
    pub(super) fails: RefCell<BTreeSet<&'static str>>,
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
        let mut backoff = Backoff::new(self.pace.again, self.pace.longest);
        let mut is_last = false;
        loop {
            is_last |= is_stopping(&self.stop);
            let refusal = match self.once(&url, body.clone()).await {
                Ok(answer) => {
                    if self.fails.borrow_mut().remove(path) {
                        tracing::info!("OTLP export to {url} works again");
                    }
                    return Ok(answer);
                }
                Err(refusal) => refusal,
            };
            if self.fails.borrow_mut().insert(path) {
                let reason = &refusal.reason;
                tracing::warn!("OTLP export to {url} failed: {reason}");
            }
            let asked = match refusal.again {
                Again::Never => return Err(refusal.reason),
                Again::Later => None,
                Again::After(time) => Some(time),
            };
            if is_last {
                return Err(refusal.reason);
            }
            let wait = backoff.next_wait(asked);
            let left = give_up.saturating_sub(began.elapsed());
            tokio::select! {
                () = sleep(wait.min(left)) => {}
                () = stopped(&self.stop) => {}
            }
            // The receiver asked for more time than is left. That time is still waited for, so that the next
            // request does not follow at once.
            if asked.is_some_and(|asked| asked > left) {
                return Err(refusal.reason);
            }
            is_last = wait >= left;
        }
    }

    async fn once(&self, url: &str, body: bytes::Bytes) -> Result<Vec<u8>, Refusal> {
        let request = self
            .client
            .post(url)
            .timeout(self.pace.answer)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        let response = request.send().await.map_err(|error| Refusal {
            reason: chain(&error),
            again: Again::Later,
        })?;
        if let Some(refusal) = refusal(&response) {
            return Err(refusal);
        }
        // It was accepted, even if the response is cut off. Sent again, it would be stored twice.
        Ok(read(response).await)
    }
}

/// Returns why a request failed, if it did. The OTLP specification lists the status codes for which it may be sent
/// again.
fn refusal(response: &Response) -> Option<Refusal> {
    let status = response.status();
    if status.is_success() {
        return None;
    }
    let again = match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            retry_after(response.headers()).map_or(Again::Later, Again::After)
        }
        _ => Again::Never,
    };
    Some(Refusal {
        reason: format!("HTTP status {status}"),
        again,
    })
}

/// Reads the body of a response, up to `MAX_ANSWER`.
async fn read(mut response: Response) -> Vec<u8> {
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = MAX_ANSWER - answer.len();
        answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if answer.len() == MAX_ANSWER {
            break;
        }
    }
    answer
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
