//! Limits what is deleted because of its age. Pure.
//!
//! The clock may be wrong by months, as at the start of a host without a battery-backed clock, and then everything
//! appears old. So entries are deleted by age only while the clock runs steadily, and no more of them than twice
//! those that reach the limit in that time.

use std::time::Duration;

/// Change of the clock, relative to the boot clock, that is a step: nanoseconds. A clock that is slewed stays below it
/// between two calls.
const STEP: u64 = 60_000_000_000;

/// The longest time between two deletions: nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

/// The whole: parts per million.
pub(super) const ALL: u64 = 1_000_000;

/// What may be deleted.
#[derive(Debug)]
pub(super) struct Aging {
    max_age: u64,
    /// The time of the boot by the clock: nanoseconds since 1970.
    booted: u64,
    /// The last deletion or step: nanoseconds since boot.
    since: u64,
}

impl Aging {
    /// Creates it for entries that are old after `max_age`, with the time in nanoseconds since 1970 and since boot.
    pub(super) fn new(max_age: Duration, wall_time: u64, boottime: u64) -> Self {
        Self {
            max_age: u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX),
            booted: wall_time.wrapping_sub(boottime),
            since: boottime,
        }
    }

    /// Returns the share of all entries that may be deleted now if they are old: parts per million.
    pub(super) fn grant(&mut self, wall_time: u64, boottime: u64) -> u64 {
        let booted = wall_time.wrapping_sub(boottime);
        let has_stepped = booted.abs_diff(self.booted) > STEP;
        self.booted = booted;
        if has_stepped {
            self.since = boottime;
            return 0;
        }
        let elapsed = boottime.saturating_sub(self.since);
        if elapsed < HOUR.min(self.max_age / 24) {
            return 0;
        }
        self.since = boottime;
        let share = 2 * u128::from(elapsed) * u128::from(ALL) / u128::from(self.max_age.max(1));
        u64::try_from(share).unwrap_or(ALL).clamp(1, ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * HOUR;
    const WALL: u64 = 20_000 * DAY;

    fn aging() -> Aging {
        Aging::new(Duration::from_secs(30 * 86_400), WALL, 0)
    }

    #[test]
    fn steady_clock_grants_twice_what_comes_of_age() {
        let mut aging = aging();
        assert_eq!(aging.grant(WALL, 0), 0);
        assert_eq!(aging.grant(WALL + HOUR - 1, HOUR - 1), 0);
        let mut granted = 0;
        for ten_minutes in 0..=30 * 24 * 6 {
            let at = ten_minutes * HOUR / 6;
            granted += aging.grant(WALL + at, at);
        }
        // Rounded down in each hour.
        assert!((2 * ALL - 720..=2 * ALL).contains(&granted), "{granted}");
    }

    #[test]
    fn set_clock_grants_nothing_for_an_hour() {
        let mut aging = aging();
        for (step, at) in [(40 * DAY, HOUR), (0, 2 * HOUR), (40 * DAY, 3 * HOUR)] {
            assert_eq!(aging.grant(WALL + step + at, at), 0);
            assert_eq!(aging.grant(WALL + step + at + HOUR / 2, at + HOUR / 2), 0);
        }
        // The clock that stays is believed.
        assert!(aging.grant(WALL + 44 * DAY + 4 * HOUR, 4 * HOUR) == 0);
        assert!(aging.grant(WALL + 44 * DAY + 5 * HOUR, 5 * HOUR) > 0);
    }

    #[test]
    fn short_ages_are_kept() {
        let mut aging = Aging::new(Duration::from_secs(3600), WALL, 0);
        assert_eq!(aging.grant(WALL + HOUR / 6, HOUR / 6), ALL / 3);
        let mut aging = Aging::new(Duration::ZERO, WALL, 0);
        assert_eq!(aging.grant(WALL, 0), 1);
        assert_eq!(aging.grant(WALL + 1, 1), ALL);
    }
}
