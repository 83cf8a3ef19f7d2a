//! Each way in which a process itself comes to hold one file more than once, how it is told, and how
//! its end is.

mod common;

use std::{fs, path::Path};

use common::{
    Log, Puppet, Watch,
    procfs::{self, Mode, fd, lifetime},
    puppet::open,
};
use serde_json::Value;

#[test]
fn a_file_that_is_opened_again_is_found_changed_and_gone() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
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
    for told in [writer, reader].map(|number| fd(&found, number)) {
        assert_eq!(told["origin"], "openat");
        assert_eq!(told["tid"], puppet.pid());
        assert!(told["opened_at"].as_str() >= watch.started["time"].as_str());
        assert_eq!(told["description"].as_str().map(str::len), Some(16));
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
    let ids = [&changed, &gone].map(|told| told["id"] == found["id"]);
    assert_eq!(ids, [true, true]);
    watch.end().assert_told(1, 2, 1);
}

#[test]
fn copies_of_one_description_are_told_only_if_all_is() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let mut all = Watch::of(puppet.pid(), &["--all", "--path", log.glob()]);
    let some = Watch::of(puppet.pid(), &["--path", log.glob()]);

    let first = puppet.open(&log.path, "RDWR");
    let mut told = "found";
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
        let finding = all.finding(told);
        told = "changed";
        procfs::assert_agrees(&finding, &log.path);
        assert_eq!(finding["cause"], "duplicated");
        assert_eq!(finding["severity"], "info");
        // Elsewhere than on x86 the C library makes dup2 of dup3.
        let came = fd(&finding, copy)["origin"].as_str();
        assert!(
            came == Some(origin) || (origin, came) == ("dup2", Some("dup3")),
            "{came:?} of {call}"
        );
        assert_eq!(
            fd(&finding, copy)["description"],
            fd(&finding, first)["description"]
        );
    }
    all.end().assert_told(1, 4, 0);
    some.end().assert_told(0, 0, 0);
}

#[test]
fn a_file_that_is_rotated_while_it_is_held_is_told_with_both_names() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let rotated = log.directory.path().join("x.log.1");
    let everything = log.directory.path().join("*");
    let mut puppet = Puppet::start();
    let old = puppet.open(&log.path, "WRONLY|APPEND");
    let glob = everything.to_str().expect("the path is UTF-8");
    let mut watch = Watch::of(puppet.pid(), &["--path", glob]);

    fs::rename(&log.path, &rotated).expect("a file can be renamed");
    let new = puppet.open(&log.path, "WRONLY|APPEND|CREAT");
    let found = watch.finding("found");
    assert_eq!(found["cause"], "rotated");
    assert_eq!(found["severity"], "warning");
    assert_eq!(found["file"]["path"], rotated.to_str().expect("UTF-8"));
    assert_eq!(procfs::numbers(&found["fds"]), [old, new]);
    assert_eq!(fd(&found, new)["file"]["path"], log.glob());
    assert_ne!(fd(&found, new)["file"]["ino"], found["file"]["ino"]);

    puppet.close(old);
    let gone = watch.finding("gone");
    assert_eq!(gone["id"], found["id"]);
    watch.end().assert_told(1, 0, 1);
}

#[test]
fn one_that_came_and_went_at_once_is_told_as_gone() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let staying = puppet.open(&log.path, "WRONLY");
    let mut watch = Watch::of(puppet.pid(), &[]);
    // Whatever else there is to do here, fdwatch looks when both are over.
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
    watch.end().assert_told(0, 0, 1);
}

#[test]
fn many_that_come_and_go_are_told_together() {
    const TIMES: u64 = 1000;
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    puppet.open(&log.path, "WRONLY");
    let watch = Watch::of(puppet.pid(), &[]);
    let once = format!("libc.close({})", open(&log.path, "RDONLY"));
    puppet.tell(&format!("for _ in range({TIMES}): {once}"));
    let ended = watch.end();
    let times = ended.findings.iter().map(|told| told["times"].as_u64());
    assert_eq!(times.sum::<Option<u64>>(), Some(TIMES));
    assert!(ended.findings.len() < 30, "{}", ended.findings.len());
}

#[test]
fn the_end_of_a_process_is_the_end_of_its_duplicates() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
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
fn a_deleted_file_that_is_pinned_is_a_warning_even_to_readers() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &[]);
    let first = puppet.open(&log.path, "RDONLY");
    fs::remove_file(&log.path).expect("a file can be removed");
    let opened = open(Path::new(&format!("/proc/self/fd/{first}")), "RDONLY");
    puppet.number(&opened);
    let found = watch.finding("found");
    procfs::assert_agrees(&found, &log.path);
    assert_eq!(found["file"]["deleted"], true);
    assert_eq!(found["file"]["path"], log.glob());
    assert_eq!(found["severity"], "warning");
}

#[test]
fn what_is_no_regular_file_is_told_only_if_all_is() {
    if !common::bpf() {
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
        // All pidfds of a process are one inode, from 6.9 on.
        "os.pidfd_open(os.getpid())",
    ] {
        puppet.tell(&format!("os.dup({twice}), {twice}"));
    }
    let mut all = Watch::of(puppet.pid(), &["--all"]);
    let some = Watch::of(puppet.pid(), &[]);
    assert_eq!(all.finding("found")["severity"], "info");
    some.end().assert_told(0, 0, 0);
}
