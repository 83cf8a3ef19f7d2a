//! The CPU time that findings may take. Whoever makes many must not delay other work.

use std::time::Duration;

use fdwatch_core::model::Moment;

/// Time over which unused allowance accumulates, in seconds.
const MAX_SAVED: f64 = 10.0;

/// CPU time that may be used for findings: as much as the budget, in addition to the cost of reading events.
pub(crate) struct Allowance {
    /// Share of one CPU.
    share: f64,
    /// Seconds of CPU time; negative if too much was used.
    left: f64,
    at: Option<Moment>,
}

impl Allowance {
    pub(crate) const fn new(percent: f64) -> Self {
        Self {
            share: percent / 100.0,
            left: 0.0,
            at: None,
        }
    }

    /// Removes the limit.
    pub(crate) const fn lift(&mut self) {
        self.share = f64::INFINITY;
        self.left = f64::INFINITY;
    }

    /// Adds what has accumulated since the last call.
    pub(crate) fn refill(&mut self, now: Moment) {
        let max = self.share * MAX_SAVED;
        let seconds = self.at.map_or(MAX_SAVED, |at| {
            Duration::from_nanos(now.since(at)).as_secs_f64()
        });
        self.at = Some(now);
        self.left = (self.left + seconds * self.share).min(max);
    }

    /// Uses `nanoseconds` of CPU time, and returns whether any is left.
    pub(crate) fn spend(&mut self, nanoseconds: u64) -> bool {
        self.left -= Duration::from_nanos(nanoseconds).as_secs_f64();
        self.left > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn use_is_limited_to_share() {
        let mut allowance = Allowance::new(1.0);
        allowance.refill(Moment(SECOND));
        assert!(allowance.spend(SECOND / 20));
        assert!(!allowance.spend(SECOND / 20));
        allowance.refill(Moment(2 * SECOND));
        assert!(allowance.spend(SECOND / 200));
        assert!(!allowance.spend(SECOND / 100));
        // What is not used does not accumulate for long.
        allowance.refill(Moment(1000 * SECOND));
        assert!(!allowance.spend(SECOND / 5));
    }

    #[test]
    fn unlimited_budget_is_never_used_up() {
        let mut allowance = Allowance::new(f64::INFINITY);
        allowance.refill(Moment(SECOND));
        allowance.refill(Moment(SECOND));
        assert!(allowance.spend(u64::MAX));
    }
}
