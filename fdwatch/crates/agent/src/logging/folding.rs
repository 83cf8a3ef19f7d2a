//! Folds repeated messages. Pure: time is a parameter.

use fdwatch_core::plural::counted;
use rustc_hash::FxHashMap;
use tracing::Level;

/// Interval of repeated messages: nanoseconds.
const EVERY: u64 = 60_000_000_000;

/// Limit of remembered messages.
const MAX: usize = 256;

/// Limit of further messages per interval, which are not remembered. The rest is counted.
const MAX_OTHERS: u32 = 1024;

/// The recent messages.
#[derive(Debug, Default)]
pub(super) struct Folding {
    seen: FxHashMap<(Level, String), Seen>,
    /// Start of the interval and number of messages that are not remembered.
    others: (u64, u32),
    /// Number of omitted messages.
    omitted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: u64,
    more: u64,
}

impl Folding {
    /// Handles a message, and returns the lines to log.
    pub(super) fn take(&mut self, now: u64, level: Level, text: &str) -> Vec<(Level, String)> {
        let mut lines = self.over(now);
        let key = (level, text.to_owned());
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.more += 1;
        } else if self.seen.len() < MAX {
            lines.push(key.clone());
            self.seen.insert(key, Seen { at: now, more: 0 });
        } else if self.others.1 < MAX_OTHERS {
            self.others.1 += 1;
            lines.push(key);
        } else {
            self.omitted += 1;
        }
        lines
    }

    /// Returns the counts of repeated messages whose interval has passed.
    pub(super) fn over(&mut self, now: u64) -> Vec<(Level, String)> {
        let mut lines = Vec::new();
        self.seen.retain(|(level, text), seen| {
            if now.saturating_sub(seen.at) < EVERY {
                return true;
            }
            if seen.more == 0 {
                return false;
            }
            lines.push((
                *level,
                format!("{text} (repeated {})", counted(seen.more, "time")),
            ));
            *seen = Seen { at: now, more: 0 };
            true
        });
        if now.saturating_sub(self.others.0) >= EVERY {
            self.others = (now, 0);
            if self.omitted > 0 {
                let words = format!("{} other messages were omitted", self.omitted);
                lines.push((Level::WARN, words));
                self.omitted = 0;
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_message_is_logged_once_a_minute() {
        let mut folding = Folding::default();
        assert_eq!(folding.take(0, Level::INFO, "a").len(), 1);
        for second in 0..59 {
            assert!(
                folding
                    .take(second * 1_000_000_000, Level::INFO, "a")
                    .is_empty()
            );
        }
        // Another level is another message.
        assert_eq!(folding.take(1, Level::WARN, "a").len(), 1);
        assert_eq!(
            folding.over(EVERY),
            [(Level::INFO, "a (repeated 59 times)".to_owned())]
        );
        assert!(folding.take(EVERY + 1, Level::INFO, "a").is_empty());
        assert_eq!(folding.over(2 * EVERY).len(), 1);
        // After a minute of silence it is new again.
        assert!(folding.over(4 * EVERY).is_empty());
        assert_eq!(folding.take(4 * EVERY, Level::INFO, "a")[0].1, "a");
    }

    #[test]
    fn different_messages_are_bounded_and_counted() {
        let mut folding = Folding::default();
        let lines: usize = (0..10_000)
            .map(|number| folding.take(1, Level::INFO, &number.to_string()).len())
            .sum();
        assert_eq!(lines, MAX + MAX_OTHERS as usize);
        assert_eq!(folding.seen.len(), MAX);
        let left = 10_000 - lines;
        let words = format!("{left} other messages were omitted");
        assert_eq!(folding.over(EVERY), [(Level::WARN, words)]);
    }
}
