//! Readers that supervisord keeps open after their `supervisorctl tail -f` clients have died, beside its own
//! writer of the same log.
//!
//! supervisord closes such a client's socket, but the file is part of a reference cycle that only Python's
//! cyclic garbage collector breaks: soon for a young object, rarely for an old one. A real supervisord shows
//! both.

use std::{
    thread,
    time::{Duration, Instant},
};

use fdwatch_test_support::{
    Watch, bpf, eventually, procfs,
    supervisord::{self, SUPERVISORD, Supervisord},
};
use serde_json::Value;

/// Maximum number of attempts, because Python may collect the reader that should stay.
const ATTEMPTS: usize = 5;

/// Calls that age supervisord's objects, so that Python checks them rarely.
const CALLS_TO_AGE: usize = 350;

/// Returns the one number that is in `now` but not in `before`.
fn added(before: &[u32], now: &[u32]) -> u32 {
    let mut added = now.iter().filter(|fd| !before.contains(fd));
    match (added.next(), added.next()) {
        (Some(&fd), None) => fd,
        _ => panic!("expected one more: {before:?}, {now:?}"),
    }
}

/// Runs the scenario. Returns false if Python collected the reader that should stay.
fn readers_come_and_go(calls_to_age: usize) -> bool {
    let supervisord = Supervisord::start();
    let log = supervisord.log();
    let writer = supervisord.held();
    let path = log.to_str().expect("not UTF-8");
    let mut watch = Watch::of(supervisord.pid(), &["--path", path]);

    // A reader that stays when its client dies.
    let mut first = supervisord.tail(2);
    let alone = supervisord.held();
    let staying = added(&writer, &alone);
    let found = watch.finding("found");
    let modes = procfs::assert_agrees(&found, &log);
    assert_eq!(modes[&writer[0]].access, "w");
    assert_eq!(modes[&staying].access, "r");
    assert_eq!(found["file"]["path"], path);
    assert_eq!(found["file"]["type"], "regular");
    assert_eq!(found["file"]["deleted"], false);
    assert_eq!(found["process"]["pid"], supervisord.pid());
    assert_eq!(found["process"]["ppid"], std::process::id());
    assert_eq!(found["process"]["comm"], "supervisord");
    assert_eq!(found["process"]["cmdline"][1], SUPERVISORD);
    assert_eq!(found["cause"], "reopened");
    assert_eq!(found["severity"], "warning");
    for fd in found["fds"].as_array().expect("fds is not an array") {
        // The writer was open before fdwatch started.
        let is_new = procfs::number(&fd["fd"]) == staying;
        assert_eq!(fd["origin"], if is_new { "openat" } else { "unknown" });
        assert_eq!(fd["opened_at"].is_string(), is_new, "{fd}");
        assert_eq!(fd["tid"].is_u64(), is_new, "{fd}");
    }
    for _ in 0..calls_to_age {
        supervisord.call();
    }
    let role = |finding: &Value, fd| {
        let role = procfs::fd(finding, fd)["role"].as_str();
        role.unwrap_or_default().to_owned()
    };
    assert_eq!(role(&found, writer[0]), "writes the log of talker (stdout)");
    let near = &procfs::fd(&found, staying)["around"][0];
    assert_eq!(near["origin"], "accept4", "{near}");
    let live = format!(
        "reads the log of talker (stdout) for the client on {}",
        near["fd"]
    );
    assert_eq!(role(&found, staying), live);
    first.kill();
    supervisord.wait_for_clients(0);
    if supervisord.held() != alone {
        return false;
    }
    // The connection is closed, the reader is not.
    let outlived = watch.finding("changed");
    let reader = procfs::fd(&outlived, staying);
    assert_eq!(reader["outlives"], near["fd"], "{reader}");
    let dead = "reads the log of talker (stdout) for a client that is gone";
    assert_eq!(role(&outlived, staying), dead);
    assert!(reader["around"][0]["closed_at"].as_str() > reader["opened_at"].as_str());

    // A second reader, which is collected.
    let mut second = supervisord.tail(3);
    let opened = Instant::now();
    let both = supervisord.held();
    let passing = added(&alone, &both);
    let changed = watch.finding("changed");
    let modes = procfs::assert_agrees(&changed, &log);
    assert_eq!(modes[&passing].access, "r");
    assert_eq!(changed["id"], found["id"]);
    assert_eq!(changed["closed"].as_array().map(Vec::len), Some(0));
    second.kill();
    supervisord.wait_for_clients(0);
    assert_eq!(supervisord.held(), both, "the reader was closed");
    let outlived = watch.finding("changed");
    assert!(
        procfs::fd(&outlived, passing)["outlives"].is_u64(),
        "{outlived}"
    );
    let closed_at = eventually("the close of the second reader", || {
        supervisord.call();
        // As often as monitoring might call.
        thread::sleep(Duration::from_millis(100));
        (supervisord.held() != both).then(Instant::now)
    });
    if supervisord.held() != alone {
        return false;
    }
    let changed = watch.finding("changed");
    procfs::assert_agrees(&changed, &log);
    assert_eq!(changed["id"], found["id"]);
    assert_eq!(procfs::numbers(&changed["closed"]), [passing]);
    let closed = &changed["closed"][0];
    assert_eq!(closed["access"], "r");
    assert!(closed["closed_at"].as_str() > closed["opened_at"].as_str());
    let lifetime = closed["lifetime"]
        .as_f64()
        .expect("lifetime is not a number");
    let seen = closed_at.duration_since(opened).as_secs_f64();
    assert!((lifetime - seen).abs() < 1.0, "{lifetime} s, seen {seen} s");

    watch.end().assert_counts(1, 4, 0);
    true
}

#[test]
fn dead_clients_readers_are_reported_until_closed() {
    if !bpf() || !supervisord::is_installed() {
        return;
    }
    // Each attempt starts at another distance from Python's next full collection.
    let mut attempts = (0..ATTEMPTS).map(|attempt| CALLS_TO_AGE + 90 * attempt);
    let is_complete = attempts.any(readers_come_and_go);
    assert!(
        is_complete,
        "Python collected the first reader in every attempt"
    );
}
