//! An agent that is killed and started again: everything that fired is resolved in the end.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use fdwatch_agent::{config::Alerts, state::AgentState};
use fdwatch_core::{
    diagnose::{ProcessInfo, Severity},
    duplicates::Change,
};
use fdwatch_test_support::{Agent, Puppet, agent::basics, bpf, eventually};
use serde_json::Value;

use super::{
    Running, event,
    hook::{HANGS, Hook},
    key, pair, setup, to_webhook,
};

const KILLS: u64 = 8;

/// Files of each process that has findings.
const FILES: usize = 3;

/// Returns the alerts that were received about the files of [`with_findings`]. Other programs may have findings too.
fn about(hook: &Hook, directory: &Path) -> Vec<Value> {
    let mut got = hook.got.lock().unwrap().clone();
    let files = directory.join("held-");
    let files = files.to_str().unwrap();
    got.retain(|alert| {
        let path = alert["path"].as_str();
        path.is_some_and(|path| path.starts_with(files))
    });
    got
}

/// Returns the last status of each alert.
fn last(alerts: &[Value]) -> BTreeMap<&str, &str> {
    alerts
        .iter()
        .filter_map(|alert| Some((alert["key"].as_str()?, alert["status"].as_str()?)))
        .collect()
}

/// Opens files of the agent's directory twice each.
fn with_findings(directory: &Path, cycle: u64) -> Puppet {
    let mut puppet = Puppet::start();
    for file in 0..FILES {
        let path = directory.join(format!("held-{cycle}-{file}.log"));
        for _ in 0..2 {
            puppet.open(&path, "WRONLY|CREAT");
        }
    }
    puppet
}

fn process(pid: u32, uid: u32, start_time: u64) -> ProcessInfo {
    ProcessInfo {
        pid,
        start_time,
        uid: Some(uid),
        ..ProcessInfo::default()
    }
}

#[test]
fn agent_killed_repeatedly_resolves_every_alert() {
    if !bpf() {
        return;
    }
    let own = tempfile::tempdir().unwrap();
    let directory = own.path();
    let hook = Hook::start(200);
    let text = format!(
        "{}\n[alerts]\nstate_file = \"{}/alerts.json\"\nmost_per_minute = 1000\n[[alerts.webhook]]\nurl = \"{}\"\n",
        basics(directory),
        directory.display(),
        hook.url
    );
    fs::write(directory.join("agent.toml"), text).unwrap();
    // One process stays over several agents, each other one ends at another moment.
    let mut lasting = with_findings(directory, KILLS);
    for cycle in 0..KILLS {
        let mut agent = Agent::in_directory(directory);
        let before = about(&hook, directory).len();
        let mut puppet = with_findings(directory, cycle);
        let seen = 1 + usize::try_from(cycle).unwrap() % FILES;
        eventually("alerts", || {
            (about(&hook, directory).len() >= before + seen).then_some(())
        });
        match cycle % 4 {
            0 => agent.process.kill(),
            1 => {
                thread::sleep(Duration::from_millis(300));
                agent.process.kill();
            }
            2 => {
                puppet.kill();
                agent.process.kill();
            }
            _ => {
                puppet.kill();
                thread::sleep(Duration::from_millis(200));
                agent.process.kill();
            }
        }
        puppet.kill();
        if cycle == KILLS / 2 {
            lasting.kill();
        }
    }
    let _agent = Agent::in_directory(directory);
    let firing = eventually("the end of all alerts", || {
        let alerts = about(&hook, directory);
        let last = last(&alerts);
        let is_over = last.values().all(|status| *status == "resolved");
        is_over.then_some(last.len())
    });
    // At least one of each agent.
    assert!(firing >= usize::try_from(KILLS).unwrap(), "{firing}");
}

#[test]
fn alert_that_was_being_sent_at_a_kill_is_known() {
    let directory = tempfile::tempdir().unwrap();
    // The receiver has the alert, and the agent never learns that.
    let hook = Hook::start(HANGS);
    let setup = setup(directory.path(), to_webhook(&hook));
    let running = Running::start(setup.clone());
    running.found(1);
    running.found(2);
    eventually("a request", || {
        (hook.requests.load(Relaxed) == 1).then_some(())
    });
    let file = fs::read(&setup.state).unwrap();
    hook.status.store(200, Relaxed);
    running.end();
    // As the killed agent has left it.
    fs::write(&setup.state, file).unwrap();
    let running = Running::start(setup);
    running.known.send(true).unwrap();
    eventually("the end", || {
        hook.statuses().contains(&pair("resolved", 1)).then_some(())
    });
    running.end();
}

#[test]
fn alerts_of_ended_processes_are_resolved_without_a_wait() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start(200);
    let mut setup = setup(directory.path(), to_webhook(&hook));
    let running = Running::start(setup.clone());
    // No process was started in the first nanosecond.
    running.offer_of(1, Change::Found, Severity::Warning, process(4242, 0, 1));
    hook.wait_for(1);
    running.end();
    setup.pace.settle = Duration::from_secs(3600);
    setup.pace.settle_growth = Duration::from_secs(3600);
    let running = Running::start(setup);
    running.known.send(true).unwrap();
    hook.wait_for(2);
    running.end();
    assert_eq!(hook.statuses(), [pair("firing", 1), pair("resolved", 1)]);
}

#[test]
fn flood_of_one_user_does_not_delay_others() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start(200);
    let config = Alerts {
        most_per_minute: 30,
        ..to_webhook(&hook)
    };
    let running = Running::start(setup(directory.path(), config));
    for number in 0..3000_u32 {
        let process = process(7000 + number, 65_534, 0);
        running.offer_of(
            (1000 + number).into(),
            Change::Found,
            Severity::Critical,
            process,
        );
    }
    let counts = Arc::clone(&running.counts);
    eventually("dropped alerts", || (counts.now()[1] > 2000).then_some(()));
    // Root, a service and a user, in the same minute.
    for (number, uid) in [(1, 0), (2, 33), (3, 1000)] {
        running.offer_of(
            number,
            Change::Found,
            Severity::Warning,
            process(50 + uid, uid, 0),
        );
    }
    eventually("the alerts of the others", || {
        let statuses = hook.statuses();
        let has = |number| statuses.contains(&pair("firing", number));
        [1, 2, 3].into_iter().all(has).then_some(())
    });
    running.end();
    let of_flood = hook.statuses();
    let of_flood = of_flood.iter().filter(|(_, of)| *of >= key(1000));
    assert!(of_flood.count() >= 10, "the flood is reported too");
}

#[test]
fn dropped_events_leave_no_alert_behind() {
    const FINDINGS: u128 = 300;
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start(200);
    let config = Alerts {
        most_per_minute: 100_000,
        ..to_webhook(&hook)
    };
    let mut setup = setup(directory.path(), config);
    let (shared, _requests) = AgentState::new();
    setup.shared = Some(Arc::clone(&shared));
    // Room for one event: most of a burst are dropped.
    let running = Running::start_with(setup, 1);
    shared.set_sinks(vec![running.outlet.clone().unwrap()]);
    let publish = |change| {
        for of in 0..FINDINGS {
            let process = process(u32::try_from(of).unwrap(), 1000, 0);
            shared.publish(event(of + 1, change, Severity::Warning, process));
        }
    };
    let has_all = |status: &str| {
        let got = hook.got.lock().unwrap().clone();
        let last = last(&got);
        let all = last.values().filter(|last| **last == status);
        (all.count() == usize::try_from(FINDINGS).unwrap()).then_some(())
    };
    publish(Change::Found);
    eventually("all alerts", || has_all("firing"));
    publish(Change::Gone);
    eventually("the end of all alerts", || has_all("resolved"));
    running.end();
}
