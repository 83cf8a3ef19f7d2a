//! Reported bugs of supervisord, each reproduced with a real one.

use std::fs;

use fdwatch_test_support::{
    Watch, bpf, eventually, fdwatch, procfs, run,
    supervisord::{self, Supervisord},
};

/// supervisord issue 411: `numprocs` above one with a single log for all processes.
#[test]
fn numprocs_processes_share_one_log() {
    if !bpf() || !supervisord::is_installed() {
        return;
    }
    let supervisord = Supervisord::with(include_str!("../fixtures/supervisord_shared.conf"));
    let log = supervisord.directory.path().join("worker.log");
    supervisord.wait_for(&log, 4);
    let glob = log.to_str().expect("not UTF-8");
    let mut watch = Watch::of(supervisord.pid(), &["--path", glob]);
    let found = watch.finding("found");
    procfs::assert_agrees(&found, &log);
    assert_eq!(found["cause"], "shared-config");
    assert_eq!(found["severity"], "warning");
    let sharing = [0, 1, 2, 3].map(|number| format!("worker:worker_{number} (stdout)"));
    assert_eq!(found["shared_by"], serde_json::json!(sharing));
    let advice = found["advice"].as_str().unwrap_or_default();
    assert!(advice.contains("%(process_num)d"), "{advice}");
    watch.end().assert_counts(1, 0, 0);
}

/// supervisord issue 1003: supervisord reopens its logs on USR2; a process could keep the old ones.
#[test]
fn log_reopen_on_usr2_leaks_nothing() {
    if !bpf() || !supervisord::is_installed() {
        return;
    }
    let supervisord = Supervisord::start();
    let log = supervisord.log();
    let glob = format!("{}*", log.display());
    let watch = Watch::of(supervisord.pid(), &["--path", &glob]);
    let old = supervisord.directory.path().join("talker.log.old");
    fs::rename(&log, &old).expect("cannot rename a file");
    supervisord.signal(libc::SIGUSR2);
    supervisord.wait_for(&log, 1);
    eventually("the end of the old log", || {
        procfs::held(supervisord.pid(), &old)
            .is_empty()
            .then_some(())
    });
    watch.end().assert_counts(0, 0, 0);
}

/// supervisord issue 184: descriptors that remain after a program was stopped and removed. Version 4.2.5 closes its
/// log.
#[test]
fn removed_program_leaks_no_log() {
    if !bpf() || !supervisord::is_installed() {
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
    // Its log, and its ends of the pipes for stdin and stdout.
    eventually("the end of the pipes", || {
        (procfs::descriptors(supervisord.pid()).len() + 3 <= before).then_some(())
    });
    watch.end().assert_counts(0, 0, 0);
}

/// Maximum number of attempts, because Python may collect the reader before its file is rotated.
const ATTEMPTS: usize = 5;

/// supervisord issue 1440: rotated logs still take space after they are deleted, because readers of disconnected
/// clients hold them.
#[test]
fn deleted_rotated_logs_name_their_holder() {
    if !bpf() || !supervisord::is_installed() {
        return;
    }
    let is_complete = (0..ATTEMPTS).any(|_| a_dead_reader_keeps_a_deleted_log());
    assert!(is_complete, "Python collected the reader in every attempt");
}

fn a_dead_reader_keeps_a_deleted_log() -> bool {
    let supervisord = Supervisord::talking(include_str!("../fixtures/supervisord_rotated.conf"));
    let log = supervisord.log();
    let glob = format!("{}*", log.display());
    let mut watch = Watch::of(supervisord.pid(), &["--path", &glob]);
    let writer = supervisord.held();
    let mut client = supervisord.tail(2);
    let reader = supervisord
        .held()
        .into_iter()
        .find(|fd| !writer.contains(fd));
    let reader = reader.expect("no further entry");
    watch.finding("found");
    client.kill();
    supervisord.wait_for_clients(0);
    if procfs::fdinfo(supervisord.pid(), reader, "flags").is_none() {
        return false;
    }
    fs::write(supervisord.directory.path().join("go"), "").expect("cannot write a file");
    loop {
        let reported = watch.next_of("finding");
        if reported["change"] == "gone"
            && procfs::fdinfo(supervisord.pid(), reader, "flags").is_none()
        {
            return false;
        }
        if reported["change"] != "found" {
            continue;
        }
        // As /proc shows it: under its last name, and another file has that name now.
        assert_eq!(procfs::numbers(&reported["fds"]), [reader]);
        assert_eq!(reported["cause"], "rotated", "{reported}");
        assert_eq!(reported["severity"], "warning", "{reported}");
        assert_eq!(reported["file"]["deleted"], true);
        assert_eq!(reported["file"]["path"], format!("{}.1", log.display()));
        let bytes = reported["file"]["pinned_bytes"]
            .as_u64()
            .unwrap_or_default();
        assert!(bytes >= 1 << 20, "{reported}");
        let role = reported["fds"][0]["role"].as_str().unwrap_or_default();
        assert_eq!(role, "rotated (1) log of talker (stdout), still read");
        return true;
    }
}

#[test]
fn pipes_of_failed_spawn_are_distinguished() {
    if !bpf() || !supervisord::is_installed() {
        return;
    }
    let supervisord = Supervisord::talking(include_str!("../fixtures/supervisord_failing.conf"));
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
    // Two ends of each pipe for stdin, stdout and stderr.
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
