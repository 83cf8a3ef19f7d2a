//! Shares of users and processes in a limited number of alerts. Pure.
//!
//! One user can make as many findings as it likes. Its alerts must neither use up a limit nor delay those about other
//! users; the same holds for the processes of one user.

use std::collections::{BTreeMap, VecDeque};

/// What an alert is about: the user of the process, if known, and its PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    pub(super) user: Option<u32>,
    pub(super) pid: u32,
}

/// Numbers of alerts by user and by process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    users: BTreeMap<Option<u32>, usize>,
    processes: BTreeMap<Source, usize>,
    total: usize,
}

impl Shares {
    pub(super) fn add(&mut self, source: Source) {
        *self.users.entry(source.user).or_default() += 1;
        *self.processes.entry(source).or_default() += 1;
        self.total += 1;
    }

    pub(super) fn remove(&mut self, source: Source) {
        decrement(&mut self.users, &source.user);
        decrement(&mut self.processes, &source);
        self.total = self.total.saturating_sub(1);
    }

    /// Returns how many the user has, and how many the process.
    pub(super) fn of(&self, source: Source) -> (usize, usize) {
        let user = self.users.get(&source.user).copied().unwrap_or(0);
        let process = self.processes.get(&source).copied().unwrap_or(0);
        (user, process)
    }

    /// Returns whether all `max` are used.
    pub(super) const fn is_full(&self, max: usize) -> bool {
        self.total >= max
    }

    /// Returns whether the source may use another one of `max`: only while more are left than its user and its process
    /// have together. Alone, a process gets a third and a user half; the rest is left to others by the same rule, so
    /// there is always one for a newcomer until many users share the limit.
    pub(super) fn allow(&self, source: Source, max: usize) -> bool {
        let (user, process) = self.of(source);
        user + process < max.saturating_sub(self.total)
    }
}

impl FromIterator<Source> for Shares {
    fn from_iter<T: IntoIterator<Item = Source>>(sources: T) -> Self {
        let mut shares = Self::default();
        for source in sources {
            shares.add(source);
        }
        shares
    }
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The alerts sent in the last period.
#[derive(Debug, Default)]
pub(super) struct Recent {
    sent: VecDeque<(u64, Source)>,
    pub(super) shares: Shares,
}

impl Recent {
    /// Adds an alert sent at the time `at`.
    pub(super) fn add(&mut self, at: u64, source: Source) {
        self.sent.push_back((at, source));
        self.shares.add(source);
    }

    /// Removes the last alert of a source, which was not delivered.
    pub(super) fn remove(&mut self, source: Source) {
        if let Some(index) = self.sent.iter().rposition(|&(_, of)| of == source) {
            self.sent.remove(index);
            self.shares.remove(source);
        }
    }

    /// Removes those sent at `until` or before.
    pub(super) fn expire(&mut self, until: u64) {
        while let Some(&(at, source)) = self.sent.front()
            && at <= until
        {
            self.sent.pop_front();
            self.shares.remove(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many of `max` each source gets, one source after another.
    fn shared(max: usize, sources: &[Source]) -> Vec<usize> {
        let mut shares = Shares::default();
        let take = |source: &Source| {
            let mut count = 0;
            while shares.allow(*source, max) {
                shares.add(*source);
                count += 1;
            }
            count
        };
        sources.iter().map(take).collect()
    }

    #[test]
    fn greedy_source_leaves_room_for_later_ones() {
        let source = |user, pid| Source {
            user: Some(user),
            pid,
        };
        let same_user = [source(1, 1), source(1, 2), source(1, 3)];
        assert_eq!(shared(30, &same_user), [10, 4, 1]);
        let many_processes: Vec<_> = (0..100).map(|pid| source(1, pid)).collect();
        let all: usize = shared(30, &many_processes).iter().sum();
        assert_eq!(all, 15);
        let users = [source(1, 1), source(2, 2), source(3, 3), source(4, 4)];
        assert_eq!(shared(30, &users), [10, 7, 5, 3]);
        // Small limits work too.
        assert_eq!(shared(1, &users), [1, 0, 0, 0]);
        assert_eq!(shared(3, &users), [1, 1, 1, 0]);
        assert_eq!(shared(0, &users), [0; 4]);
    }

    #[test]
    fn expired_alerts_make_room() {
        let source = Source { user: None, pid: 7 };
        let mut recent = Recent::default();
        for at in 1..=3 {
            recent.add(at, source);
        }
        assert!(recent.shares.is_full(3));
        recent.expire(1);
        assert_eq!(recent.shares.of(source), (2, 2));
        recent.remove(source);
        recent.expire(2);
        recent.remove(source);
        assert_eq!(recent.shares.of(source), (0, 0));
        assert!(recent.shares.users.is_empty() && recent.shares.processes.is_empty());
    }
}
