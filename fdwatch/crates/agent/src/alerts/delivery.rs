//! Delivery of alerts: its time limits and its outcome.

use std::time::Duration;

use super::state::Outcome;

/// How patient alerts are.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Wait after the first try that failed; twice as long after each.
    pub first_wait: Duration,
    /// But no longer than that.
    pub most_wait: Duration,
    /// Tries in a row.
    pub tries: u32,
    /// After these have all failed it is left alone for so long.
    pub rest: Duration,
    /// How often Alertmanagers are told of what is still there.
    pub remind: Duration,
    /// How long a command may take.
    pub command: Duration,
    /// After the first snapshot was told, how long what an earlier run told has to be seen again,
    /// before it is over.
    pub settle: Duration,
    /// The same of what grows, which takes a while to be seen.
    pub settle_growth: Duration,
    /// How long what is on its way may take at the end.
    pub leave: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_secs(1),
            most_wait: Duration::from_secs(30),
            tries: 5,
            rest: Duration::from_secs(60),
            remind: Duration::from_secs(60),
            command: Duration::from_secs(30),
            settle: Duration::from_secs(30),
            settle_growth: Duration::from_secs(20 * 60),
            leave: Duration::from_secs(3),
        }
    }
}

/// What came of sending.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) outcome: Outcome,
    /// Why it was not delivered.
    pub(super) reason: String,
}

impl Sent {
    pub(super) const fn delivered() -> Self {
        Self {
            outcome: Outcome::Delivered,
            reason: String::new(),
        }
    }

    pub(super) const fn failed(reason: String) -> Self {
        Self {
            outcome: Outcome::Failed,
            reason,
        }
    }

    pub(super) const fn refused(reason: String) -> Self {
        Self {
            outcome: Outcome::Refused,
            reason,
        }
    }

    pub(super) fn is_delivered(&self) -> bool {
        self.outcome == Outcome::Delivered
    }
}
