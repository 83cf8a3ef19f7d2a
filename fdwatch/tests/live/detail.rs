//! Detail: stacks and paths of the processes for which it is requested.

use std::path::Path;

use fdwatch_test_support::{Puppet, Watch, bpf, eventually};
use serde_json::Value;

/// Opens a file twice in a row, by a relative path.
fn open_twice(puppet: &mut Puppet, directory: &Path) {
    let directory = directory.to_str().expect("not UTF-8");
    puppet.exec(&format!("os.chdir({directory:?})"));
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
fn selected_process_has_stacks_and_paths() {
    if !bpf() {
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
fn process_with_finding_gets_detail() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut puppet = Puppet::start();
    let name = puppet.exec("open('/proc/self/comm').read().strip()");
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
    // The request is made on one of the next ticks.
    let last = eventually("a descriptor with detail", || {
        puppet.open(Path::new("./log"), "WRONLY");
        let changed = next("changed");
        let last = changed["fds"].as_array().unwrap().last().cloned();
        last.filter(|last| last["asked_path"] != Value::Null)
    });
    assert_in_detail(&last);
}

#[test]
fn other_processes_have_no_detail() {
    if !bpf() {
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
