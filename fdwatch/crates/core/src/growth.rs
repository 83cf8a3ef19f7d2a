//! Growing tables: how fast they grow, and when they will reach the process's limit.
//!
//! No I/O. Tables with many descriptors are counted at intervals. A trend is reported when it
//! persists, not when a server accepts many clients at once.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::{
    diagnose::{Census, ProcessInfo, Severity},
    duplicates::Change,
    model::{Model, Moment},
};

/// A report about a table that grows or has stopped growing.
#[derive(Clone, Debug)]
pub struct GrowthReport {
    /// Whether it is new, more severe, or over.
    pub change: Change,
    /// The process.
    pub process: ProcessInfo,
    /// Number of its open descriptors.
    pub open: usize,
    /// Deleted files among them.
    pub pinned: Pinned,
    /// The trend; none if it has stopped.
    pub trend: Option<Trend>,
}

/// Deleted files that are still open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Number of files.
    pub files: usize,
    /// The space they occupy, in bytes.
    pub bytes: u64,
}

/// Interval between counts: nanoseconds.
const INTERVAL: u64 = 5_000_000_000;

/// Tables with fewer descriptors are not checked for growth.
pub const LARGE: usize = 64;

/// Counts stored per process: twelve minutes of them.
const MAX_COUNTS: usize = 140;

/// Maximum number of processes with counts.
const MAX_PROCESSES: usize = 1024;

/// Minimum growth over the observed counts.
const MIN_MORE: usize = 32;

/// A trend consists of this many stretches of time, each with a higher minimum than the one before.
const STRETCHES: usize = 7;

/// Lengths of the stretches, in counts: about half a minute, two and twelve minutes in all.
const LENGTHS: [usize; 3] = [1, 4, 20];

/// Trends with stretches of at least this length are steady, and reported even when not critical.
const STEADY: usize = 4;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// A growing table.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// The process.
    pub tgid: u32,
    /// Number of its open descriptors.
    pub open: usize,
    /// Number at the first count.
    pub was: usize,
    /// When the first count was taken.
    pub since: Moment,
    /// Growth per hour.
    pub per_hour: u64,
    /// Its limit of open descriptors (`RLIMIT_NOFILE`), if known.
    pub limit: Option<u64>,
    /// Nanoseconds until the limit is reached at this rate.
    pub left: Option<u64>,
    /// Growth by file type and by origin, since the table was first counted.
    pub more: Census,
    /// How severe it is.
    pub severity: Severity,
}

/// A change of a trend.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// New trend, or one that has become more severe.
    Grows(Trend),
    /// End of a trend: the process, and its number of open descriptors.
    Ended(u32, usize),
}

#[derive(Debug)]
struct Series {
    start_time: u64,
    counts: VecDeque<(Moment, usize)>,
    /// The census at the first count.
    first: Census,
    /// The severity last reported.
    reported: Option<Severity>,
}

/// The counts of all large tables.
#[derive(Debug, Default)]
pub struct Growth {
    series: FxHashMap<u32, Series>,
    counted: Moment,
}

impl Growth {
    /// Takes a count if the interval has passed, and returns the changes. `limit_of` returns a
    /// process's limit of open descriptors; it is called for growing tables only.
    pub fn update(
        &mut self,
        model: &Model,
        now: Moment,
        mut limit_of: impl FnMut(u32) -> Option<u64>,
    ) -> Vec<Event> {
        if now.since(self.counted) < INTERVAL {
            return Vec::new();
        }
        self.counted = now;
        let mut events = Vec::new();
        self.series.retain(|&tgid, series| {
            model.is_running(tgid, series.start_time)
                && model
                    .table_of(tgid)
                    .is_some_and(|table| table.len() >= LARGE || series.reported.is_some())
        });
        for process in model.processes() {
            let Some(table) = model.table_of(process.tgid) else {
                continue;
            };
            let known = self.series.contains_key(&process.tgid);
            if !known && table.len() < min_open(self.series.len()) {
                continue;
            }
            let series = self.series.entry(process.tgid).or_insert_with(|| Series {
                start_time: process.start_time,
                counts: VecDeque::new(),
                first: Census::of(table),
                reported: None,
            });
            if series.counts.len() >= MAX_COUNTS {
                series.counts.pop_front();
            }
            series.counts.push_back((now, table.len()));
            let Some((per_hour, is_steady)) = series.trend() else {
                if series.reported.is_some() && series.has_stopped() {
                    series.reported = None;
                    events.push(Event::Ended(process.tgid, table.len()));
                }
                continue;
            };
            let limit = limit_of(process.tgid);
            let left = limit.map(|limit| {
                let free = limit.saturating_sub(table.len() as u64);
                u64::try_from(u128::from(free) * u128::from(HOUR) / u128::from(per_hour.max(1)))
                    .unwrap_or(u64::MAX)
            });
            let severity = severity(table.len(), limit, left, is_steady);
            if series.reported.is_some_and(|reported| reported >= severity) {
                continue;
            }
            let (since, was) = series.counts.front().copied().unwrap_or((now, 0));
            series.reported = Some(severity);
            events.push(Event::Grows(Trend {
                tgid: process.tgid,
                open: table.len(),
                was,
                since,
                per_hour,
                limit,
                left,
                more: increase(&series.first, &Census::of(table)),
                severity,
            }));
        }
        events
    }

    /// Returns the process's growth per hour: 0 if it does not grow or is not counted, none if that
    /// is undecided.
    #[must_use]
    pub fn per_hour(&self, tgid: u32) -> Option<u64> {
        let Some(series) = self.series.get(&tgid) else {
            return Some(0);
        };
        let per_hour = series.trend().map(|(per_hour, _)| per_hour);
        // Growth in bursts has not stopped between two of them.
        per_hour.or_else(|| series.has_stopped().then_some(0))
    }
}

/// Returns the number of descriptors from which another process is counted, after `counted` others.
const fn min_open(counted: usize) -> usize {
    match counted / MAX_PROCESSES {
        0 => LARGE,
        1 => LARGE * 4,
        2 => LARGE * 16,
        _ => usize::MAX,
    }
}

impl Series {
    /// Returns the growth per hour, if there is a trend, and whether it is steady.
    fn trend(&self) -> Option<(u64, bool)> {
        let of_length = |&length: &usize| {
            let per_hour = self.trend_of(length)?;
            Some((per_hour, length >= STEADY))
        };
        LENGTHS.iter().rev().find_map(of_length)
    }

    fn trend_of(&self, length: usize) -> Option<u64> {
        let first = self.counts.len().checked_sub(STRETCHES * length)?;
        let counts: Vec<_> = self.counts.range(first..).copied().collect();
        let fewest = counts
            .chunks(length)
            .filter_map(|stretch| stretch.iter().map(|&(_, count)| count).min());
        let fewest: Vec<_> = fewest.collect();
        let (&(began, was), &(ended, is)) = (counts.first()?, counts.last()?);
        if !fewest.is_sorted_by(|before, after| before < after) || is < was + MIN_MORE {
            return None;
        }
        let more = (is - was) as u128;
        let per_hour = more * u128::from(HOUR) / u128::from(ended.since(began).max(1));
        u64::try_from(per_hour).ok()
    }

    /// Returns whether there was no growth for as long as it takes to detect growth.
    fn has_stopped(&self) -> bool {
        let mut last = self
            .counts
            .iter()
            .rev()
            .take(STRETCHES)
            .map(|&(_, count)| count);
        let Some(now) = last.next() else {
            return true;
        };
        last.all(|before| before >= now)
    }
}

fn severity(open: usize, limit: Option<u64>, left: Option<u64>, is_steady: bool) -> Severity {
    let share = |percent: u64| limit.is_some_and(|max| open as u64 * 100 >= max * percent);
    let within = |time| left.is_some_and(|left| left < time);
    if share(80) || (share(50) && within(HOUR)) {
        Severity::Critical
    } else if is_steady && within(DAY) {
        Severity::Warning
    } else {
        Severity::Info
    }
}

/// Returns the differences that are increases.
fn increase(before: &Census, now: &Census) -> Census {
    let increase = |before: &std::collections::BTreeMap<&'static str, usize>,
                    now: &std::collections::BTreeMap<&'static str, usize>| {
        let now = now.iter();
        now.filter_map(|(&name, &count)| {
            let more = count.saturating_sub(before.get(name).copied().unwrap_or(0));
            (more > 0).then_some((name, more))
        })
        .collect()
    };
    Census {
        open: now.open.saturating_sub(before.open),
        by_type: increase(&before.by_type, &now.by_type),
        by_origin: increase(&before.by_origin, &now.by_origin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated_host::Host;

    /// Opens `counts[i]` files before the i-th count.
    fn opens(host: &mut Host, growth: &mut Growth, next: &mut u32, counts: &[u32]) -> Vec<Event> {
        let mut events = Vec::new();
        for &count in counts {
            for _ in 0..count {
                host.open_inode(1, *next, u64::from(*next), 0, u64::from(*next));
                *next += 1;
            }
            host.pass(INTERVAL);
            events.extend(growth.update(&host.model, host.now(), |_| Some(1000)));
        }
        events
    }

    #[test]
    fn growth_near_limit_is_critical_and_ends() {
        let (mut host, mut growth, mut next) = (Host::new(), Growth::default(), 0);
        let events = opens(
            &mut host,
            &mut growth,
            &mut next,
            &[100, 60, 60, 60, 60, 60, 60],
        );
        let [Event::Grows(trend)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!((trend.tgid, trend.open, trend.was), (1, 460, 100));
        assert_eq!(trend.severity, Severity::Info);
        assert_eq!(trend.more.by_origin["openat"], 360);
        let left = trend.left.unwrap() / SECOND;
        assert!((40..50).contains(&left), "{left}");
        let events = opens(&mut host, &mut growth, &mut next, &[60]);
        assert!(
            matches!(&events[..], [Event::Grows(trend)] if trend.severity == Severity::Critical)
        );
        // The trend is reported once.
        assert_eq!(opens(&mut host, &mut growth, &mut next, &[60, 60]), []);
        let per_hour = growth.per_hour(1).unwrap();
        assert!((43_000..43_300).contains(&per_hour), "{per_hour}");
        assert_eq!(growth.per_hour(2), Some(0));
        assert_eq!(opens(&mut host, &mut growth, &mut next, &[0]), []);
        assert_eq!(growth.per_hour(1), None);
        let events = opens(&mut host, &mut growth, &mut next, &[0; 7]);
        assert_eq!(events, [Event::Ended(1, 640)]);
        assert_eq!(growth.per_hour(1), Some(0));
    }

    #[test]
    fn sudden_jump_is_no_trend() {
        let (mut host, mut growth, mut next) = (Host::new(), Growth::default(), 0);
        let counts = [70, 500, 0, 0, 0, 20, 0, 0, 0, 0, 10, 0];
        assert_eq!(opens(&mut host, &mut growth, &mut next, &counts), []);
    }

    #[test]
    fn slow_growth_is_reported_when_steady() {
        let (mut host, mut growth, mut next) = (Host::new(), Growth::default(), 0);
        let counts = [[70].as_slice(), &[0, 0, 0, 6].repeat(STRETCHES + 1)].concat();
        let events = opens(&mut host, &mut growth, &mut next, &counts);
        let severities = events.iter().map(|event| match event {
            Event::Grows(trend) => trend.severity,
            Event::Ended(..) => panic!("{event:?}"),
        });
        assert!(severities.eq([Severity::Warning]), "{events:?}");
    }
}
