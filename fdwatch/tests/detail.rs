//! Where in the program descriptors are made, and by which paths, of those that it is wanted of.

mod common;

use std::{path::Path, thread, time::Duration};

use common::{Puppet, Watch};
use serde_json::Value;

/// Two descriptors on one file, made one after the other by a path that is not absolute.
fn open_twice(puppet: &mut Puppet, directory: &Path) {
    let directory = directory.to_str().expect("the path is UTF-8");
    puppet.tell(&format!("os.chdir({directory:?})"));
    for _ in 0..2 {
        puppet.open(Path::new("./log"), "WRONLY|CREAT");
    }
}

#[track_caller]
fn assert_in_detail(fd: &Value) {
    assert_eq!(fd["asked_path"], "./log", "{fd}");
    let entered = &fd["stack"][0];
    assert!(entered["address"].is_string(), "{fd}");
    let is = |field: &str, what: &str| entered[field].as_str().is_some_and(|it| it.contains(what));
    assert!(is("module", "libc") && is("symbol", "open"), "{fd}");
}

#[test]
fn of_a_process_that_is_asked_for_there_are_stacks_and_paths() {
    if !common::bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &[]);
    open_twice(&mut puppet, directory.path());
    let found = watch.finding("found");
    for fd in found["fds"].as_array().unwrap() {
        assert_in_detail(fd);
    }
}

#[test]
fn of_a_process_that_something_was_found_of_there_are_from_then_on() {
    if !common::bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut puppet = Puppet::start();
    let name = puppet.tell("open('/proc/self/comm').read().strip()");
    let mut watch = Watch::start(&["--comm", name.as_str().unwrap()]);
    open_twice(&mut puppet, directory.path());
    let path = directory.path().canonicalize().unwrap().join("log");
    let mut next = |change: &str| {
        loop {
            let finding = watch.next_of("finding");
            if finding["change"] == change && finding["file"]["path"] == path.to_str().unwrap() {
                return finding;
            }
        }
    };
    let found = next("found");
    assert_eq!(found["fds"][0]["asked_path"], Value::Null, "{found}");
    // It is asked for at the next tick.
    thread::sleep(Duration::from_secs(1));
    puppet.open(Path::new("./log"), "WRONLY");
    assert_in_detail(&next("changed")["fds"][2]);
}

#[test]
fn of_no_one_else_is_anything_told() {
    if !common::bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &["--detail", "never"]);
    open_twice(&mut puppet, directory.path());
    let found = watch.finding("found");
    assert_eq!(found["fds"][0].get("stack"), None, "{found}");
    let summary = watch.end().summary;
    assert_eq!(summary["by_kind"]["stack"], 0, "{summary}");
    assert_eq!(summary["by_kind"]["asked-path"], 0, "{summary}");
}
