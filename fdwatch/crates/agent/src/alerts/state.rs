//! Says what is to be sent to one who is told, and when.
//!
//! Pure: time is handed in, nothing is sent here. Whoever is told sees, of each key, firing and
//! resolved in turns, firing first: what comes of each sending is told back before the next of the
//! same key is given out.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::notice::{HELD_BACK, Notice};
use fdwatch_events::event::{Event, Key};

/// Keys that are remembered of each who is told. What is beyond is held back.
pub(super) const MAX_KEYS: usize = 4096;

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// That which a number of alerts is bounded in, and after which it is said what was held back:
/// nanoseconds.
pub(super) const MINUTE: u64 = 60 * SECOND;

/// What someone is told of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    /// It is there.
    Firing,
    /// It is there no more.
    Resolved,
}

impl Status {
    /// The name users see.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    /// Whether it is there.
    pub(super) status: Status,
    /// What is told.
    pub(super) notice: Arc<Notice>,
    /// What it was told as before, if it is firing already.
    pub(super) was: Option<Arc<Notice>>,
    /// When it went: nanoseconds since 1970.
    pub(super) ended: Option<u64>,
    /// What happened, if that is still known.
    pub(super) event: Option<Arc<Event>>,
}

/// What became of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It arrived.
    Delivered,
    /// It did not, in all tries: it may later.
    Failed,
    /// It never will: it was refused.
    Refused,
}

/// When that is: nanoseconds of the clock that counts minutes, and since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    /// See there.
    pub(super) at: u64,
    /// See there.
    pub(super) wall: u64,
}

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Firing could not be delivered: again from then on.
    Owed(u64),
    /// Firing is on its way.
    Firing,
    /// It was told as firing.
    Fired,
    /// That it matters more is on its way.
    Updating,
    /// Resolved is on its way.
    Resolving,
}

#[derive(Debug)]
struct Entry {
    /// As it was told.
    notice: Arc<Notice>,
    /// As it is to be told, if that is worse.
    worse: Option<Arc<Notice>>,
    event: Option<Arc<Event>>,
    phase: Phase,
    /// When it went, if that was not told yet: nanoseconds since 1970.
    gone: Option<u64>,
    /// It came again while it was told as resolved.
    again: Option<(Arc<Notice>, Option<Arc<Event>>)>,
    /// That it went cannot be told before.
    not_before: u64,
    /// It was told in an earlier run, and was not seen in this one.
    is_of_before: bool,
}

/// Those that were held back since it was said.
#[derive(Debug, Default)]
struct Held {
    count: u64,
    worst: Option<Arc<Notice>>,
    /// When that was said the last time.
    said: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct AlertState {
    most_per_minute: usize,
    /// Whether who is told wants to know that something matters more than before.
    takes_updates: bool,
    entries: BTreeMap<Key, Entry>,
    /// When what was given out was, in the last minute: firing and resolved each.
    given: [VecDeque<u64>; 2],
    held: Held,
    /// How many were held back in all.
    pub(super) held_back: u64,
}

impl AlertState {
    /// One that has told so much before.
    pub(super) fn new(
        most_per_minute: u32,
        takes_updates: bool,
        told: impl IntoIterator<Item = Arc<Notice>>,
    ) -> Self {
        let entries = told.into_iter().take(MAX_KEYS).map(|notice| {
            let entry = Entry {
                is_of_before: true,
                phase: Phase::Fired,
                ..Entry::new(Arc::clone(&notice), None)
            };
            (notice.key, entry)
        });
        Self {
            most_per_minute: usize::try_from(most_per_minute).unwrap_or(usize::MAX),
            takes_updates,
            entries: entries.collect(),
            given: [VecDeque::new(), VecDeque::new()],
            held: Held::default(),
            held_back: 0,
        }
    }

    /// It is there: `matters`, if enough to be told of.
    pub(super) fn there(
        &mut self,
        notice: &Arc<Notice>,
        event: Option<&Arc<Event>>,
        matters: bool,
        now: Now,
    ) -> Option<Alert> {
        let event = event.cloned();
        if let Some(entry) = self.entries.get_mut(&notice.key) {
            entry.is_of_before = false;
            if entry.phase == Phase::Resolving {
                if matters {
                    entry.again = Some((Arc::clone(notice), event));
                }
                return None;
            }
            // That it went was not told: for who is told, it never did.
            entry.gone = None;
            let told = entry.worse.as_ref().unwrap_or(&entry.notice);
            if notice.severity <= told.severity {
                return None;
            }
            let worse = Arc::new(Notice {
                since: entry.notice.since,
                ..Notice::clone(notice)
            });
            entry.event = event;
            match entry.phase {
                // It was not told yet, and so this is what will be.
                Phase::Owed(_) => entry.notice = worse,
                _ if self.takes_updates => entry.worse = Some(worse),
                _ => {}
            }
            return entry.update(now);
        }
        if !matters {
            return None;
        }
        if self.entries.len() >= MAX_KEYS || !self.may_give(Status::Firing, now) {
            self.hold_back(notice);
            return None;
        }
        self.give(Status::Firing, now);
        let entry = Entry::new(Arc::clone(notice), event);
        let alert = entry.alert(Status::Firing);
        self.entries.insert(notice.key, entry);
        Some(alert)
    }

    /// It is there no more.
    pub(super) fn gone(&mut self, key: Key, event: Option<&Arc<Event>>, now: Now) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.is_of_before = false;
        entry.again = None;
        match entry.phase {
            Phase::Owed(_) => {
                self.entries.remove(&key);
            }
            Phase::Resolving => {}
            Phase::Firing | Phase::Fired | Phase::Updating => {
                entry.gone = Some(now.wall);
                entry.event = event.cloned();
            }
        }
    }

    /// What of an earlier run was not seen in this one is there no more. `of` says of which.
    pub(super) fn forget_unseen(&mut self, of: impl Fn(&Notice) -> bool, now: Now) {
        for entry in self.entries.values_mut() {
            if entry.is_of_before && of(&entry.notice) {
                entry.is_of_before = false;
                entry.gone = Some(now.wall);
            }
        }
    }

    /// What came of an alert. It may be time for another of the same key at once.
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
                entry.phase = Phase::Owed(again_at);
                entry.updated();
            }
            (Phase::Resolving, Outcome::Failed) if entry.again.is_none() => {
                entry.phase = Phase::Fired;
                entry.not_before = again_at;
                entry.gone = Some(entry.gone.unwrap_or(now.wall));
            }
            (Phase::Resolving, Outcome::Failed) => {
                // It is there, as was told.
                entry.phase = Phase::Fired;
                entry.again = None;
            }
            // It was never told, or is told as gone.
            (Phase::Firing | Phase::Resolving, _) => {
                let again = entry.again.take();
                self.entries.remove(&key);
                let (notice, event) = again?;
                return self.there(&notice, event.as_ref(), true, now);
            }
            (Phase::Owed(_) | Phase::Fired, _) => {}
        }
        let entry = self.entries.get_mut(&key)?;
        (outcome == Outcome::Delivered)
            .then(|| entry.update(now))
            .flatten()
    }

    /// Whether something is on its way.
    pub(super) fn is_sending(&self) -> bool {
        self.entries.values().any(|entry| {
            matches!(
                entry.phase,
                Phase::Firing | Phase::Updating | Phase::Resolving
            )
        })
    }

    /// What it is time for: so many, at most.
    pub(super) fn due(&mut self, most: usize, now: Now) -> Vec<Alert> {
        let mut alerts = Vec::new();
        if most == 0 {
            return alerts;
        }
        self.say_held_back(now, &mut alerts);
        let waiting: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(&key, entry)| match entry.phase {
                Phase::Owed(at) if at <= now.at => Some((key, Status::Firing)),
                Phase::Fired if entry.gone.is_some() && entry.not_before <= now.at => {
                    Some((key, Status::Resolved))
                }
                _ => None,
            })
            .collect();
        for (key, status) in waiting {
            if alerts.len() >= most {
                break;
            }
            if !self.may_give(status, now) {
                continue;
            }
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.phase = match status {
                    Status::Firing => Phase::Firing,
                    Status::Resolved => Phase::Resolving,
                };
                alerts.push(entry.alert(status));
                self.give(status, now);
            }
        }
        for entry in self.entries.values_mut() {
            if alerts.len() >= most {
                break;
            }
            alerts.extend(entry.update(now));
        }
        alerts
    }

    /// What is there, as it was told.
    pub(super) fn firing(&self) -> impl Iterator<Item = &Arc<Notice>> {
        let told = self.entries.values().filter(|entry| {
            matches!(entry.phase, Phase::Fired | Phase::Updating) && entry.gone.is_none()
        });
        told.map(|entry| &entry.notice)
    }

    /// What was told as firing, and not as resolved: what the next run must know.
    pub(super) fn told(&self) -> impl Iterator<Item = &Arc<Notice>> {
        let told = self.entries.iter().filter(|&(&key, entry)| {
            key != HELD_BACK && !matches!(entry.phase, Phase::Owed(_) | Phase::Firing)
        });
        told.map(|(_, entry)| &entry.notice)
    }

    fn hold_back(&mut self, notice: &Arc<Notice>) {
        self.held.count += 1;
        self.held_back += 1;
        let worst = self.held.worst.as_ref();
        if worst.is_none_or(|worst| notice.severity > worst.severity) {
            self.held.worst = Some(Arc::clone(notice));
        }
    }

    /// Says once a minute what was held back; and when nothing was for a minute, that this is over.
    fn say_held_back(&mut self, now: Now, alerts: &mut Vec<Alert>) {
        if self
            .held
            .said
            .is_some_and(|said| now.at.saturating_sub(said) < MINUTE)
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
                self.held.said = None;
            }
            return;
        };
        let count = std::mem::take(&mut self.held.count);
        let notice = Arc::new(Notice::held_back(count, &worst, now.wall));
        self.held.said = Some(now.at);
        match entry {
            None => {
                let entry = Entry::new(notice, None);
                alerts.push(entry.alert(Status::Firing));
                self.entries.insert(HELD_BACK, entry);
            }
            // The same once more, with another count.
            Some(entry) if entry.phase == Phase::Fired => {
                entry.worse = Some(notice);
                alerts.extend(entry.update(now));
            }
            // The last one is still on its way: with the next.
            Some(_) => {
                self.held.count = count;
                self.held.worst = Some(worst);
            }
        }
    }

    fn may_give(&mut self, status: Status, now: Now) -> bool {
        let given = &mut self.given[status as usize];
        while given
            .front()
            .is_some_and(|&at| now.at.saturating_sub(at) >= MINUTE)
        {
            given.pop_front();
        }
        given.len() < self.most_per_minute
    }

    fn give(&mut self, status: Status, now: Now) {
        self.given[status as usize].push_back(now.at);
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
            is_of_before: false,
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

    /// That it matters more, if that is to be told and can be.
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

    /// From now on it is what was worse.
    fn updated(&mut self) {
        if let Some(worse) = self.worse.take() {
            self.notice = worse;
        }
    }
}

#[cfg(test)]
mod tests;
