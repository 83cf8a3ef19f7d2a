//! Tests of `AlertState`, with failures and repetitions in any order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use fdwatch_core::diagnose::Severity;

const RATE: u32 = 3;

fn notice(key: u128, severity: Severity) -> Arc<Notice> {
    Arc::new(Notice {
        key: Key(key),
        kind: "finding".to_owned(),
        severity,
        cause: "reopened".to_owned(),
        pid: 1,
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

/// Reports the delivery of an alert.
fn deliver(state: &mut AlertState, alert: &Alert, now: Now) -> Option<Alert> {
    state.outcome(alert.notice.key, Outcome::Delivered, 0, now)
}

#[test]
fn finding_fires_once_and_resolves_when_gone() {
    let mut state = AlertState::new(RATE, false, []);
    let one = notice(1, Severity::Warning);
    let alert = state.active(&one, None, true, at(0)).unwrap();
    assert_eq!(alert.status, Status::Firing);
    assert!(state.active(&one, None, true, at(0)).is_none());
    assert!(deliver(&mut state, &alert, at(1)).is_none());
    assert!(state.active(&one, None, true, at(1)).is_none());
    assert!(state.due(99, at(1)).is_empty());
    state.gone(Key(1), None, at(2));
    let [alert] = &state.due(99, at(2))[..] else {
        panic!("expected one alert");
    };
    assert_eq!(
        (alert.status, alert.ended),
        (Status::Resolved, Some(2 * SECOND))
    );
    assert!(deliver(&mut state, alert, at(2)).is_none());
    assert!(state.entries.is_empty());
}

#[test]
fn alert_never_sent_is_not_resolved() {
    let mut state = AlertState::new(RATE, false, []);
    let one = notice(1, Severity::Info);
    assert!(state.active(&one, None, false, at(0)).is_none());
    state.gone(Key(1), None, at(1));
    assert!(state.due(99, at(1)).is_empty());
    // Nor is one that could not be delivered.
    let alert = state.active(&one, None, true, at(2)).unwrap();
    state.gone(Key(1), None, at(3));
    let key = alert.notice.key;
    assert!(state.outcome(key, Outcome::Failed, 0, at(4)).is_none());
    assert!(state.due(99, at(9)).is_empty());
}

#[test]
fn alerts_above_the_limit_are_summarized() {
    let mut state = AlertState::new(RATE, false, []);
    let sent = (1..=10).filter_map(|key| {
        let severity = if key == 7 {
            Severity::Critical
        } else {
            Severity::Warning
        };
        state.active(&notice(key, severity), None, true, at(0))
    });
    assert_eq!(sent.count(), 3);
    assert_eq!(state.held_back, 7);
    let alerts = state.due(99, at(0));
    let [summary] = &alerts[..] else {
        panic!("expected one alert: {alerts:?}");
    };
    assert!(summary.notice.summary.starts_with("7 more alerts"));
    assert!(summary.notice.summary.ends_with("critical: summary 7"));
    deliver(&mut state, summary, at(0));
    assert!(
        state
            .active(&notice(11, Severity::Warning), None, true, at(30))
            .is_none()
    );
    assert!(state.due(99, at(59)).is_empty());
    let alerts = state.due(99, at(60));
    assert!(alerts[0].notice.summary.starts_with("1 more alert was"));
    deliver(&mut state, &alerts[0], at(60));
    // A minute without any: resolved.
    let alerts = state.due(99, at(121));
    assert_eq!(alerts[0].status, Status::Resolved);
    // The limit allows alerts again.
    assert!(
        state
            .active(&notice(12, Severity::Warning), None, true, at(121))
            .is_some()
    );
}

#[test]
fn updates_are_sent_only_if_supported() {
    for takes_updates in [false, true] {
        let mut state = AlertState::new(RATE, takes_updates, []);
        let one = notice(1, Severity::Warning);
        let alert = state.active(&one, None, true, at(0)).unwrap();
        deliver(&mut state, &alert, at(0));
        let update = state.active(&notice(1, Severity::Critical), None, true, at(1));
        assert_eq!(update.is_some(), takes_updates);
        if let Some(update) = update {
            assert_eq!(update.was.as_ref().unwrap().severity, Severity::Warning);
            deliver(&mut state, &update, at(1));
            assert_eq!(state.firing().next().unwrap().severity, Severity::Critical);
        }
        // The severity is never lowered.
        assert!(state.active(&one, None, true, at(2)).is_none());
    }
}

#[test]
fn failed_alert_is_sent_later() {
    let mut state = AlertState::new(RATE, false, []);
    let one = notice(1, Severity::Warning);
    let alert = state.active(&one, None, true, at(0)).unwrap();
    let key = alert.notice.key;
    state.outcome(key, Outcome::Failed, at(60).at, at(1));
    assert!(state.due(99, at(59)).is_empty());
    assert_eq!(state.sent().count(), 0);
    assert_eq!(state.due(99, at(60)).len(), 1);
    state.outcome(key, Outcome::Refused, 0, at(61));
    assert!(state.entries.is_empty());
}

#[test]
fn alerts_of_an_earlier_run_are_not_repeated() {
    let sent = [1, 2, 3].map(|key| notice(key, Severity::Warning));
    let mut state = AlertState::new(RATE, false, sent);
    assert!(
        state
            .active(&notice(1, Severity::Warning), None, true, at(0))
            .is_none()
    );
    // Not severe enough for an alert, but still active.
    assert!(
        state
            .active(&notice(2, Severity::Info), None, false, at(0))
            .is_none()
    );
    assert!(state.due(99, at(0)).is_empty());
    state.forget_unseen(|_| true, at(1));
    let alerts = state.due(99, at(1));
    let [alert] = &alerts[..] else {
        panic!("expected one alert: {alerts:?}");
    };
    assert_eq!((alert.notice.key, alert.status), (Key(3), Status::Resolved));
}

#[derive(Clone, Debug)]
enum Step {
    Active(u128, Severity, bool),
    Gone(u128),
    Outcome(usize, Outcome),
    Wait(u64),
    Restart,
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
        1 => Just(Outcome::Refused)
    ];
    let step = prop_oneof![
        6 => (key.clone(), severity, any::<bool>())
            .prop_map(|(key, severity, is_severe)| Step::Active(key, severity, is_severe)),
        4 => key.prop_map(Step::Gone),
        6 => (0..8_usize, outcome).prop_map(|(which, outcome)| Step::Outcome(which, outcome)),
        3 => (0..90_u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => Just(Step::FirstSnapshot),
    ];
    prop::collection::vec(step, 0..120)
}

/// A receiver that asserts the order of its alerts.
#[derive(Default)]
struct Receiver {
    firing: BTreeMap<Key, Severity>,
    in_flight: Vec<Alert>,
    returned: Vec<(Status, u64)>,
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
                self.returned.push((alert.status, now.at));
            }
            self.in_flight.push(alert);
        }
    }

    fn deliver(&mut self, alert: &Alert, takes_updates: bool) {
        let key = alert.notice.key;
        let is_firing = self.firing.contains_key(&key);
        match (alert.status, &alert.was) {
            (Status::Firing, None) => assert!(!is_firing, "fired twice"),
            (Status::Firing, Some(was)) => {
                assert!(is_firing, "update without a firing alert");
                assert!(key == HELD_BACK || takes_updates && alert.notice.severity > was.severity);
            }
            (Status::Resolved, _) => assert!(is_firing, "resolved before firing"),
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
        let mut state = AlertState::new(RATE, takes_updates, []);
        let mut receiver = Receiver::default();
        let mut active = BTreeMap::new();
        let mut seconds = 0;
        for step in steps {
            let now = at(seconds);
            match step {
                Step::Active(key, severity, is_severe) => {
                    active.insert(Key(key), ());
                    let alert = state.active(&notice(key, severity), None, is_severe, now);
                    receiver.take(alert, now);
                }
                Step::Gone(key) => {
                    active.remove(&Key(key));
                    state.gone(Key(key), None, now);
                }
                Step::Outcome(which, outcome) if !receiver.in_flight.is_empty() => {
                    let alert = receiver.in_flight.remove(which % receiver.in_flight.len());
                    if outcome == Outcome::Delivered {
                        receiver.deliver(&alert, takes_updates);
                    }
                    // A receiver that rejects a resolved alert has forgotten it.
                    if outcome == Outcome::Refused && alert.status == Status::Resolved {
                        receiver.firing.remove(&alert.notice.key);
                    }
                    let next = state.outcome(alert.notice.key, outcome, now.at, now);
                    receiver.take(next, now);
                }
                Step::Outcome(..) => {}
                Step::Wait(wait) => seconds += wait,
                Step::Restart => {
                    // Waits for deliveries under way.
                    while let Some(alert) = receiver.in_flight.pop() {
                        receiver.deliver(&alert, takes_updates);
                        let next = state.outcome(alert.notice.key, Outcome::Delivered, 0, now);
                        receiver.take(next, now);
                    }
                    let stored: Vec<_> = state.sent().cloned().collect();
                    receiver.firing.remove(&HELD_BACK);
                    receiver.returned.clear();
                    let firing: Vec<_> = receiver.firing.keys().copied().collect();
                    let keys: Vec<_> = stored.iter().map(|notice| notice.key).collect();
                    prop_assert_eq!(keys, firing, "stored alerts differ from sent ones");
                    state = AlertState::new(RATE, takes_updates, stored);
                }
                Step::FirstSnapshot => {
                    state.forget_unseen(|_| true, now);
                }
            }
            let now = at(seconds);
            receiver.take(state.due(99, now), now);
            for status in [Status::Firing, Status::Resolved] {
                let recent = receiver.returned.iter().filter(|&&(other, at)| {
                    other == status && now.at - at < MINUTE
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
                let next = state.outcome(alert.notice.key, Outcome::Delivered, 0, at(seconds));
                receiver.take(next, at(seconds));
            }
        }
        for key in receiver.firing.keys() {
            prop_assert!(active.contains_key(key), "{} is not resolved", key);
        }
        prop_assert_eq!(state.firing().count(), receiver.firing.len());
    }
}
