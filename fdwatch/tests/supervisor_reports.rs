//! What is reported of supervisord, each with a real one: what is told of it, and why.

mod common;

use std::fs;

use common::{
    Watch, eventually, procfs,
    supervisord::{self, Supervisord},
};

/// Report 411: `numprocs` above one, and one log for all of them.
#[test]
fn processes_that_have_one_log_share_it_by_the_configuration() {
    if !common::bpf() || !supervisord::is_there() {
        return;
    }
    let supervisord = Supervisord::with(include_str!("fixtures/supervisord_shared.conf"));
    let log = supervisord.directory.path().join("worker.log");
    supervisord.wait_for(&log, 4);
    let glob = log.to_str().expect("the path is UTF-8");
    let mut watch = Watch::of(supervisord.pid(), &["--path", glob]);
    let found = watch.finding("found");
    procfs::assert_agrees(&found, &log);
    assert_eq!(found["cause"], "shared-config");
    assert_eq!(found["severity"], "warning");
    let sharing = [0, 1, 2, 3].map(|number| format!("worker:worker_{number} (stdout)"));
    assert_eq!(found["shared_by"], serde_json::json!(sharing));
    let advice = found["advice"].as_str().unwrap_or_default();
    assert!(advice.contains("%(process_num)d"), "{advice}");
    watch.end().assert_told(1, 0, 0);
}

/// Report 1003: on USR2 supervisord opens its logs anew; whoever held the old ones would keep them.
#[test]
fn logs_that_are_opened_anew_on_a_signal_leave_nothing() {
    if !common::bpf() || !supervisord::is_there() {
        return;
    }
    let supervisord = Supervisord::start();
    let log = supervisord.log();
    let glob = format!("{}*", log.display());
    let watch = Watch::of(supervisord.pid(), &["--path", &glob]);
    let old = supervisord.directory.path().join("talker.log.old");
    fs::rename(&log, &old).expect("it can be renamed");
    supervisord.signal(libc::SIGUSR2);
    supervisord.wait_for(&log, 1);
    eventually("the end of the old log", || {
        procfs::held(supervisord.pid(), &old)
            .is_empty()
            .then_some(())
    });
    watch.end().assert_told(0, 0, 0);
}

/// Report 184: what is left after a program was stopped and removed. With 4.2.5 its log is closed.
#[test]
fn a_program_that_is_removed_leaves_nothing() {
    if !common::bpf() || !supervisord::is_there() {
        return;
    }
    let supervisord = Supervisord::start();
    let log = supervisord.log();
    let glob = format!("{}*", log.display());
    let before = procfs::descriptors(supervisord.pid()).len();
    let watch = Watch::of(supervisord.pid(), &["--path", &glob]);
    supervisord.control(&["stop", "talker"]);
    supervisord.control(&["remove", "talker"]);
    supervisord.wait_for(&log, 0);
    supervisord.wait_for_clients(0);
    // Its log, and the ends of its pipes: stdin and stdout.
    eventually("the end of the pipes", || {
        (procfs::descriptors(supervisord.pid()).len() + 3 <= before).then_some(())
    });
    watch.end().assert_told(0, 0, 0);
}
