//! Duplicates within one process: all events by which they appear, change and disappear.

use std::{fs, path::Path};

use fdwatch_test_support::{
    Log, Puppet, Watch, bpf,
    procfs::{self, Mode, fd, lifetime},
    puppet::open,
};
use serde_json::Value;

#[test]
fn reopened_file_is_found_changed_and_gone() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &[]);

    let writer = puppet.open(&log.path, "WRONLY|APPEND");
    let reader = puppet.open(&log.path, "RDONLY|CLOEXEC");
    let found = watch.finding("found");
    let modes = procfs::assert_agrees(&found, &log.path);
    let mode = |access: &str, append, cloexec| Mode {
        access: access.to_owned(),
        append,
        cloexec,
    };
    assert_eq!(modes[&writer], mode("w", true, false));
    assert_eq!(modes[&reader], mode("r", false, true));
    assert_eq!(found["cause"], "reopened");
    assert_eq!(found["severity"], "warning");
    assert_eq!(found["file"]["path"], log.glob());
    assert_eq!(found["lifetime"], Value::Null);
    assert_eq!(found["times"], 1);
    assert!(found["advice"].as_str().is_some_and(|it| !it.is_empty()));
    for reported in [writer, reader].map(|number| fd(&found, number)) {
        assert_eq!(reported["origin"], "openat");
        assert_eq!(reported["tid"], puppet.pid());
        assert!(reported["opened_at"].as_str() >= watch.started["time"].as_str());
        assert_eq!(reported["description"].as_str().map(str::len), Some(16));
    }
    assert_ne!(
        fd(&found, writer)["description"],
        fd(&found, reader)["description"]
    );

    let third = puppet.open(&log.path, "RDWR");
    let changed = watch.finding("changed");
    procfs::assert_agrees(&changed, &log.path);
    assert_eq!(fd(&changed, third)["access"], "rw");

    puppet.close(writer);
    let changed = watch.finding("changed");
    procfs::assert_agrees(&changed, &log.path);
    assert_eq!(procfs::numbers(&changed["closed"]), [writer]);
    assert_eq!(changed["closed"][0]["append"], true);
    assert!(lifetime(&changed["closed"][0]) < 60.0);

    puppet.close(reader);
    let gone = watch.finding("gone");
    procfs::assert_agrees(&gone, &log.path);
    assert_eq!(procfs::numbers(&gone["fds"]), [third]);
    assert_eq!(procfs::numbers(&gone["closed"]), [reader]);
    assert!(lifetime(&gone) < 60.0);
    let ids = [&changed, &gone].map(|reported| reported["id"] == found["id"]);
    assert_eq!(ids, [true, true]);
    watch.end().assert_counts(1, 2, 1);
}

#[test]
fn dup_is_reported_only_with_all() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut all = Watch::of(puppet.pid(), &["--all", "--path", log.glob()]);
    let some = Watch::of(puppet.pid(), &["--path", log.glob()]);

    let first = puppet.open(&log.path, "RDWR");
    let mut reported = "found";
    for (call, origin) in [
        (format!("libc.dup({first})"), "dup"),
        (format!("libc.dup2({first}, 40)"), "dup2"),
        (format!("libc.dup3({first}, 50, os.O_CLOEXEC)"), "dup3"),
        (format!("fcntl.fcntl({first}, fcntl.F_DUPFD, 60)"), "fcntl"),
        (
            format!("fcntl.fcntl({first}, fcntl.F_DUPFD_CLOEXEC, 70)"),
            "fcntl",
        ),
    ] {
        let copy = puppet.number(&call);
        let finding = all.finding(reported);
        reported = "changed";
        procfs::assert_agrees(&finding, &log.path);
        assert_eq!(finding["cause"], "duplicated");
        assert_eq!(finding["severity"], "info");
        // On other architectures than x86 the C library implements dup2 with dup3.
        let actual = fd(&finding, copy)["origin"].as_str();
        assert!(
            actual == Some(origin) || (origin, actual) == ("dup2", Some("dup3")),
            "{actual:?} of {call}"
        );
        assert_eq!(
            fd(&finding, copy)["description"],
            fd(&finding, first)["description"]
        );
    }
    all.end().assert_counts(1, 4, 0);
    some.end().assert_counts(0, 0, 0);
}

#[test]
fn rotated_file_is_reported_with_both_names() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let rotated = log.directory.path().join("x.log.1");
    let everything = log.directory.path().join("*");
    let mut puppet = Puppet::start();
    let old = puppet.open(&log.path, "WRONLY|APPEND");
    let glob = everything.to_str().expect("not UTF-8");
    let mut watch = Watch::of(puppet.pid(), &["--path", glob]);

    fs::rename(&log.path, &rotated).expect("cannot rename a file");
    let new = puppet.open(&log.path, "WRONLY|APPEND|CREAT");
    let found = watch.finding("found");
    assert_eq!(found["cause"], "rotated");
    assert_eq!(found["severity"], "warning");
    assert_eq!(found["file"]["path"], rotated.to_str().expect("not UTF-8"));
    assert_eq!(procfs::numbers(&found["fds"]), [old, new]);
    assert_eq!(fd(&found, new)["file"]["path"], log.glob());
    assert_ne!(fd(&found, new)["file"]["ino"], found["file"]["ino"]);

    puppet.close(old);
    let gone = watch.finding("gone");
    assert_eq!(gone["id"], found["id"]);
    watch.end().assert_counts(1, 0, 1);
}

#[test]
fn short_duplicate_is_reported_as_gone() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let staying = puppet.open(&log.path, "WRONLY");
    let mut watch = Watch::of(puppet.pid(), &[]);
    // While fdwatch is stopped, both happen.
    watch.signal(libc::SIGSTOP);
    let passing = puppet.number(&format!(
        "(fd := {}, libc.close(fd))[0]",
        open(&log.path, "RDONLY")
    ));
    watch.signal(libc::SIGCONT);
    let gone = watch.finding("gone");
    procfs::assert_agrees(&gone, &log.path);
    assert_eq!(procfs::numbers(&gone["fds"]), [staying]);
    assert_eq!(procfs::numbers(&gone["closed"]), [passing]);
    assert_eq!(gone["file"]["path"], log.glob());
    assert_eq!(gone["cause"], "reopened");
    assert_eq!(gone["severity"], "warning");
    assert_eq!(gone["times"], 1);
    assert!(lifetime(&gone) < 1.0, "{gone}");
    assert!(lifetime(&gone["closed"][0]) < 1.0, "{gone}");
    watch.end().assert_counts(0, 0, 1);
}

#[test]
fn short_duplicates_are_reported_together() {
    const TIMES: u64 = 1000;
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    puppet.open(&log.path, "WRONLY");
    let watch = Watch::of(puppet.pid(), &[]);
    let once = format!("libc.close({})", open(&log.path, "RDONLY"));
    puppet.exec(&format!("for _ in range({TIMES}): {once}"));
    let ended = watch.end();
    let times = ended
        .findings
        .iter()
        .map(|reported| reported["times"].as_u64());
    assert_eq!(times.sum::<Option<u64>>(), Some(TIMES));
    assert!(ended.findings.len() < 30, "{}", ended.findings.len());
}

#[test]
fn exit_ends_duplicates() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &[]);
    let mut numbers = [(); 3].map(|()| puppet.open(&log.path, "WRONLY"));
    numbers.sort_unstable();
    let found = watch.finding("found");
    let found = if procfs::numbers(&found["fds"]).len() == 3 {
        found
    } else {
        watch.finding("changed")
    };
    assert_eq!(procfs::numbers(&found["fds"]), numbers);
    puppet.kill();
    let gone = watch.finding("gone");
    assert_eq!(gone["id"], found["id"]);
    assert_eq!(gone["process"], found["process"]);
    assert_eq!(gone["file"]["path"], log.glob());
    assert_eq!(procfs::numbers(&gone["fds"]), [0; 0]);
    assert_eq!(procfs::numbers(&gone["closed"]), numbers);
    assert!(lifetime(&gone) < 60.0);
}

#[test]
fn deleted_file_with_reader_is_warning() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &[]);
    let first = puppet.open(&log.path, "RDONLY");
    fs::remove_file(&log.path).expect("cannot remove a file");
    let opened = open(Path::new(&format!("/proc/self/fd/{first}")), "RDONLY");
    puppet.number(&opened);
    let found = watch.finding("found");
    procfs::assert_agrees(&found, &log.path);
    assert_eq!(found["file"]["deleted"], true);
    assert_eq!(found["file"]["path"], log.glob());
    assert_eq!(found["severity"], "warning");
}

#[test]
fn non_regular_files_are_reported_only_with_all() {
    if !bpf() {
        return;
    }
    let mut puppet = Puppet::start();
    for twice in [
        "os.eventfd(0)",
        "socket.socket(socket.AF_UNIX).detach()",
        "libc.epoll_create1(0)",
        "libc.inotify_init1(0)",
        "os.pipe()[0]",
        "os.open('/', os.O_RDONLY)",
        "os.open('/dev/zero', os.O_RDWR)",
        // Since 6.9, all pidfds of a process have one inode.
        "os.pidfd_open(os.getpid())",
    ] {
        puppet.exec(&format!("os.dup({twice}), {twice}"));
    }
    let mut all = Watch::of(puppet.pid(), &["--all"]);
    let some = Watch::of(puppet.pid(), &[]);
    assert_eq!(all.finding("found")["severity"], "info");
    some.end().assert_counts(0, 0, 0);
}
