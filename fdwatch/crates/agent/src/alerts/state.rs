//! Decides which alerts to send to one receiver, and when.
//!
//! Pure: time is a parameter, and the caller sends. For each key, firing and resolved alternate, starting with firing:
//! the outcome of a delivery must be reported before the next alert of the same key is returned.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::notice::{HELD_BACK, Notice};
use fdwatch_events::event::{Event, Key};

/// Limit of keys per receiver. Alerts with further keys are held back.
pub(super) const MAX_KEYS: usize = 4096;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// The period for which alerts are limited, and after which those held back are summarized: nanoseconds.
const MINUTE: u64 = 60 * SECOND;

/// The status of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    /// The finding is active.
    Firing,
    /// The finding is gone.
    Resolved,
}

impl Status {
    /// Returns the name in output.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// An alert to send.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    /// Firing or resolved.
    pub(super) status: Status,
    /// Its content.
    pub(super) notice: Arc<Notice>,
    /// Its previous content, if it is firing already.
    pub(super) was: Option<Arc<Notice>>,
    /// When the finding ended: nanoseconds since 1970.
    pub(super) ended: Option<u64>,
    /// The event, if it is still known.
    pub(super) event: Option<Arc<Event>>,
}

/// The outcome of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver accepted it.
    Delivered,
    /// All attempts failed; a later one may succeed.
    Failed,
    /// The receiver rejected it; retrying is useless.
    Refused,
}

/// The current time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    /// Nanoseconds of a monotonic clock.
    pub(super) at: u64,
    /// Nanoseconds since 1970.
    pub(super) wall: u64,
}

/// The phase of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Firing could not be delivered; due again at this time.
    RetryAt(u64),
    /// Firing is being delivered.
    Firing,
    /// Firing was delivered.
    Fired,
    /// A raised severity is being delivered.
    Updating,
    /// Resolved is being delivered.
    Resolving,
}

#[derive(Debug)]
struct Entry {
    /// The content that was sent.
    notice: Arc<Notice>,
    /// The content to send, if its severity is higher.
    worse: Option<Arc<Notice>>,
    event: Option<Arc<Event>>,
    phase: Phase,
    /// When the finding ended, until that is delivered: nanoseconds since 1970.
    gone: Option<u64>,
    /// The finding appeared again while resolved was being delivered.
    again: Option<(Arc<Notice>, Option<Arc<Event>>)>,
    /// The earliest time of the next alert.
    not_before: u64,
    /// Sent by an earlier run, and not yet found again by this one.
    is_of_earlier_run: bool,
}

/// Alerts held back since the last summary.
#[derive(Debug, Default)]
struct Held {
    count: u64,
    worst: Option<Arc<Notice>>,
    /// When the last summary was sent.
    summarized: Option<u64>,
}

/// The alerts of one receiver.
#[derive(Debug)]
pub(super) struct AlertState {
    max_per_minute: usize,
    /// Whether the receiver takes raised severities.
    takes_updates: bool,
    entries: BTreeMap<Key, Entry>,
    /// Times of the alerts returned in the last minute: firing and resolved.
    recent: [VecDeque<u64>; 2],
    held: Held,
    /// Alerts held back since the start.
    pub(super) held_back: u64,
}

impl AlertState {
    /// Creates the state of a receiver at which `sent` is firing already.
    pub(super) fn new(
        max_per_minute: u32,
        takes_updates: bool,
        sent: impl IntoIterator<Item = Arc<Notice>>,
    ) -> Self {
        let entries = sent.into_iter().take(MAX_KEYS).map(|notice| {
            let entry = Entry {
                is_of_earlier_run: true,
                phase: Phase::Fired,
                ..Entry::new(Arc::clone(&notice), None)
            };
            (notice.key, entry)
        });
        Self {
            max_per_minute: usize::try_from(max_per_minute).unwrap_or(usize::MAX),
            takes_updates,
            entries: entries.collect(),
            recent: [VecDeque::new(), VecDeque::new()],
            held: Held::default(),
            held_back: 0,
        }
    }

    /// Handles a finding that is active. It starts an alert if it `is_severe` enough.
    pub(super) fn active(
        &mut self,
        notice: &Arc<Notice>,
        event: Option<&Arc<Event>>,
        is_severe: bool,
        now: Now,
    ) -> Option<Alert> {
        let event = event.cloned();
        if let Some(entry) = self.entries.get_mut(&notice.key) {
            entry.is_of_earlier_run = false;
            if entry.phase == Phase::Resolving {
                if is_severe {
                    entry.again = Some((Arc::clone(notice), event));
                }
                return None;
            }
            // Resolved was not sent yet, so the alert is still firing at the receiver.
            entry.gone = None;
            let sent = entry.worse.as_ref().unwrap_or(&entry.notice);
            if notice.severity <= sent.severity {
                return None;
            }
            let worse = Arc::new(Notice {
                since: entry.notice.since,
                ..Notice::clone(notice)
            });
            entry.event = event;
            match entry.phase {
                // Not delivered yet: the next attempt sends this content.
                Phase::RetryAt(_) => entry.notice = worse,
                _ if self.takes_updates => entry.worse = Some(worse),
                _ => {}
            }
            return entry.update(now);
        }
        if !is_severe {
            return None;
        }
        if self.entries.len() >= MAX_KEYS || !self.has_quota(Status::Firing, now) {
            self.hold_back(notice);
            return None;
        }
        self.use_quota(Status::Firing, now);
        let entry = Entry::new(Arc::clone(notice), event);
        let alert = entry.alert(Status::Firing);
        self.entries.insert(notice.key, entry);
        Some(alert)
    }

    /// Handles a finding that is gone.
    pub(super) fn gone(&mut self, key: Key, event: Option<&Arc<Event>>, now: Now) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.is_of_earlier_run = false;
        entry.again = None;
        match entry.phase {
            Phase::RetryAt(_) => {
                self.entries.remove(&key);
            }
            Phase::Resolving => {}
            Phase::Firing | Phase::Fired | Phase::Updating => {
                entry.gone = Some(now.wall);
                entry.event = event.cloned();
            }
        }
    }

    /// Resolves alerts of an earlier run that were not found again, among those that `select` accepts.
    pub(super) fn forget_unseen(&mut self, select: impl Fn(&Notice) -> bool, now: Now) {
        for entry in self.entries.values_mut() {
            if entry.is_of_earlier_run && select(&entry.notice) {
                entry.is_of_earlier_run = false;
                entry.gone = Some(now.wall);
            }
        }
    }

    /// Handles the outcome of an alert, and returns the next of the same key if that is due.
    pub(super) fn outcome(
        &mut self,
        key: Key,
        outcome: Outcome,
        again_at: u64,
        now: Now,
    ) -> Option<Alert> {
        let entry = self.entries.get_mut(&key)?;
        match (entry.phase, outcome) {
            (Phase::Firing, Outcome::Delivered) => entry.phase = Phase::Fired,
            (Phase::Updating, Outcome::Delivered | Outcome::Refused) => {
                entry.phase = Phase::Fired;
                entry.updated();
            }
            (Phase::Updating, Outcome::Failed) => {
                entry.phase = Phase::Fired;
                entry.not_before = again_at;
            }
            (Phase::Firing, Outcome::Failed) if entry.gone.is_none() && key != HELD_BACK => {
                entry.phase = Phase::RetryAt(again_at);
                entry.updated();
            }
            (Phase::Resolving, Outcome::Failed) if entry.again.is_none() => {
                entry.phase = Phase::Fired;
                entry.not_before = again_at;
                entry.gone = Some(entry.gone.unwrap_or(now.wall));
            }
            (Phase::Resolving, Outcome::Failed) => {
                // The finding is active again, and the alert still firing at the receiver.
                entry.phase = Phase::Fired;
                entry.again = None;
            }
            // Never delivered, or resolved.
            (Phase::Firing | Phase::Resolving, _) => {
                let again = entry.again.take();
                self.entries.remove(&key);
                let (notice, event) = again?;
                return self.active(&notice, event.as_ref(), true, now);
            }
            (Phase::RetryAt(_) | Phase::Fired, _) => {}
        }
        let entry = self.entries.get_mut(&key)?;
        (outcome == Outcome::Delivered)
            .then(|| entry.update(now))
            .flatten()
    }

    /// Returns whether a delivery is under way.
    pub(super) fn is_sending(&self) -> bool {
        self.entries.values().any(|entry| {
            matches!(
                entry.phase,
                Phase::Firing | Phase::Updating | Phase::Resolving
            )
        })
    }

    /// Returns up to `max` alerts that are due.
    pub(super) fn due(&mut self, max: usize, now: Now) -> Vec<Alert> {
        let mut alerts = Vec::new();
        if max == 0 {
            return alerts;
        }
        self.summarize_held_back(now, &mut alerts);
        let waiting: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(&key, entry)| match entry.phase {
                Phase::RetryAt(at) if at <= now.at => Some((key, Status::Firing)),
                Phase::Fired if entry.gone.is_some() && entry.not_before <= now.at => {
                    Some((key, Status::Resolved))
                }
                _ => None,
            })
            .collect();
        for (key, status) in waiting {
            if alerts.len() >= max {
                break;
            }
            if !self.has_quota(status, now) {
                continue;
            }
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.phase = match status {
                    Status::Firing => Phase::Firing,
                    Status::Resolved => Phase::Resolving,
                };
                alerts.push(entry.alert(status));
                self.use_quota(status, now);
            }
        }
        for entry in self.entries.values_mut() {
            if alerts.len() >= max {
                break;
            }
            alerts.extend(entry.update(now));
        }
        alerts
    }

    /// Returns the firing alerts, with the content that was sent.
    pub(super) fn firing(&self) -> impl Iterator<Item = &Arc<Notice>> {
        let sent = self.entries.values().filter(|entry| {
            matches!(entry.phase, Phase::Fired | Phase::Updating) && entry.gone.is_none()
        });
        sent.map(|entry| &entry.notice)
    }

    /// Returns the alerts that were delivered as firing and not yet as resolved, which the next run must know.
    pub(super) fn sent(&self) -> impl Iterator<Item = &Arc<Notice>> {
        let sent = self.entries.iter().filter(|&(&key, entry)| {
            key != HELD_BACK && !matches!(entry.phase, Phase::RetryAt(_) | Phase::Firing)
        });
        sent.map(|(_, entry)| &entry.notice)
    }

    fn hold_back(&mut self, notice: &Arc<Notice>) {
        self.held.count += 1;
        self.held_back += 1;
        let worst = self.held.worst.as_ref();
        if worst.is_none_or(|worst| notice.severity > worst.severity) {
            self.held.worst = Some(Arc::clone(notice));
        }
    }

    /// Adds a summary of alerts held back, once a minute; resolves it after a minute without any.
    fn summarize_held_back(&mut self, now: Now, alerts: &mut Vec<Alert>) {
        if self
            .held
            .summarized
            .is_some_and(|at| now.at.saturating_sub(at) < MINUTE)
        {
            return;
        }
        let entry = self.entries.get_mut(&HELD_BACK);
        let Some(worst) = self.held.worst.take() else {
            if let Some(entry) = entry
                && entry.phase == Phase::Fired
            {
                entry.phase = Phase::Resolving;
                entry.gone = Some(now.wall);
                alerts.push(entry.alert(Status::Resolved));
                self.held.summarized = None;
            }
            return;
        };
        let count = std::mem::take(&mut self.held.count);
        let notice = Arc::new(Notice::held_back(count, &worst, now.wall));
        self.held.summarized = Some(now.at);
        match entry {
            None => {
                let entry = Entry::new(notice, None);
                alerts.push(entry.alert(Status::Firing));
                self.entries.insert(HELD_BACK, entry);
            }
            // An update with another count.
            Some(entry) if entry.phase == Phase::Fired => {
                entry.worse = Some(notice);
                alerts.extend(entry.update(now));
            }
            // The last summary is still being delivered: count them in the next.
            Some(_) => {
                self.held.count = count;
                self.held.worst = Some(worst);
            }
        }
    }

    fn has_quota(&mut self, status: Status, now: Now) -> bool {
        let recent = &mut self.recent[status as usize];
        while recent
            .front()
            .is_some_and(|&at| now.at.saturating_sub(at) >= MINUTE)
        {
            recent.pop_front();
        }
        recent.len() < self.max_per_minute
    }

    fn use_quota(&mut self, status: Status, now: Now) {
        self.recent[status as usize].push_back(now.at);
    }
}

impl Entry {
    fn new(notice: Arc<Notice>, event: Option<Arc<Event>>) -> Self {
        Self {
            notice,
            worse: None,
            event,
            phase: Phase::Firing,
            gone: None,
            again: None,
            not_before: 0,
            is_of_earlier_run: false,
        }
    }

    fn alert(&self, status: Status) -> Alert {
        Alert {
            status,
            notice: Arc::clone(&self.notice),
            was: None,
            ended: self.gone,
            event: self.event.clone(),
        }
    }

    /// Returns an alert with the raised severity, if that is due.
    fn update(&mut self, now: Now) -> Option<Alert> {
        let worse = self.worse.as_ref()?;
        if self.phase != Phase::Fired || self.gone.is_some() || now.at < self.not_before {
            return None;
        }
        self.phase = Phase::Updating;
        Some(Alert {
            status: Status::Firing,
            notice: Arc::clone(worse),
            was: Some(Arc::clone(&self.notice)),
            ended: None,
            event: self.event.clone(),
        })
    }

    /// Makes the raised severity the current one.
    fn updated(&mut self) {
        if let Some(worse) = self.worse.take() {
            self.notice = worse;
        }
    }
}

#[cfg(test)]
mod tests;
