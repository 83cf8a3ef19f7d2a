//! What is told when, whatever comes, fails and comes again in between.

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

/// One that is given and delivers at once.
fn deliver(teller: &mut AlertState, alert: &Alert, now: Now) -> Option<Alert> {
    teller.outcome(alert.notice.key, Outcome::Delivered, 0, now)
}

#[test]
fn it_is_told_once_and_resolved_when_gone() {
    let mut teller = AlertState::new(RATE, false, []);
    let one = notice(1, Severity::Warning);
    let alert = teller.there(&one, None, true, at(0)).unwrap();
    assert_eq!(alert.status, Status::Firing);
    assert!(teller.there(&one, None, true, at(0)).is_none());
    assert!(deliver(&mut teller, &alert, at(1)).is_none());
    assert!(teller.there(&one, None, true, at(1)).is_none());
    assert!(teller.due(99, at(1)).is_empty());
    teller.gone(Key(1), None, at(2));
    let [alert] = &teller.due(99, at(2))[..] else {
        panic!("not one");
    };
    assert_eq!(
        (alert.status, alert.ended),
        (Status::Resolved, Some(2 * SECOND))
    );
    assert!(deliver(&mut teller, alert, at(2)).is_none());
    assert!(teller.entries.is_empty());
}

#[test]
fn what_was_never_told_is_not_resolved() {
    let mut teller = AlertState::new(RATE, false, []);
    let one = notice(1, Severity::Info);
    assert!(teller.there(&one, None, false, at(0)).is_none());
    teller.gone(Key(1), None, at(1));
    assert!(teller.due(99, at(1)).is_empty());
    // Nor what could not be told.
    let alert = teller.there(&one, None, true, at(2)).unwrap();
    teller.gone(Key(1), None, at(3));
    let key = alert.notice.key;
    assert!(teller.outcome(key, Outcome::Failed, 0, at(4)).is_none());
    assert!(teller.due(99, at(9)).is_empty());
}

#[test]
fn what_is_over_the_rate_is_one_summary() {
    let mut teller = AlertState::new(RATE, false, []);
    let told = (1..=10).filter_map(|key| {
        let severity = if key == 7 {
            Severity::Critical
        } else {
            Severity::Warning
        };
        teller.there(&notice(key, severity), None, true, at(0))
    });
    assert_eq!(told.count(), 3);
    assert_eq!(teller.held_back, 7);
    let alerts = teller.due(99, at(0));
    let [summary] = &alerts[..] else {
        panic!("not one: {alerts:?}");
    };
    assert!(summary.notice.summary.starts_with("7 more alerts"));
    assert!(summary.notice.summary.ends_with("critical: summary 7"));
    deliver(&mut teller, summary, at(0));
    assert!(
        teller
            .there(&notice(11, Severity::Warning), None, true, at(30))
            .is_none()
    );
    assert!(teller.due(99, at(59)).is_empty());
    let alerts = teller.due(99, at(60));
    assert!(alerts[0].notice.summary.starts_with("1 more alert is"));
    deliver(&mut teller, &alerts[0], at(60));
    // A minute without any: over.
    let alerts = teller.due(99, at(121));
    assert_eq!(alerts[0].status, Status::Resolved);
    // And there is room again.
    assert!(
        teller
            .there(&notice(12, Severity::Warning), None, true, at(121))
            .is_some()
    );
}

#[test]
fn only_who_wants_them_gets_updates() {
    for takes_updates in [false, true] {
        let mut teller = AlertState::new(RATE, takes_updates, []);
        let one = notice(1, Severity::Warning);
        let alert = teller.there(&one, None, true, at(0)).unwrap();
        deliver(&mut teller, &alert, at(0));
        let update = teller.there(&notice(1, Severity::Critical), None, true, at(1));
        assert_eq!(update.is_some(), takes_updates);
        if let Some(update) = update {
            assert_eq!(update.was.as_ref().unwrap().severity, Severity::Warning);
            deliver(&mut teller, &update, at(1));
            assert_eq!(teller.firing().next().unwrap().severity, Severity::Critical);
        }
        // It never matters less than was told.
        assert!(teller.there(&one, None, true, at(2)).is_none());
    }
}

#[test]
fn what_failed_is_owed() {
    let mut teller = AlertState::new(RATE, false, []);
    let one = notice(1, Severity::Warning);
    let alert = teller.there(&one, None, true, at(0)).unwrap();
    let key = alert.notice.key;
    teller.outcome(key, Outcome::Failed, at(60).at, at(1));
    assert!(teller.due(99, at(59)).is_empty());
    assert_eq!(teller.told().count(), 0);
    assert_eq!(teller.due(99, at(60)).len(), 1);
    teller.outcome(key, Outcome::Refused, 0, at(61));
    assert!(teller.entries.is_empty());
}

#[test]
fn what_an_earlier_run_told_is_not_told_again() {
    let told = [1, 2, 3].map(|key| notice(key, Severity::Warning));
    let mut teller = AlertState::new(RATE, false, told);
    assert!(
        teller
            .there(&notice(1, Severity::Warning), None, true, at(0))
            .is_none()
    );
    // Too little to be told of, and there all the same.
    assert!(
        teller
            .there(&notice(2, Severity::Info), None, false, at(0))
            .is_none()
    );
    assert!(teller.due(99, at(0)).is_empty());
    teller.forget_unseen(|_| true, at(1));
    let alerts = teller.due(99, at(1));
    let [alert] = &alerts[..] else {
        panic!("not one: {alerts:?}");
    };
    assert_eq!((alert.notice.key, alert.status), (Key(3), Status::Resolved));
}

#[derive(Clone, Debug)]
enum Step {
    There(u128, Severity, bool),
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
            .prop_map(|(key, severity, matters)| Step::There(key, severity, matters)),
        4 => key.prop_map(Step::Gone),
        6 => (0..8_usize, outcome).prop_map(|(which, outcome)| Step::Outcome(which, outcome)),
        3 => (0..90_u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => Just(Step::FirstSnapshot),
    ];
    prop::collection::vec(step, 0..120)
}

/// One who is told, and holds that it is told in turns.
#[derive(Default)]
struct EventKind {
    firing: BTreeMap<Key, Severity>,
    in_flight: Vec<Alert>,
    given: Vec<(Status, u64)>,
}

impl EventKind {
    fn take(&mut self, alerts: impl IntoIterator<Item = Alert>, now: Now) {
        for alert in alerts {
            let key = alert.notice.key;
            assert!(
                !self.in_flight.iter().any(|other| other.notice.key == key),
                "two of one key at once"
            );
            if key != HELD_BACK && alert.was.is_none() {
                self.given.push((alert.status, now.at));
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
                assert!(is_firing, "an update of nothing");
                assert!(key == HELD_BACK || takes_updates && alert.notice.severity > was.severity);
            }
            (Status::Resolved, _) => assert!(is_firing, "resolved first"),
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
    fn firing_and_resolved_come_in_turns(steps in steps(), takes_updates in any::<bool>()) {
        let mut teller = AlertState::new(RATE, takes_updates, []);
        let mut told = EventKind::default();
        let mut there = BTreeMap::new();
        let mut seconds = 0;
        for step in steps {
            let now = at(seconds);
            match step {
                Step::There(key, severity, matters) => {
                    there.insert(Key(key), ());
                    let alert = teller.there(&notice(key, severity), None, matters, now);
                    told.take(alert, now);
                }
                Step::Gone(key) => {
                    there.remove(&Key(key));
                    teller.gone(Key(key), None, now);
                }
                Step::Outcome(which, outcome) if !told.in_flight.is_empty() => {
                    let alert = told.in_flight.remove(which % told.in_flight.len());
                    if outcome == Outcome::Delivered {
                        told.deliver(&alert, takes_updates);
                    }
                    // Who refuses that something is resolved has forgotten it.
                    if outcome == Outcome::Refused && alert.status == Status::Resolved {
                        told.firing.remove(&alert.notice.key);
                    }
                    let next = teller.outcome(alert.notice.key, outcome, now.at, now);
                    told.take(next, now);
                }
                Step::Outcome(..) => {}
                Step::Wait(wait) => seconds += wait,
                Step::Restart => {
                    // All that is on its way is waited for.
                    while let Some(alert) = told.in_flight.pop() {
                        told.deliver(&alert, takes_updates);
                        let next = teller.outcome(alert.notice.key, Outcome::Delivered, 0, now);
                        told.take(next, now);
                    }
                    let kept: Vec<_> = teller.told().cloned().collect();
                    told.firing.remove(&HELD_BACK);
                    told.given.clear();
                    let firing: Vec<_> = told.firing.keys().copied().collect();
                    let keys: Vec<_> = kept.iter().map(|notice| notice.key).collect();
                    prop_assert_eq!(keys, firing, "what is kept is not what was told");
                    teller = AlertState::new(RATE, takes_updates, kept);
                }
                Step::FirstSnapshot => {
                    teller.forget_unseen(|_| true, now);
                }
            }
            let now = at(seconds);
            told.take(teller.due(99, now), now);
            for status in [Status::Firing, Status::Resolved] {
                let recent = told.given.iter().filter(|&&(other, given)| {
                    other == status && now.at - given < MINUTE
                });
                prop_assert!(recent.count() <= RATE as usize, "too many in a minute");
            }
        }
        // In the end, where all arrives, only what is there is firing.
        for _ in 0..60 {
            seconds += 61;
            teller.forget_unseen(|notice| !there.contains_key(&notice.key), at(seconds));
            told.take(teller.due(99, at(seconds)), at(seconds));
            while let Some(alert) = told.in_flight.pop() {
                told.deliver(&alert, takes_updates);
                let next = teller.outcome(alert.notice.key, Outcome::Delivered, 0, at(seconds));
                told.take(next, at(seconds));
            }
        }
        for key in told.firing.keys() {
            prop_assert!(there.contains_key(key), "{} is not resolved", key);
        }
        prop_assert_eq!(teller.firing().count(), told.firing.len());
    }
}
