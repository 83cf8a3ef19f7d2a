//! The CPU budget: how much of one CPU fdwatch may use, and what it sheds when it exceeds that:
//! first detail, then audits, then events of the busiest processes, which are then only read from
//! snapshots.
//!
//! No I/O and no clock: the caller passes in CPU time and moments.

use std::collections::VecDeque;

use crate::model::Moment;

/// Time over which use is averaged: nanoseconds.
const WINDOW: u64 = 10_000_000_000;

/// Minimum time between two steps, so that the effect of the first is visible: nanoseconds.
const STEP_INTERVAL: u64 = 5_000_000_000;

/// Time below half of the budget after which everything resumes: nanoseconds.
const CALM_PERIOD: u64 = 30_000_000_000;

/// Upper limit of that time, which doubles when resuming was too early: nanoseconds.
const MAX_CALM_PERIOD: u64 = 600_000_000_000;

/// What is being shed. Each level includes the ones before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShedLevel {
    /// Nothing.
    #[default]
    Nothing,
    /// Detail.
    Detail,
    /// Audits as well, except for requested ones.
    Audits,
    /// Events of the busiest processes as well. Audits run again, for these processes.
    Busiest,
}

impl ShedLevel {
    /// All levels, from the least shed to the most.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Detail, Self::Audits, Self::Busiest];

    /// Returns the name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Detail => "detail",
            Self::Audits => "audits",
            Self::Busiest => "busiest-processes",
        }
    }
}

/// A change that the budget requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetStep {
    /// Shed this.
    Shed(ShedLevel),
    /// Shed events of further processes.
    ShedMore,
    /// Resume everything.
    Resume,
}

/// The budget and recent use.
#[derive(Debug)]
pub struct Budget {
    /// Share of one CPU, from 0.
    share: f64,
    /// Moments and CPU seconds used by then, over the last [`WINDOW`], oldest first.
    used: VecDeque<(Moment, f64)>,
    shedding: ShedLevel,
    /// When the last step was taken.
    stepped: Moment,
    /// Since when use has been below half of the budget.
    calm_since: Option<Moment>,
    calm: u64,
}

impl Budget {
    /// Creates a budget of `percent` of one CPU.
    #[must_use]
    pub fn new(percent: f64) -> Self {
        Self {
            share: percent / 100.0,
            used: VecDeque::new(),
            shedding: ShedLevel::Nothing,
            stepped: Moment(0),
            calm_since: None,
            calm: CALM_PERIOD,
        }
    }

    /// Records that `used` CPU seconds were used in total by `now`, and returns the change that
    /// this requires.
    pub fn update(&mut self, now: Moment, used: f64) -> Option<BudgetStep> {
        while self
            .used
            .front()
            .is_some_and(|(at, _)| now.since(*at) > WINDOW)
        {
            self.used.pop_front();
        }
        self.used.push_back((now, used));
        let share = self.share_used();
        if self.shedding != ShedLevel::Nothing && share < self.share / 2.0 {
            let since = *self.calm_since.get_or_insert(now);
            if now.since(since) >= self.calm {
                self.shedding = ShedLevel::Nothing;
                self.calm_since = None;
                self.stepped = now;
                return Some(BudgetStep::Resume);
            }
        } else {
            self.calm_since = None;
        }
        // A short period is not representative.
        let has_seen = self.used.front().is_some_and(|(at, _)| {
            now.since(*at) >= STEP_INTERVAL && now.since(self.stepped) >= STEP_INTERVAL
        });
        if share <= self.share || !has_seen {
            return None;
        }
        if self.shedding == ShedLevel::Nothing {
            let is_soon = self.stepped != Moment(0) && now.since(self.stepped) < self.calm * 2;
            self.calm = if is_soon {
                (self.calm * 2).min(MAX_CALM_PERIOD)
            } else {
                CALM_PERIOD
            };
        }
        self.stepped = now;
        self.shedding = match self.shedding {
            ShedLevel::Nothing => ShedLevel::Detail,
            ShedLevel::Detail => ShedLevel::Audits,
            ShedLevel::Audits => ShedLevel::Busiest,
            ShedLevel::Busiest => return Some(BudgetStep::ShedMore),
        };
        Some(BudgetStep::Shed(self.shedding))
    }

    /// Returns what is being shed.
    #[must_use]
    pub const fn shedding(&self) -> ShedLevel {
        self.shedding
    }

    /// Returns the budget, in percent of one CPU.
    #[must_use]
    pub fn percent(&self) -> f64 {
        self.share * 100.0
    }

    /// Returns the recent use, in percent of one CPU.
    #[must_use]
    pub fn percent_used(&self) -> f64 {
        self.share_used() * 100.0
    }

    /// Returns the processes to shed, given the number of events of each: the busiest, as few as
    /// suffice. Those for which `is_important` returns true come last.
    #[must_use]
    pub fn busiest(
        &self,
        events: impl IntoIterator<Item = (u32, u64)>,
        is_important: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        let mut events: Vec<_> = events.into_iter().collect();
        events.sort_by_cached_key(|&(tgid, count)| {
            (is_important(tgid), std::cmp::Reverse(count), tgid)
        });
        let all: u64 = events.iter().map(|(_, count)| count).sum();
        let used = self.share_used();
        // Aims well below the budget, assuming that these events cause all of the use.
        let excess = if used > 0.0 {
            1.0 - self.share * 0.7 / used
        } else {
            0.0
        };
        #[expect(clippy::cast_precision_loss, reason = "only a ratio is needed")]
        let share = |count: u64| count as f64 / all.max(1) as f64;
        let mut left = excess;
        let mut busiest = Vec::new();
        for (tgid, count) in events {
            if left <= 0.0 || busiest.len() >= MAX_AT_ONCE {
                break;
            }
            // Nearly idle processes are not worth shedding.
            if share(count) < 0.01 {
                continue;
            }
            left -= share(count);
            busiest.push(tgid);
        }
        busiest
    }

    fn share_used(&self) -> f64 {
        match (self.used.front(), self.used.back()) {
            (Some((from, before)), Some((to, after))) if to > from => {
                #[expect(clippy::cast_precision_loss, reason = "spans a few seconds")]
                let seconds = to.since(*from) as f64 / 1e9;
                (after - before) / seconds
            }
            _ => 0.0,
        }
    }
}

/// Maximum number of processes shed in one step.
const MAX_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Records `each` seconds of use per second, and returns the required changes with their times.
    fn steps(
        budget: &mut Budget,
        from: u64,
        used: &mut f64,
        each: f64,
        seconds: u64,
    ) -> Vec<(u64, BudgetStep)> {
        let mut steps = Vec::new();
        for second in from..from + seconds {
            *used += each;
            if let Some(step) = budget.update(Moment(second * SECOND), *used) {
                steps.push((second - from, step));
            }
        }
        steps
    }

    /// Returns after how many seconds of almost no use everything resumes.
    fn resumes(budget: &mut Budget, from: u64, used: &mut f64, seconds: u64) -> u64 {
        for second in 0..seconds {
            *used += 0.001;
            if budget.update(Moment((from + second) * SECOND), *used) == Some(BudgetStep::Resume) {
                return second;
            }
        }
        panic!("shedding does not end");
    }

    #[test]
    fn use_within_budget_sheds_nothing() {
        let mut budget = Budget::new(1.0);
        assert_eq!(steps(&mut budget, 100, &mut 0.3, 0.009, 1000), []);
    }

    #[test]
    fn short_burst_sheds_nothing() {
        let mut budget = Budget::new(1.0);
        let mut used = 0.0;
        assert_eq!(steps(&mut budget, 100, &mut used, 0.001, 10), []);
        used += 0.05;
        assert_eq!(steps(&mut budget, 110, &mut used, 0.001, 100), []);
    }

    #[test]
    fn excess_sheds_in_order_and_resumes() {
        let mut budget = Budget::new(1.0);
        let mut used = 0.0;
        assert_eq!(
            steps(&mut budget, 100, &mut used, 0.05, 21),
            [
                (5, BudgetStep::Shed(ShedLevel::Detail)),
                (10, BudgetStep::Shed(ShedLevel::Audits)),
                (15, BudgetStep::Shed(ShedLevel::Busiest)),
                (20, BudgetStep::ShedMore),
            ]
        );
        let resumed = resumes(&mut budget, 121, &mut used, 100);
        assert!((35..45).contains(&resumed), "{resumed}");
    }

    #[test]
    fn early_resume_doubles_next_wait() {
        let mut budget = Budget::new(1.0);
        let mut used = 0.0;
        let mut waits = Vec::new();
        let mut second = 100;
        for _ in 0..7 {
            steps(&mut budget, second, &mut used, 0.05, 20);
            let resumed = resumes(&mut budget, second + 20, &mut used, 700);
            waits.push(resumed);
            second += 20 + resumed + 1;
        }
        assert!(waits.is_sorted() && waits[5] > 8 * waits[0], "{waits:?}");
        assert!(waits[6] <= 620, "{waits:?}");
    }

    #[test]
    fn busiest_selects_as_few_as_suffice() {
        let mut budget = Budget::new(1.0);
        steps(&mut budget, 100, &mut 0.0, 0.02, 5);
        // Use is twice the budget, so about two thirds are shed.
        let events = [(1, 10), (2, 500), (3, 300), (4, 1), (5, 189)];
        assert_eq!(budget.busiest(events, |_| false), [2, 3]);
        assert_eq!(budget.busiest(events, |tgid| tgid == 2), [3, 5, 1, 2]);
        assert_eq!(budget.busiest([], |_| false), [0; 0]);
    }
}
