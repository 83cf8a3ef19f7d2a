//! The retry policy: exponential backoff with full jitter.
//!
//! Each wait is a random part of a limit that starts at [`FIRST_WAIT`] and doubles up to [`MAX_WAIT`], so that the
//! hosts of a fleet do not all retry at the same moment. A delay that the server requests (`Retry-After`) is added
//! to the wait.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::{Duration, SystemTime},
};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// Maximum first wait.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Maximum wait, without the delay that the server requests.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// Backoff: waits between the attempts of one request, or of requests to one server.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    limit: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(FIRST_WAIT, MAX_WAIT)
    }
}

impl Backoff {
    /// Creates a backoff whose limit grows from `first` to `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            limit: first,
        }
    }

    /// Returns the time to wait before the next attempt, and doubles the limit.
    pub fn next_wait(&mut self, retry_after: Option<Duration>) -> Duration {
        self.next_wait_at(retry_after, random())
    }

    /// Returns the same for a given `part` of the limit, from 0 to 1.
    fn next_wait_at(&mut self, retry_after: Option<Duration>, part: f64) -> Duration {
        let limit = self.limit.min(self.max);
        self.limit = limit.saturating_mul(2).min(self.max);
        retry_after
            .unwrap_or_default()
            .saturating_add(limit.mul_f64(part))
    }

    /// Resets the limit to its first value. Called after a success.
    pub const fn reset(&mut self) {
        self.limit = self.first;
    }
}

/// Returns a random number from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0) >> 40;
    bits as f64 / f64::from(1 << 24)
}

/// Returns the time in the `Retry-After` header of a response: a number of seconds, or a date. A date is
/// compared with the one of the response, because the clock of this host may differ.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = |text| {
        let date = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(SystemTime::from(date.timestamp()))
    };
    let now = text(DATE).and_then(time).unwrap_or_else(SystemTime::now);
    Some(time(value)?.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn limit_doubles_up_to_its_maximum() {
        let seconds = |count| Duration::from_secs(count);
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        let mut next = |part| backoff.next_wait_at(None, part);
        assert_eq!(
            [1.0, 1.0, 1.0, 1.0, 1.0, 0.5].map(&mut next),
            [1000, 2000, 4000, 5000, 5000, 2500].map(Duration::from_millis)
        );
        backoff.reset();
        assert_eq!(backoff.next_wait_at(None, 1.0), seconds(1));
        assert_eq!(backoff.next_wait_at(None, 0.0), Duration::ZERO);
    }

    #[test]
    fn limit_above_its_maximum_is_lowered() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::from_secs(1));
        assert_eq!(backoff.next_wait_at(None, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_a_lower_bound() {
        let requested = Duration::from_secs(90);
        let mut backoff = Backoff::default();
        let wait = backoff.next_wait_at(Some(requested), 0.5);
        assert_eq!(wait, requested + FIRST_WAIT / 2);
        let wait = backoff.next_wait_at(Some(Duration::MAX), 1.0);
        assert_eq!(wait, Duration::MAX);
    }

    #[test]
    fn random_parts_are_within_bounds_and_differ() {
        let parts: Vec<_> = (0..100).map(|_| random()).collect();
        assert!(parts.iter().all(|part| (0.0..=1.0).contains(part)));
        assert!(
            parts
                .iter()
                .any(|part| part.to_bits() != parts[0].to_bits())
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |value| {
            let now = HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT");
            let value = (RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&[(DATE, now), value].into_iter().collect())
        };
        assert_eq!(after(" 120 "), Some(Duration::from_secs(120)));
        let date = "Thu, 01 Jan 2026 00:01:30 GMT";
        assert_eq!(after(date), Some(Duration::from_secs(90)));
        let past = "Thu, 01 Jan 2015 00:01:30 GMT";
        assert_eq!(after(past), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
