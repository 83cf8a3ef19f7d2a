//! The times at which a host reports to the fleet.

use std::time::Duration;

/// Interval of heartbeats.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(60);

/// Interval in which everything active is reported again, so that each hour of the rollups has it: seconds.
pub(super) const HOUR: u64 = 3600;

/// When what is there still is told again: not by all hosts at the same moment, but by each once in
/// every hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hours {
    told: u64,
    minute: u64,
}

impl Hours {
    /// Those of a host, from a time on: seconds since 1970.
    pub(super) fn new(host: &str, now: u64) -> Self {
        Self {
            told: now / HOUR,
            minute: u64::from(host.bytes().map(u32::from).sum::<u32>()) % 50,
        }
    }

    /// Whether it is to be told again now. It is asked when it will be.
    pub(super) fn is_another(&mut self, now: u64) -> bool {
        let is_another = now / HOUR > self.told && now / 60 % 60 >= self.minute;
        if is_another {
            self.told = now / HOUR;
        }
        is_another
    }
}
