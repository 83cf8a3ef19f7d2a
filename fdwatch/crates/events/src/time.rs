//! Moments of the model as times of day, and spans of time.

use jiff::{Timestamp, tz::TimeZone};

use fdwatch_core::model::Moment;

/// Clock that converts moments (nanoseconds since boot) to the time of day.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Time of the boot: nanoseconds since 1970.
    offset: u64,
    zone: TimeZone,
}

impl Clock {
    /// Creates a clock from the current time, in nanoseconds since 1970 and since boot.
    #[must_use]
    pub fn new(wall_time: u64, boottime: u64) -> Self {
        Self {
            offset: wall_time.saturating_sub(boottime),
            zone: TimeZone::system(),
        }
    }

    /// Adjusts to a clock that was set. Small differences result from reading two clocks, and are ignored, so
    /// that the time of a moment does not change.
    pub const fn adjust(&mut self, wall_time: u64, boottime: u64) {
        const STEP: u64 = 100_000_000;
        let offset = wall_time.saturating_sub(boottime);
        if offset.abs_diff(self.offset) > STEP {
            self.offset = offset;
        }
    }

    fn timestamp(&self, moment: Moment) -> Timestamp {
        timestamp(moment.0.saturating_add(self.offset))
    }

    /// Returns the time of a moment in the format of RFC 3339, in UTC, with microseconds.
    #[must_use]
    pub fn rfc3339(&self, moment: Moment) -> String {
        rfc3339(moment.0.saturating_add(self.offset))
    }

    /// Creates a clock of moments that are nanoseconds since 1970.
    #[must_use]
    pub fn of_wall_time() -> Self {
        Self::new(0, 0)
    }

    /// Returns the local date and time, to the second.
    #[must_use]
    pub fn date_and_time(&self, moment: Moment) -> String {
        let zoned = self.timestamp(moment).to_zoned(self.zone.clone());
        zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// Returns the local time of day, to the second.
    #[must_use]
    pub fn time_of_day(&self, moment: Moment) -> String {
        let zoned = self.timestamp(moment).to_zoned(self.zone.clone());
        zoned.strftime("%H:%M:%S").to_string()
    }
}

fn timestamp(nanoseconds: u64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::MAX)
}

/// Formats nanoseconds since 1970 as in RFC 3339, in UTC, with microseconds.
#[must_use]
pub fn rfc3339(wall_time: u64) -> String {
    format!("{:.6}", timestamp(wall_time))
}

/// Converts nanoseconds to seconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "nine digits are enough")]
pub fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Converts nanoseconds between two moments to seconds, to the tenth: moments are those of reading,
/// which is no more exact.
#[must_use]
pub fn tenths(nanoseconds: u64) -> f64 {
    (seconds(nanoseconds) * 10.0).round() / 10.0
}

/// Returns a span of time for people: `less than 0.1 s`, `19.2 s`, `5 min 12 s`, `3 h 4 min`,
/// `2 d 5 h`.
#[must_use]
pub fn span(nanoseconds: u64) -> String {
    let total = nanoseconds / 1_000_000_000;
    match total {
        0 if nanoseconds < 100_000_000 => "less than 0.1 s".to_owned(),
        0..60 => format!("{:.1} s", tenths(nanoseconds)),
        60..3600 => format!("{} min {} s", total / 60, total % 60),
        3600..86_400 => format!("{} h {} min", total / 3600, total / 60 % 60),
        _ => format!("{} d {} h", total / 86_400, total / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_has_time_of_day() {
        let clock = Clock::new(1_700_000_000_000_000_000, 1_000_000_000);
        let moment = Moment(1_500_000_000);
        assert_eq!(clock.rfc3339(moment), "2023-11-14T22:13:20.500000Z");
    }

    #[test]
    fn spans_have_one_or_two_units() {
        const SECOND: u64 = 1_000_000_000;
        assert_eq!(span(999), "less than 0.1 s");
        assert_eq!(span(340_000_000), "0.3 s");
        assert_eq!(span(19 * SECOND + 200_000_000), "19.2 s");
        assert_eq!(span(312 * SECOND), "5 min 12 s");
        assert_eq!(span(11_040 * SECOND), "3 h 4 min");
        assert_eq!(span(2 * 86_400 * SECOND), "2 d 0 h");
    }
}
