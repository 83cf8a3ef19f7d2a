//! Decides which alerts to send to one receiver, and when.
//!
//! Pure: time is a parameter, and others send. For each key the receiver sees firing and resolved in turns, firing
//! first: the outcome of a delivery must be reported before the next alert of the same key is returned.
//!
//! Alerts wait in a bounded queue for their turn. Those whose user and process had the fewest in the last minute come
//! first (`fair`), and alerts that do not fit are dropped from those that have the most waiting.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    fair::{Recent, Shares, Source},
    notice::{HELD_BACK, Notice},
};
use fdwatch_events::event::{Event, Key};

/// Limit of keys per receiver. Alerts with further keys are held back.
pub(super) const MAX_KEYS: usize = 4096;

/// Limit of alerts that wait for their turn: those of this many minutes.
const MAX_MINUTES_WAITING: usize = 5;

/// Limit of the events of alerts that wait for their turn: bytes of JSON.
const MAX_BYTES_WAITING: usize = 8 << 20;

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
    /// All attempts failed, at least one without a response: the receiver may have accepted it.
    Unanswered,
    /// The receiver rejected it; retrying is useless.
    Refused,
}

impl Outcome {
    /// Returns whether a later attempt may succeed.
    pub(super) const fn has_failed(self) -> bool {
        matches!(self, Self::Failed | Self::Unanswered)
    }
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
    /// Firing waits for its turn: it is new, or could not be delivered and is due again at this time.
    Waiting(u64),
    /// Firing is being delivered.
    Firing,
    /// Firing was delivered.
    Fired,
    /// A raised severity is being delivered.
    Updating,
    /// Resolved is being delivered.
    Resolving,
}

/// The end of a finding.
#[derive(Clone, Debug)]
struct End {
    now: Now,
    event: Option<Arc<Event>>,
}

#[derive(Debug)]
struct Entry {
    /// The content that was sent.
    notice: Arc<Notice>,
    /// The content to send, if its severity is higher.
    worse: Option<Arc<Notice>>,
    event: Option<Arc<Event>>,
    phase: Phase,
    /// Firing or resolved was sent, and it is unknown whether it arrived. To be safe it fires again if the finding is
    /// active, and is resolved at the end.
    may_have_arrived: bool,
    /// The end of the finding, until that is delivered.
    gone: Option<End>,
    /// The finding appeared again while resolved was being delivered.
    again: Option<(Arc<Notice>, Option<Arc<Event>>)>,
    /// The earliest time of the next alert.
    not_before: u64,
    /// Sent by an earlier run, and not yet found again by this one.
    is_of_earlier_run: bool,
    /// The user and the process, as first known.
    source: Source,
    /// Counts entries: the first has waited longest.
    number: u64,
}

/// The alerts that wait for their turn: the keys in the phase `Waiting`.
#[derive(Debug, Default)]
struct Queue {
    keys: BTreeSet<Key>,
    shares: Shares,
    /// The size of their events.
    bytes: usize,
}

impl Queue {
    fn add(&mut self, entry: &Entry) {
        if self.keys.insert(entry.notice.key) {
            self.shares.add(entry.source);
            self.bytes += entry.bytes();
        }
    }

    fn remove(&mut self, entry: &Entry) {
        if self.keys.remove(&entry.notice.key) {
            self.shares.remove(entry.source);
            self.bytes -= entry.bytes();
        }
    }
}

/// Alerts held back since the last summary.
#[derive(Debug, Default)]
struct Held {
    count: u64,
    worst: Option<Arc<Notice>>,
    /// When the last summary was sent.
    summarized: Option<u64>,
}

/// What was sent to a receiver as firing and not yet as resolved: the next run must know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SentAlerts {
    /// Delivered.
    pub(super) told: Vec<Arc<Notice>>,
    /// Firing or resolved is being delivered or had no response: it may have arrived.
    pub(super) sending: Vec<Arc<Notice>>,
}

/// The alerts of one receiver.
#[derive(Debug)]
pub(super) struct AlertState {
    max_per_minute: usize,
    /// Whether the receiver takes raised severities.
    takes_updates: bool,
    entries: BTreeMap<Key, Entry>,
    /// Of all entries.
    shares: Shares,
    queue: Queue,
    /// The alerts returned in the last minute: firing and resolved.
    recent: [Recent; 2],
    held: Held,
    /// Alerts held back since the start.
    pub(super) held_back: u64,
    /// Entries since the start.
    count: u64,
}

impl AlertState {
    /// Creates the state of a receiver to which an earlier run has `sent` alerts.
    pub(super) fn new(max_per_minute: u32, takes_updates: bool, sent: SentAlerts) -> Self {
        let told = sent.told.into_iter().map(|notice| (notice, false));
        let sending = sent.sending.into_iter().map(|notice| (notice, true));
        let entries = told.chain(sending).take(MAX_KEYS);
        let entries: BTreeMap<_, _> = entries
            .map(|(notice, may_have_arrived)| {
                let entry = Entry {
                    is_of_earlier_run: true,
                    phase: Phase::Fired,
                    may_have_arrived,
                    ..Entry::new(Arc::clone(&notice), None, 0)
                };
                (notice.key, entry)
            })
            .collect();
        let held = Held {
            // A summary of the earlier run is resolved after a minute without another.
            summarized: entries.contains_key(&HELD_BACK).then_some(0),
            ..Held::default()
        };
        Self {
            max_per_minute: usize::try_from(max_per_minute).unwrap_or(usize::MAX),
            takes_updates,
            shares: entries.values().map(|entry| entry.source).collect(),
            entries,
            queue: Queue::default(),
            recent: Default::default(),
            held,
            held_back: 0,
            count: 0,
        }
    }

    /// Handles a finding that is active. It starts an alert if it `is_severe` enough.
    pub(super) fn active(
        &mut self,
        notice: &Arc<Notice>,
        event: Option<&Arc<Event>>,
        is_severe: bool,
    ) {
        let event = event.cloned();
        let key = notice.key;
        let Some(entry) = self.entries.get_mut(&key) else {
            if is_severe {
                self.add(Arc::clone(notice), event);
            }
            return;
        };
        entry.is_of_earlier_run = false;
        if entry.phase == Phase::Resolving {
            if is_severe {
                entry.again = Some((Arc::clone(notice), event));
            }
            return;
        }
        // Resolved was not sent, so for the receiver it never was.
        entry.gone = None;
        if entry.phase == Phase::Fired && entry.may_have_arrived && is_severe {
            entry.phase = Phase::Waiting(0);
            entry.event = event;
            self.queue.add(entry);
            self.limit_queue();
            return;
        }
        let sent = entry.worse.as_ref().unwrap_or(&entry.notice);
        if notice.severity <= sent.severity {
            return;
        }
        let worse = Arc::new(Notice {
            since: entry.notice.since,
            ..Notice::clone(notice)
        });
        if matches!(entry.phase, Phase::Waiting(_)) {
            // Not sent yet: this content will be.
            self.queue.remove(entry);
            entry.notice = worse;
            entry.event = event;
            self.queue.add(entry);
            self.limit_queue();
        } else if self.takes_updates {
            entry.worse = Some(worse);
            entry.event = event;
        }
    }

    /// Adds an alert to the queue.
    fn add(&mut self, notice: Arc<Notice>, event: Option<Arc<Event>>) {
        if !self.shares.allow(notice.source(), MAX_KEYS) {
            self.hold_back(&notice);
            return;
        }
        self.count += 1;
        let entry = Entry::new(notice, event, self.count);
        self.queue.add(&entry);
        self.shares.add(entry.source);
        self.entries.insert(entry.notice.key, entry);
        self.limit_queue();
    }

    /// Handles a finding that is gone. If its alert still waits for its turn, both are sent if that comes soon.
    pub(super) fn gone(&mut self, key: Key, event: Option<&Arc<Event>>, now: Now) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.is_of_earlier_run = false;
        entry.again = None;
        if entry.phase == Phase::Resolving {
            return;
        }
        let event = event.cloned();
        entry.gone = Some(End { now, event });
        match entry.phase {
            Phase::Waiting(_) if entry.may_have_arrived => {
                entry.phase = Phase::Fired;
                self.queue.remove(entry);
            }
            // An attempt has failed.
            Phase::Waiting(at) if at > 0 => self.remove(key),
            _ => {}
        }
    }

    /// Resolves alerts of an earlier run that were not found again, among those that `select` accepts.
    pub(super) fn forget_unseen(&mut self, select: impl Fn(&Notice) -> bool, now: Now) {
        for (&key, entry) in &mut self.entries {
            if entry.is_of_earlier_run && key != HELD_BACK && select(&entry.notice) {
                entry.is_of_earlier_run = false;
                entry.gone = Some(End { now, event: None });
            }
        }
    }

    /// Ends all alerts of this run whose keys are not `active`.
    pub(super) fn forget_inactive(&mut self, active: &BTreeSet<Key>, now: Now) {
        let entries = self.entries.iter();
        let ended = entries.filter(|&(key, entry)| {
            let is_gone = entry.gone.is_some() || entry.phase == Phase::Resolving;
            !entry.is_of_earlier_run && !is_gone && *key != HELD_BACK && !active.contains(key)
        });
        let ended: Vec<_> = ended.map(|(&key, _)| key).collect();
        for key in ended {
            self.gone(key, None, now);
        }
    }

    /// Moves all times after the clock was set by `step` nanoseconds, so that the time between firing and resolved
    /// stays right.
    pub(super) fn step_clock(&mut self, step: i64) {
        for entry in self.entries.values_mut() {
            let again = entry.again.as_mut().map(|(notice, _)| notice);
            let notices = [Some(&mut entry.notice), entry.worse.as_mut(), again];
            for notice in notices.into_iter().flatten() {
                let notice = Arc::make_mut(notice);
                notice.since = notice.since.saturating_add_signed(step);
            }
            if let Some(gone) = &mut entry.gone {
                gone.now.wall = gone.now.wall.saturating_add_signed(step);
            }
        }
    }

    /// Handles the outcome of an alert.
    pub(super) fn outcome(&mut self, key: Key, outcome: Outcome, again_at: u64, now: Now) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let has_failed = outcome.has_failed();
        if outcome == Outcome::Failed {
            match entry.phase {
                Phase::Firing => self.recent[Status::Firing as usize].remove(entry.source),
                Phase::Resolving => self.recent[Status::Resolved as usize].remove(entry.source),
                _ => {}
            }
        }
        match entry.phase {
            Phase::Firing => {
                entry.may_have_arrived |= outcome == Outcome::Unanswered;
                if outcome == Outcome::Delivered {
                    entry.phase = Phase::Fired;
                    entry.may_have_arrived = false;
                    if entry.worse.is_none() {
                        entry.event = None;
                    }
                } else if has_failed && entry.gone.is_none() && key != HELD_BACK {
                    entry.phase = Phase::Waiting(again_at);
                    entry.updated();
                    self.queue.add(entry);
                    self.limit_queue();
                } else if entry.may_have_arrived {
                    entry.phase = Phase::Fired;
                    entry.not_before = again_at;
                } else {
                    self.remove(key);
                }
            }
            Phase::Updating => {
                entry.phase = Phase::Fired;
                entry.may_have_arrived &= outcome != Outcome::Delivered;
                if has_failed {
                    entry.not_before = again_at;
                } else {
                    entry.updated();
                }
            }
            Phase::Resolving if has_failed => {
                entry.phase = Phase::Fired;
                entry.may_have_arrived |= outcome == Outcome::Unanswered;
                entry.not_before = again_at;
                match entry.again.take() {
                    // The receiver assumes that, unless resolved has arrived.
                    Some((notice, event)) => self.active(&notice, event.as_ref(), true),
                    None => {
                        entry.gone.get_or_insert(End { now, event: None });
                    }
                }
            }
            Phase::Resolving => {
                let again = entry.again.take();
                self.remove(key);
                if let Some((notice, event)) = again {
                    self.add(notice, event);
                }
            }
            Phase::Waiting(_) | Phase::Fired => {}
        }
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

    /// Returns up to `max` alerts that are due, in the order in which they are to be sent.
    pub(super) fn due(&mut self, max: usize, now: Now) -> Vec<Alert> {
        let mut alerts = Vec::new();
        if max == 0 {
            return alerts;
        }
        self.drop_gone(now);
        self.summarize_held_back(now, &mut alerts);
        if let Some(until) = now.at.checked_sub(MINUTE) {
            for recent in &mut self.recent {
                recent.expire(until);
            }
        }
        let mut waiting: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(&key, entry)| {
                let status = entry.next(now)?;
                let severity = Reverse(entry.notice.severity);
                Some((key, status, entry.source, (status, severity, entry.number)))
            })
            .collect();
        while alerts.len() < max {
            let next = waiting
                .iter()
                .enumerate()
                .filter(|&(_, &(_, status, source, _))| self.has_quota(status, source))
                .min_by_key(|&(_, &(_, status, source, order))| {
                    (self.recent[status as usize].shares.of(source), order)
                })
                .map(|(index, _)| index);
            let Some(next) = next else {
                break;
            };
            let (key, status, source, _) = waiting.swap_remove(next);
            self.recent[status as usize].add(now.at, source);
            if let Some(entry) = self.entries.get_mut(&key) {
                self.queue.remove(entry);
                entry.phase = match status {
                    Status::Firing => Phase::Firing,
                    Status::Resolved => Phase::Resolving,
                };
                alerts.push(entry.alert(status));
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

    /// Returns whether an alert may be sent now. Resolved ones need no shares: as many have fired.
    fn has_quota(&self, status: Status, source: Source) -> bool {
        let shares = &self.recent[status as usize].shares;
        match status {
            Status::Firing => shares.allow(source, self.max_per_minute),
            Status::Resolved => !shares.is_full(self.max_per_minute),
        }
    }

    /// Returns what is firing, as it was sent.
    pub(super) fn firing(&self) -> impl Iterator<Item = &Arc<Notice>> {
        let sent = self.entries.values().filter(|entry| {
            matches!(entry.phase, Phase::Fired | Phase::Updating)
                && entry.gone.is_none()
                && !entry.may_have_arrived
        });
        sent.map(|entry| &entry.notice)
    }

    /// Returns what was sent as firing and not yet as resolved.
    pub(super) fn sent(&self) -> SentAlerts {
        let mut sent = SentAlerts::default();
        for entry in self.entries.values() {
            let is_sending = matches!(entry.phase, Phase::Firing | Phase::Resolving);
            if entry.may_have_arrived || is_sending {
                sent.sending.push(Arc::clone(&entry.notice));
            } else if !matches!(entry.phase, Phase::Waiting(_)) {
                sent.told.push(Arc::clone(&entry.notice));
            }
        }
        sent
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.queue.remove(&entry);
            self.shares.remove(entry.source);
        }
    }

    /// Drops alerts from those that have the most waiting, until the queue is within its limits.
    fn limit_queue(&mut self) {
        let max = self.max_per_minute.saturating_mul(MAX_MINUTES_WAITING);
        while self.queue.keys.len() > max || self.queue.bytes > MAX_BYTES_WAITING {
            let Queue { keys, shares, .. } = &self.queue;
            let waiting = keys.iter().filter_map(|key| self.entries.get(key));
            // Of these the newest with the lowest severity.
            let last = waiting.max_by_key(|entry| {
                let severity = Reverse(entry.notice.severity);
                (shares.of(entry.source), severity, entry.number)
            });
            let Some(key) = last.map(|entry| entry.notice.key) else {
                return;
            };
            self.drop_waiting(key);
        }
    }

    /// Drops alerts whose findings are gone for a minute.
    fn drop_gone(&mut self, now: Now) {
        let is_old = |key: &&Key| {
            let gone = self.entries.get(key).and_then(|entry| entry.gone.as_ref());
            gone.is_some_and(|gone| now.at.saturating_sub(gone.now.at) >= MINUTE)
        };
        let old: Vec<_> = self.queue.keys.iter().filter(is_old).copied().collect();
        for key in old {
            self.drop_waiting(key);
        }
    }

    /// Removes an alert from the queue.
    fn drop_waiting(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let notice = Arc::clone(&entry.notice);
        if entry.may_have_arrived {
            self.queue.remove(entry);
            entry.phase = Phase::Fired;
        } else {
            self.remove(key);
        }
        self.hold_back(&notice);
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
                entry.gone = Some(End { now, event: None });
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
                let mut entry = Entry::new(notice, None, 0);
                entry.phase = Phase::Firing;
                alerts.push(entry.alert(Status::Firing));
                self.shares.add(entry.source);
                self.entries.insert(HELD_BACK, entry);
            }
            // An update with another count.
            Some(entry) if entry.phase == Phase::Fired => {
                entry.worse = Some(notice);
                entry.may_have_arrived = false;
                alerts.extend(entry.update(now));
            }
            // The last summary is still being delivered: count them in the next.
            Some(_) => {
                self.held.count = count;
                self.held.worst = Some(worst);
            }
        }
    }
}

impl Entry {
    fn new(notice: Arc<Notice>, event: Option<Arc<Event>>, number: u64) -> Self {
        Self {
            source: notice.source(),
            notice,
            worse: None,
            event,
            phase: Phase::Waiting(0),
            may_have_arrived: false,
            gone: None,
            again: None,
            not_before: 0,
            is_of_earlier_run: false,
            number,
        }
    }

    /// Returns the size of its event.
    fn bytes(&self) -> usize {
        self.event.as_ref().map_or(0, |event| event.json.len())
    }

    /// Returns the status of the alert that is due.
    fn next(&self, now: Now) -> Option<Status> {
        match self.phase {
            Phase::Waiting(at) => (at <= now.at).then_some(Status::Firing),
            Phase::Fired if self.gone.is_some() && self.not_before <= now.at => {
                Some(Status::Resolved)
            }
            _ => None,
        }
    }

    fn alert(&self, status: Status) -> Alert {
        let gone = self.gone.as_ref().filter(|_| status == Status::Resolved);
        Alert {
            status,
            notice: Arc::clone(&self.notice),
            was: None,
            ended: gone.map(|gone| gone.now.wall),
            event: match gone {
                Some(gone) => gone.event.clone(),
                None => self.event.clone(),
            },
        }
    }

    /// Returns an alert with the raised severity, if that is due.
    fn update(&mut self, now: Now) -> Option<Alert> {
        let worse = self.worse.as_ref()?;
        let is_firing = self.phase == Phase::Fired && !self.may_have_arrived;
        if !is_firing || self.gone.is_some() || now.at < self.not_before {
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
