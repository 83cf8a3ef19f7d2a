//! The times at which a host reports to the fleet.

use std::time::Duration;

/// Interval of heartbeats.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(60);

/// Interval in which everything active is reported again, so that each hour of the rollups has it: seconds.
pub(super) const HOUR: u64 = 3600;

/// The times of hourly reports: each host reports once per hour, at a minute that depends on its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hours {
    reported: u64,
    minute: u64,
}

impl Hours {
    /// Creates the times of a host from `now` on: seconds since 1970.
    pub(super) fn new(host: &str, now: u64) -> Self {
        Self {
            reported: now / HOUR,
            minute: u64::from(host.bytes().map(u32::from).sum::<u32>()) % 50,
        }
    }

    /// Returns whether the report of another hour is due at `now`. If so, it counts as done.
    pub(super) fn is_due(&mut self, now: u64) -> bool {
        // Not only later ones: the clock may have been set back.
        let is_due = now / HOUR != self.reported && now / 60 % 60 >= self.minute;
        if is_due {
            self.reported = now / HOUR;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_due_once_per_hour_even_if_the_clock_is_set_back() {
        const START: u64 = 500_000 * HOUR;
        let mut hours = Hours::new("", START);
        assert!(!hours.is_due(START + HOUR - 1));
        assert!(hours.is_due(START + HOUR));
        assert!(!hours.is_due(START + HOUR + 60));
        // By 40 days.
        assert!(hours.is_due(START - 40 * 24 * HOUR));
        assert!(!hours.is_due(START - 40 * 24 * HOUR + 60));
    }
}
