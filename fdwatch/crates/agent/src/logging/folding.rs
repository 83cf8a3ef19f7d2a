//! Folds what is said again and again. Pure: time is handed in.

use fdwatch_core::plural::counted;
use rustc_hash::FxHashMap;
use tracing::Level;

/// What was said is said again, with how often, no more often than this: nanoseconds.
const EVERY: u64 = 60_000_000_000;

/// Messages that are remembered.
const MAX: usize = 256;

/// Messages within `EVERY` of which nothing is remembered, beyond those that are: the rest is counted.
const MAX_OTHERS: u32 = 1024;

/// What was said of late.
#[derive(Debug, Default)]
pub(super) struct Folding {
    said: FxHashMap<(Level, String), Said>,
    /// When those that are not remembered were said first, and how many.
    others: (u64, u32),
    /// How many of them were left out.
    left_out: u64,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    at: u64,
    more: u64,
}

impl Folding {
    /// What is to be said of what is said now.
    pub(super) fn take(&mut self, now: u64, level: Level, text: &str) -> Vec<(Level, String)> {
        let mut told = self.over(now);
        let key = (level, text.to_owned());
        if let Some(said) = self.said.get_mut(&key) {
            said.more += 1;
        } else if self.said.len() < MAX {
            told.push(key.clone());
            self.said.insert(key, Said { at: now, more: 0 });
        } else if self.others.1 < MAX_OTHERS {
            self.others.1 += 1;
            told.push(key);
        } else {
            self.left_out += 1;
        }
        told
    }

    /// What is to be said of what was said again, now that its time is over.
    pub(super) fn over(&mut self, now: u64) -> Vec<(Level, String)> {
        let mut told = Vec::new();
        self.said.retain(|(level, text), said| {
            if now.saturating_sub(said.at) < EVERY {
                return true;
            }
            if said.more == 0 {
                return false;
            }
            told.push((
                *level,
                format!("{text} ({} more)", counted(said.more, "time")),
            ));
            *said = Said { at: now, more: 0 };
            true
        });
        if now.saturating_sub(self.others.0) >= EVERY {
            self.others = (now, 0);
            if self.left_out > 0 {
                let words = format!("{} other messages were left out", self.left_out);
                told.push((Level::WARN, words));
                self.left_out = 0;
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_again_is_told_once_a_minute() {
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
            [(Level::INFO, "a (59 times more)".to_owned())]
        );
        assert!(folding.take(EVERY + 1, Level::INFO, "a").is_empty());
        assert_eq!(folding.over(2 * EVERY).len(), 1);
        // Quiet for a minute: it is news again.
        assert!(folding.over(4 * EVERY).is_empty());
        assert_eq!(folding.take(4 * EVERY, Level::INFO, "a")[0].1, "a");
    }

    #[test]
    fn a_flood_of_different_messages_is_bounded_and_counted() {
        let mut folding = Folding::default();
        let told: usize = (0..10_000)
            .map(|number| folding.take(1, Level::INFO, &number.to_string()).len())
            .sum();
        assert_eq!(told, MAX + MAX_OTHERS as usize);
        assert_eq!(folding.said.len(), MAX);
        let left = 10_000 - told;
        let words = format!("{left} other messages were left out");
        assert_eq!(folding.over(EVERY), [(Level::WARN, words)]);
    }
}
