//! What is reported of supervisord, each with a real one: what is told of it, and why.

mod common;

use std::fs;

use common::{
    Watch, eventually, fdwatch, procfs, run,
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

/// How often it is tried, for Python may collect the reader before its file is rotated.
const ATTEMPTS: usize = 5;

/// Report 1440: rotated logs take space after they are deleted, for the readers of clients that are
/// gone still have them.
#[test]
fn rotated_logs_that_are_deleted_are_told_of_who_has_them() {
    if !common::bpf() || !supervisord::is_there() {
        return;
    }
    let came_to_the_end = (0..ATTEMPTS).any(|_| a_dead_reader_keeps_a_deleted_log());
    assert!(came_to_the_end, "each time Python collected it before");
}

fn a_dead_reader_keeps_a_deleted_log() -> bool {
    let supervisord = Supervisord::talking(include_str!("fixtures/supervisord_rotated.conf"));
    let log = supervisord.log();
    let glob = format!("{}*", log.display());
    let mut watch = Watch::of(supervisord.pid(), &["--path", &glob]);
    let writer = supervisord.held();
    let mut client = supervisord.tail(2);
    let reader = supervisord
        .held()
        .into_iter()
        .find(|fd| !writer.contains(fd));
    let reader = reader.expect("there is one more");
    watch.finding("found");
    client.kill();
    supervisord.wait_for_clients(0);
    if procfs::fdinfo(supervisord.pid(), reader, "flags").is_none() {
        return false;
    }
    fs::write(supervisord.directory.path().join("go"), "").expect("it can be written");
    loop {
        let told = watch.next_of("finding");
        if told["change"] == "gone" && procfs::fdinfo(supervisord.pid(), reader, "flags").is_none()
        {
            return false;
        }
        if told["change"] != "found" {
            continue;
        }
        // As /proc shows it: by its last name, and beside it there is another file.
        assert_eq!(procfs::numbers(&told["fds"]), [reader]);
        assert_eq!(told["cause"], "rotated", "{told}");
        assert_eq!(told["severity"], "warning", "{told}");
        assert_eq!(told["file"]["deleted"], true);
        assert_eq!(told["file"]["path"], format!("{}.1", log.display()));
        let bytes = told["file"]["pinned_bytes"].as_u64().unwrap_or_default();
        assert!(bytes >= 1 << 20, "{told}");
        let role = told["fds"][0]["role"].as_str().unwrap_or_default();
        assert_eq!(role, "rotated (1) log of talker (stdout), still read");
        return true;
    }
}

#[test]
fn the_pipes_of_a_spawn_that_failed_are_told_apart() {
    if !common::bpf() || !supervisord::is_there() {
        return;
    }
    let supervisord = Supervisord::talking(include_str!("fixtures/supervisord_failing.conf"));
    let pid = supervisord.pid().to_string();
    let left = "both ends are its own: left by a spawn that failed";
    let roles = eventually("the failed spawn", || {
        let table = run(fdwatch(["fds", &pid, "--json"])).json().remove(0);
        let fds = table["fds"].as_array().cloned().unwrap_or_default();
        let roles = fds.iter().filter_map(|fd| fd["role"].as_str());
        let roles: Vec<_> = roles.map(str::to_owned).collect();
        roles.iter().any(|role| role == left).then_some(roles)
    });
    let count = |wanted: &str| roles.iter().filter(|role| *role == wanted).count();
    // stdin, stdout and stderr: two ends each.
    assert_eq!(count(left), 6, "{roles:?}");
    for stream in ["stdin", "stdout", "stderr"] {
        assert_eq!(count(&format!("{stream} of talker:talker")), 1, "{roles:?}");
    }
    assert_eq!(count("writes the log of talker (stdout)"), 1, "{roles:?}");
    assert_eq!(
        count("writes the log of supervisord itself"),
        1,
        "{roles:?}"
    );
}
