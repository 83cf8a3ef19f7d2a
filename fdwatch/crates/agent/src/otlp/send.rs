//! One request until it is taken, or until that is given up: OTLP over HTTP, with protobuf.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use tokio::{sync::watch, time::sleep};

/// How long is waited, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// For an answer.
    pub answer: Duration,
    /// Before a request is sent again; twice as long each time.
    pub again: Duration,
    /// The same at the longest, unless the receiver asks for more.
    pub longest: Duration,
    /// After which a request is given up.
    pub give_up: Duration,
    /// For all that is left to be sent, once the agent is to stop.
    pub stop: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            again: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            give_up: Duration::from_secs(15 * 60),
            stop: Duration::from_secs(3),
        }
    }
}

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// Why a request was not taken.
#[derive(Debug)]
struct Refusal {
    reason: String,
    again: Again,
}

/// Whether it may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// It would be refused again.
    Never,
    /// When it pleases.
    Later,
    /// No sooner than after so long.
    After(Duration),
}

/// Sends to one receiver.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) client: Client,
    /// Where: what follows is appended.
    pub(super) url: String,
    pub(super) pace: Pace,
    pub(super) stop: watch::Receiver<bool>,
    /// Where the last that was tried went wrong: that is said once.
    pub(super) fails: RefCell<BTreeSet<&'static str>>,
}

impl Sender {
    /// Sends it until it is taken; gives up after `give_up`, and when the agent is to stop after one
    /// more try.
    ///
    /// # Errors
    ///
    /// If it was given up: why.
    pub(super) async fn send(
        &self,
        path: &'static str,
        body: Vec<u8>,
        give_up: Duration,
    ) -> Result<Vec<u8>, String> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let body = bytes::Bytes::from(body);
        let began = Instant::now();
        let mut backoff = self.pace.again;
        let mut is_last = false;
        loop {
            is_last |= is_stopping(&self.stop);
            let refusal = match self.once(&url, body.clone()).await {
                Ok(answer) => {
                    if self.fails.borrow_mut().remove(path) {
                        tracing::info!("OTLP is taken again by {url}");
                    }
                    return Ok(answer);
                }
                Err(refusal) => refusal,
            };
            if self.fails.borrow_mut().insert(path) {
                let reason = &refusal.reason;
                tracing::warn!("OTLP is not taken by {url}: {reason}");
            }
            let asked = match refusal.again {
                Again::Never => return Err(refusal.reason),
                Again::Later => Duration::ZERO,
                Again::After(time) => time,
            };
            if is_last {
                return Err(refusal.reason);
            }
            let wait = jittered(backoff.max(asked));
            let left = give_up.saturating_sub(began.elapsed());
            tokio::select! {
                () = sleep(wait.min(left)) => {}
                () = stopped(&self.stop) => {}
            }
            // Who asks for more time than there is gets what there is: what comes next does not come at
            // once.
            if asked > left {
                return Err(refusal.reason);
            }
            is_last = wait >= left;
            backoff = (backoff * 2).min(self.pace.longest);
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
        // It was taken, whatever becomes of the answer: sent again it would be there twice.
        Ok(read(response).await)
    }
}

/// Why it was not taken, if it was not. The specification of OTLP says of which codes it may be sent
/// again, and that it may not of all others.
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
            let after = response.headers().get(RETRY_AFTER);
            let after = after.and_then(|it| it.to_str().ok());
            after
                .and_then(|it| retry_after(it, Timestamp::now()))
                .map_or(Again::Later, Again::After)
        }
        _ => Again::Never,
    };
    Some(Refusal {
        reason: format!("it answers {status}"),
        again,
    })
}

/// What `Retry-After` says: seconds, or a date.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// What came of the answer, as far as it is wanted.
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

/// The same and up to a quarter more, so that many hosts do not come all at once.
fn jittered(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) >> 40;
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
    let share = random as f64 / f64::from(1 << 24);
    time.saturating_add(time.mul_f64(share / 4.0))
}

/// An error with what it came from: reqwest's own words say little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Whether the agent is to stop.
pub(super) fn is_stopping(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Comes back when the agent is to stop, which it is too when no one is left who could say so.
pub(super) async fn stopped(stop: &watch::Receiver<bool>) {
    let _ = stop.clone().wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_can_ask_for_time() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |value| retry_after(value, now);
        assert_eq!(after(" 120 "), Some(Duration::from_secs(120)));
        let date = "Thu, 01 Jan 2026 00:01:30 GMT";
        assert_eq!(after(date), Some(Duration::from_secs(90)));
        let past = "Thu, 01 Jan 2015 00:01:30 GMT";
        assert_eq!(after(past), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }

    #[test]
    fn jitter_only_adds_and_a_quarter_at_most() {
        let time = Duration::from_secs(4);
        let jittered: Vec<_> = (0..100).map(|_| jittered(time)).collect();
        let most = Duration::from_secs(5);
        assert!(jittered.iter().all(|it| (time..=most).contains(it)));
        assert!(jittered.iter().any(|it| *it != jittered[0]));
    }
}
