//! Descriptors shared between processes and threads: across fork, across exec, and in one table.

use std::path::Path;

use fdwatch_test_support::{
    Log, Puppet, Watch, bpf, eventually,
    procfs::{self, fd},
    puppet::open,
};

#[test]
fn file_reopened_by_child_is_inherited() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let kept = puppet.open(&log.path, "WRONLY|APPEND");
    let mut watch = Watch::start(&["--path", log.glob()]);

    let again = open(&log.path, "WRONLY|APPEND");
    let child = puppet.number(&format!("os.fork() or ({again}, stay())"));
    let found = watch.finding("found");
    let modes = procfs::assert_agrees(&found, &log.path);
    assert_eq!(found["process"]["pid"], child);
    assert_eq!(found["process"]["ppid"], puppet.pid());
    assert_eq!(found["cause"], "inherited");
    assert_eq!(found["severity"], "warning");
    let opened = modes.into_keys().find(|&fd| fd != kept);
    let opened = opened.expect("not two");
    assert_eq!(fd(&found, kept)["origin"], "fork");
    assert_eq!(fd(&found, opened)["origin"], "openat");
    assert_eq!(fd(&found, opened)["tid"], child);

    // The child's exit ends the duplicate; the parent has none.
    puppet.exec(&format!(
        "os.kill({child}, signal.SIGKILL); os.waitpid({child}, 0)"
    ));
    let gone = watch.finding("gone");
    assert_eq!(gone["process"]["pid"], child);
    assert_eq!(procfs::numbers(&gone["fds"]), [0; 0]);
    assert_eq!(procfs::numbers(&gone["closed"]).len(), 2);
    watch.end().assert_counts(1, 0, 1);
}

#[test]
fn duplicate_between_fork_and_exec_is_ignored() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    puppet.open(&log.path, "WRONLY|CLOEXEC");
    puppet.open(&log.path, "RDONLY|CLOEXEC");
    let mut watch = Watch::start(&["--path", log.glob()]);
    assert_eq!(watch.finding("found")["process"]["pid"], puppet.pid());
    for _ in 0..20 {
        puppet.exec("os.waitpid(os.fork() or os.execv('/bin/true', ['true']), 0)");
    }
    watch.end().assert_counts(1, 0, 0);
}

#[test]
fn duplicate_kept_across_exec_names_new_program() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::start(&["--path", log.glob(), "--comm", "sleep"]);
    let writer = puppet.open(&log.path, "WRONLY");
    let reader = puppet.open(&log.path, "RDONLY");
    let closed = puppet.open(&log.path, "RDONLY|CLOEXEC");
    let child = puppet.number("os.fork() or os.execv('/bin/sleep', ['sleep', '120'])");
    let found = watch.finding("found");
    let modes = procfs::assert_agrees(&found, &log.path);
    assert!(!modes.contains_key(&closed));
    assert_eq!(found["process"]["pid"], child);
    assert_eq!(found["process"]["comm"], "sleep");
    assert_eq!(found["process"]["cmdline"][1], "120");
    for number in [writer, reader] {
        assert_eq!(fd(&found, number)["origin"], "exec-kept");
    }
    assert_eq!(found["cause"], "exec-leak");
    // The parent's is also reported, but for another program.
    assert_eq!(found["severity"], "warning");
}

#[test]
fn threads_share_descriptors() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &[]);
    puppet.open(&log.path, "WRONLY");
    puppet.exec(&format!(
        "import threading\n\
         def other():\n    \
             global tid\n    \
             tid = threading.get_native_id()\n    \
             {}\n\
         thread = threading.Thread(target=other)\n\
         thread.start()\n\
         thread.join()",
        open(&log.path, "RDONLY")
    ));
    let tid = puppet.number("tid");
    assert_ne!(tid, puppet.pid());
    let found = watch.finding("found");
    procfs::assert_agrees(&found, &log.path);
    assert_eq!(found["process"]["pid"], puppet.pid());
    let tids = found["fds"].as_array().expect("fds is not an array").iter();
    let tids: Vec<_> = tids.map(|fd| fd["tid"].clone()).collect();
    assert_eq!(tids, [puppet.pid(), tid]);
    // An exiting thread does not close its descriptors.
    let held = procfs::held(puppet.pid(), &log.path);
    assert_eq!(held.len(), 2);
    eventually("the exit of the thread", || {
        let task = format!("/proc/{}/task/{tid}", puppet.pid());
        (!Path::new(&task).exists()).then_some(())
    });
    watch.end().assert_counts(1, 0, 0);
}
