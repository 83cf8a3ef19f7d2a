//! Tests of `AlertState`, with failures and repetitions in any order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use fdwatch_core::diagnose::Severity;

const RATE: u32 = 3;

fn notice(key: u128, severity: Severity) -> Arc<Notice> {
    notice_of(key, severity, u32::try_from(key).unwrap(), 1000)
}

fn notice_of(key: u128, severity: Severity, pid: u32, uid: u32) -> Arc<Notice> {
    Arc::new(Notice {
        key: Key(key),
        kind: "finding".to_owned(),
        severity,
        cause: "reopened".to_owned(),
        pid,
        start_time: 0,
        uid: Some(uid),
        comm: "cat".to_owned(),
        unit: None,
        path: None,
        summary: format!("summary {key}"),
        advice: String::new(),
        since: 0,
    })
}

const fn at(seconds: u64) -> Now {
    Now {
        at: seconds * SECOND,
        wall: seconds * SECOND,
    }
}

fn new_state() -> AlertState {
    AlertState::new(RATE, false, SentAlerts::default())
}

/// Reports an active finding, and returns the alerts that are due.
fn active(state: &mut AlertState, notice: &Arc<Notice>, now: Now) -> Vec<Alert> {
    state.active(notice, None, true);
    state.due(99, now)
}

/// Reports the delivery of an alert.
fn deliver(state: &mut AlertState, alert: &Alert, now: Now) {
    state.outcome(alert.notice.key, Outcome::Delivered, 0, now);
}

/// Returns status and key of the only alert.
fn only(alerts: &[Alert]) -> (Status, Key) {
    let [alert] = alerts else {
        panic!("not one: {alerts:?}");
    };
    (alert.status, alert.notice.key)
}

#[test]
fn finding_fires_once_and_resolves_when_gone() {
    let mut state = new_state();
    let one = notice(1, Severity::Warning);
    let alerts = active(&mut state, &one, at(0));
    assert_eq!(only(&alerts), (Status::Firing, Key(1)));
    assert!(active(&mut state, &one, at(0)).is_empty());
    deliver(&mut state, &alerts[0], at(1));
    assert!(active(&mut state, &one, at(1)).is_empty());
    state.gone(Key(1), None, at(2));
    let alerts = state.due(99, at(3));
    assert_eq!(only(&alerts), (Status::Resolved, Key(1)));
    assert_eq!(alerts[0].ended, Some(2 * SECOND));
    deliver(&mut state, &alerts[0], at(3));
    assert!(state.entries.is_empty());
}

#[test]
fn alert_never_sent_is_not_resolved() {
    let mut state = new_state();
    let one = notice(1, Severity::Info);
    state.active(&one, None, false);
    state.gone(Key(1), None, at(1));
    assert!(state.due(99, at(1)).is_empty());
    // Nor is one that could not be delivered.
    active(&mut state, &one, at(2));
    state.gone(Key(1), None, at(3));
    state.outcome(Key(1), Outcome::Failed, 0, at(4));
    assert!(state.due(99, at(9)).is_empty());
    assert!(state.entries.is_empty() && state.queue.keys.is_empty());
}

#[test]
fn alert_that_may_have_arrived_is_resolved() {
    for gone_first in [false, true] {
        let mut state = new_state();
        active(&mut state, &notice(1, Severity::Warning), at(0));
        if gone_first {
            state.gone(Key(1), None, at(1));
        }
        state.outcome(Key(1), Outcome::Unanswered, at(9).at, at(1));
        if !gone_first {
            // Otherwise it would be sent again.
            assert_eq!(state.sent().sending.len(), 1);
            state.gone(Key(1), None, at(2));
        }
        assert_eq!(only(&state.due(99, at(9))), (Status::Resolved, Key(1)));
    }
}

#[test]
fn finding_gone_before_its_turn_is_sent_within_a_minute() {
    let mut state = new_state();
    state.active(&notice(1, Severity::Warning), None, true);
    state.gone(Key(1), None, at(1));
    let alerts = state.due(99, at(2));
    assert_eq!(only(&alerts), (Status::Firing, Key(1)));
    deliver(&mut state, &alerts[0], at(2));
    assert_eq!(only(&state.due(99, at(2))), (Status::Resolved, Key(1)));
    state.active(&notice(2, Severity::Warning), None, true);
    state.gone(Key(2), None, at(3));
    let summary = state.due(99, at(63));
    assert_eq!(only(&summary), (Status::Firing, HELD_BACK));
    assert_eq!(state.held_back, 1);
}

#[test]
fn alerts_above_the_limit_wait_and_are_summarized() {
    let mut state = new_state();
    for key in 1..=30 {
        let severity = if key == 17 {
            Severity::Critical
        } else {
            Severity::Warning
        };
        state.active(&notice_of(key, severity, 1, 1000), None, true);
    }
    // Five minutes' worth of them wait, the most severe first.
    assert_eq!(state.held_back, 15);
    let alerts = state.due(99, at(0));
    let [summary, first] = &alerts[..] else {
        panic!("not two: {alerts:?}");
    };
    assert!(summary.notice.summary.starts_with("15 more alerts"));
    assert_eq!(first.notice.key, Key(17));
    deliver(&mut state, summary, at(0));
    deliver(&mut state, first, at(0));
    assert!(state.due(99, at(59)).is_empty());
    // A minute without any: resolved. The next has its turn.
    let alerts = state.due(99, at(60));
    let keys: Vec<_> = alerts
        .iter()
        .map(|alert| (alert.status, alert.notice.key))
        .collect();
    assert_eq!(
        keys,
        [(Status::Resolved, HELD_BACK), (Status::Firing, Key(1))]
    );
}

#[test]
fn flood_of_one_user_does_not_hold_back_others() {
    const MAX: u32 = 30;
    let mut state = AlertState::new(MAX, false, SentAlerts::default());
    let (mut sent, mut delay) = (BTreeMap::<u32, usize>::new(), BTreeMap::new());
    let mut others = BTreeMap::new();
    for second in 0..300_u64 {
        let now = at(second);
        // 200 a second of new processes and of one process, most of which are gone a second later.
        for index in 0..200_u32 {
            let key = 1_000_000 + second * 1000 + u64::from(index);
            let pid = if index % 2 == 0 { 7 } else { 1000 + index };
            let flood = notice_of(key.into(), Severity::Critical, pid, 65_534);
            state.active(&flood, None, true);
            if index % 10 != 0 && second > 0 {
                state.gone(Key((key - 1000).into()), None, now);
            }
        }
        if second % 10 == 0 {
            let uid = [0, 33, 1000][usize::try_from(second / 10 % 3).unwrap()];
            let other = notice_of(second.into(), Severity::Warning, 100 + uid, uid);
            state.active(&other, None, true);
            others.insert(Key(second.into()), second);
        }
        // A slow receiver: two a second.
        for alert in state.due(2, now) {
            deliver(&mut state, &alert, now);
            if let Some(uid) = alert.notice.uid.filter(|_| alert.status == Status::Firing) {
                *sent.entry(uid).or_default() += 1;
                if let Some(began) = others.remove(&alert.notice.key) {
                    delay.insert(alert.notice.key, second - began);
                }
            }
        }
        assert!(state.queue.keys.len() <= 5 * MAX as usize);
    }
    assert!(others.len() <= 1, "held back: {others:?}");
    assert_eq!(delay.values().max(), Some(&0), "{delay:?}");
    // The flood is reported too, but has less than what is left to others.
    assert!((50..=75).contains(&sent[&65_534]), "{sent:?}");
    assert!(state.held_back > 50_000, "{}", state.held_back);
}

#[test]
fn flood_does_not_use_up_all_keys() {
    let mut state = AlertState::new(1_000_000, false, SentAlerts::default());
    for key in 1..10_000_u32 {
        state.active(
            &notice_of(key.into(), Severity::Critical, key, 65_534),
            None,
            true,
        );
        if key % 500 == 0 {
            for alert in state.due(usize::MAX, at(0)) {
                deliver(&mut state, &alert, at(0));
            }
        }
    }
    assert_eq!(state.entries.len(), MAX_KEYS / 2 + 1);
    let other = notice_of(1_000_000, Severity::Warning, 5, 0);
    let alerts = active(&mut state, &other, at(0));
    assert_eq!(alerts.last().unwrap().notice.key, Key(1_000_000));
}

#[test]
fn queue_is_bounded_in_bytes() {
    let mut state = AlertState::new(1000, false, SentAlerts::default());
    let event = |json: usize| {
        Arc::new(Event {
            number: 1,
            at: fdwatch_core::model::Moment(1),
            wall_time: 1,
            kind: fdwatch_events::event::EventKind::Loss(fdwatch_core::Lost::default()),
            json: "x".repeat(json),
            key: None,
        })
    };
    let other = notice_of(1, Severity::Info, 1, 0);
    state.active(&other, Some(&event(1 << 20)), true);
    let large = event(1 << 20);
    for key in 2..100 {
        let flood = notice_of(key, Severity::Critical, 2, 65_534);
        state.active(&flood, Some(&large), true);
    }
    assert_eq!(state.queue.keys.len(), MAX_BYTES_WAITING >> 20);
    assert!(state.queue.keys.contains(&Key(1)));
}

#[test]
fn updates_are_sent_only_where_wanted() {
    for takes_updates in [false, true] {
        let mut state = AlertState::new(RATE, takes_updates, SentAlerts::default());
        let one = notice(1, Severity::Warning);
        let alerts = active(&mut state, &one, at(0));
        deliver(&mut state, &alerts[0], at(0));
        let updates = active(&mut state, &notice(1, Severity::Critical), at(1));
        assert_eq!(!updates.is_empty(), takes_updates);
        if let Some(update) = updates.first() {
            assert_eq!(update.was.as_ref().unwrap().severity, Severity::Warning);
            deliver(&mut state, update, at(1));
            assert_eq!(state.firing().next().unwrap().severity, Severity::Critical);
        }
        // The severity is never lowered.
        assert!(active(&mut state, &one, at(2)).is_empty());
    }
}

#[test]
fn failed_alert_is_sent_later() {
    let mut state = new_state();
    active(&mut state, &notice(1, Severity::Warning), at(0));
    state.outcome(Key(1), Outcome::Failed, at(60).at, at(1));
    assert!(state.due(99, at(59)).is_empty());
    assert_eq!(state.sent(), SentAlerts::default());
    assert_eq!(state.due(99, at(60)).len(), 1);
    state.outcome(Key(1), Outcome::Refused, 0, at(61));
    assert!(state.entries.is_empty());
}

#[test]
fn alerts_of_an_earlier_run_are_not_repeated() {
    let told = [1, 2, 3].map(|key| notice(key, Severity::Warning));
    let sent = SentAlerts {
        told: told.to_vec(),
        ..SentAlerts::default()
    };
    let mut state = AlertState::new(RATE, false, sent);
    assert!(active(&mut state, &notice(1, Severity::Warning), at(0)).is_empty());
    // Not severe enough for an alert, but still active.
    state.active(&notice(2, Severity::Info), None, false);
    assert!(state.due(99, at(0)).is_empty());
    state.forget_unseen(|_| true, at(1));
    let alerts = state.due(99, at(1));
    assert_eq!(only(&alerts), (Status::Resolved, Key(3)));
}

#[test]
fn alerts_that_a_killed_agent_was_sending_are_sent_again_or_resolved() {
    let sending = [1, 2].map(|key| notice(key, Severity::Warning));
    let sent = SentAlerts {
        sending: sending.to_vec(),
        ..SentAlerts::default()
    };
    let mut state = AlertState::new(RATE, false, sent.clone());
    // An agent that is killed again.
    assert_eq!(state.sent(), sent);
    let alerts = active(&mut state, &notice(1, Severity::Warning), at(0));
    assert_eq!(only(&alerts), (Status::Firing, Key(1)));
    state.forget_unseen(|_| true, at(1));
    assert_eq!(only(&state.due(99, at(1))), (Status::Resolved, Key(2)));
}

#[test]
fn summary_of_a_killed_agent_is_resolved() {
    let mut state = new_state();
    for key in 1..=30 {
        state.active(&notice(key, Severity::Warning), None, true);
    }
    let alerts = state.due(1, at(0));
    assert_eq!(only(&alerts), (Status::Firing, HELD_BACK));
    deliver(&mut state, &alerts[0], at(0));
    let mut state = AlertState::new(RATE, false, state.sent());
    state.forget_unseen(|_| true, at(1));
    assert!(state.due(99, at(1)).is_empty());
    assert_eq!(only(&state.due(99, at(60))), (Status::Resolved, HELD_BACK));
}

#[test]
fn set_clock_moves_start_and_end() {
    let mut state = new_state();
    let mut one = notice(1, Severity::Warning);
    Arc::make_mut(&mut one).since = 100 * SECOND;
    let now = |wall| Now {
        at: SECOND,
        wall: wall * SECOND,
    };
    let alerts = active(&mut state, &one, now(101));
    deliver(&mut state, &alerts[0], now(101));
    state.gone(Key(1), None, now(106));
    // Set back, to before the start.
    state.step_clock(-90 * 1_000_000_000);
    let alerts = state.due(99, now(17));
    assert_eq!(alerts[0].notice.since, 10 * SECOND);
    assert_eq!(alerts[0].ended, Some(16 * SECOND));
}

#[derive(Clone, Debug)]
enum Step {
    Active(u128, Severity, bool),
    Gone(u128),
    Outcome(usize, Outcome),
    Wait(u64),
    Restart,
    Kill(bool),
    FirstSnapshot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 1..6_u128;
    let severity = prop_oneof![
        Just(Severity::Info),
        Just(Severity::Warning),
        Just(Severity::Critical)
    ];
    let outcome = prop_oneof![
        4 => Just(Outcome::Delivered),
        1 => Just(Outcome::Failed),
        1 => Just(Outcome::Unanswered),
        1 => Just(Outcome::Refused)
    ];
    let step = prop_oneof![
        6 => (key.clone(), severity, any::<bool>())
            .prop_map(|(key, severity, is_severe)| Step::Active(key, severity, is_severe)),
        4 => key.prop_map(Step::Gone),
        6 => (0..8_usize, outcome).prop_map(|(which, outcome)| Step::Outcome(which, outcome)),
        3 => (0..90_u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => any::<bool>().prop_map(Step::Kill),
        1 => Just(Step::FirstSnapshot),
    ];
    prop::collection::vec(step, 0..120)
}

/// A receiver that asserts the order of its alerts.
#[derive(Default)]
struct Receiver {
    firing: BTreeMap<Key, Severity>,
    /// Those of which the sender does not know that they arrived: they may fire twice.
    unknown: BTreeSet<Key>,
    in_flight: Vec<Alert>,
    given: Vec<(Status, u64, Key)>,
}

impl Receiver {
    fn take(&mut self, alerts: impl IntoIterator<Item = Alert>, now: Now) {
        for alert in alerts {
            let key = alert.notice.key;
            assert!(
                !self.in_flight.iter().any(|other| other.notice.key == key),
                "two concurrent alerts for one key"
            );
            if key != HELD_BACK && alert.was.is_none() {
                self.given.push((alert.status, now.at, key));
            }
            self.in_flight.push(alert);
        }
    }

    fn deliver(&mut self, alert: &Alert, takes_updates: bool) {
        let key = alert.notice.key;
        let is_firing = self.firing.contains_key(&key);
        match (alert.status, &alert.was) {
            (Status::Firing, None) => {
                assert!(!is_firing || self.unknown.contains(&key), "fired twice");
            }
            (Status::Firing, Some(was)) => {
                assert!(
                    is_firing || self.unknown.contains(&key),
                    "update without a firing alert"
                );
                assert!(key == HELD_BACK || takes_updates && alert.notice.severity > was.severity);
            }
            (Status::Resolved, _) => {
                assert!(
                    is_firing || self.unknown.contains(&key),
                    "resolved before firing"
                );
            }
        }
        if alert.status == Status::Firing {
            self.firing.insert(key, alert.notice.severity);
        } else {
            self.firing.remove(&key);
        }
    }
}

proptest! {
    #[test]
    fn firing_and_resolved_alternate(steps in steps(), takes_updates in any::<bool>()) {
        let mut state = AlertState::new(RATE, takes_updates, SentAlerts::default());
        let mut receiver = Receiver::default();
        let mut active = BTreeMap::new();
        let mut seconds = 0;
        for step in steps {
            let now = at(seconds);
            match step {
                Step::Active(key, severity, is_severe) => {
                    active.insert(Key(key), ());
                    state.active(&notice(key, severity), None, is_severe);
                }
                Step::Gone(key) => {
                    active.remove(&Key(key));
                    state.gone(Key(key), None, now);
                }
                Step::Outcome(which, outcome) if !receiver.in_flight.is_empty() => {
                    let alert = receiver.in_flight.remove(which % receiver.in_flight.len());
                    if outcome == Outcome::Failed && alert.was.is_none() && alert.notice.key != HELD_BACK {
                        // It does not count.
                        let mut given = receiver.given.iter();
                        let last = given.rposition(|it| (it.0, it.2) == (alert.status, alert.notice.key));
                        receiver.given.remove(last.unwrap());
                    }
                    match outcome {
                        Outcome::Delivered => {
                            receiver.deliver(&alert, takes_updates);
                            receiver.unknown.remove(&alert.notice.key);
                        }
                        Outcome::Unanswered => {
                            receiver.unknown.insert(alert.notice.key);
                            receiver.deliver(&alert, takes_updates);
                        }
                        _ => {}
                    }
                    // A receiver that rejects a resolved alert has forgotten it.
                    if outcome == Outcome::Refused && alert.status == Status::Resolved {
                        receiver.firing.remove(&alert.notice.key);
                    }
                    state.outcome(alert.notice.key, outcome, now.at, now);
                }
                Step::Outcome(..) => {}
                Step::Wait(wait) => seconds += wait,
                Step::Restart => {
                    // Waits for deliveries under way.
                    while let Some(alert) = receiver.in_flight.pop() {
                        receiver.deliver(&alert, takes_updates);
                        receiver.unknown.remove(&alert.notice.key);
                        state.outcome(alert.notice.key, Outcome::Delivered, 0, now);
                    }
                    receiver.given.clear();
                    let sent = state.sent();
                    let all = sent.told.iter().chain(&sent.sending);
                    let keys: BTreeSet<_> = all.map(|notice| notice.key).collect();
                    let firing: BTreeSet<_> = receiver.firing.keys().copied().collect();
                    prop_assert!(firing.is_subset(&keys), "{firing:?} not stored: {keys:?}");
                    let told: BTreeSet<_> = sent.told.iter().map(|notice| notice.key).collect();
                    prop_assert!(told.is_subset(&firing), "{told:?} not sent: {firing:?}");
                    state = AlertState::new(RATE, takes_updates, sent);
                }
                Step::Kill(arrives) => {
                    // What was stored before it was sent is all that the next run knows.
                    while let Some(alert) = receiver.in_flight.pop() {
                        receiver.unknown.insert(alert.notice.key);
                        if arrives {
                            receiver.deliver(&alert, takes_updates);
                        }
                    }
                    receiver.given.clear();
                    state = AlertState::new(RATE, takes_updates, state.sent());
                }
                Step::FirstSnapshot => {
                    state.forget_unseen(|_| true, now);
                }
            }
            let now = at(seconds);
            receiver.take(state.due(99, now), now);
            for status in [Status::Firing, Status::Resolved] {
                let recent = receiver.given.iter().filter(|&&(other, given, _)| {
                    other == status && now.at - given < MINUTE
                });
                prop_assert!(recent.count() <= RATE as usize, "too many in a minute");
            }
        }
        // When everything is delivered, only active findings are firing.
        for _ in 0..60 {
            seconds += 61;
            state.forget_unseen(|notice| !active.contains_key(&notice.key), at(seconds));
            receiver.take(state.due(99, at(seconds)), at(seconds));
            while let Some(alert) = receiver.in_flight.pop() {
                receiver.deliver(&alert, takes_updates);
                receiver.unknown.remove(&alert.notice.key);
                state.outcome(alert.notice.key, Outcome::Delivered, 0, at(seconds));
            }
        }
        for key in receiver.firing.keys() {
            prop_assert!(active.contains_key(key), "{} is not resolved", key);
        }
        let sent = state.sent();
        let all = sent.told.iter().chain(&sent.sending);
        let known: BTreeSet<_> = all.map(|notice| notice.key).collect();
        prop_assert!(receiver.firing.keys().all(|key| known.contains(key)));
        prop_assert!(state.firing().all(|notice| receiver.firing.contains_key(&notice.key)));
        // Nothing is left of what was removed.
        prop_assert!(state.queue.keys.is_empty() && state.queue.bytes == 0);
        let shares: Shares = state.entries.values().map(|entry| entry.source).collect();
        prop_assert_eq!(&state.shares, &shares);
        prop_assert_eq!(&state.queue.shares, &Shares::default());
    }
}
