//! Whose process it is that something is found of.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Log, Puppet, fdwatch, puppet::open, run};
use serde_json::Value;

const ID: &str = "8f34e5b9e9f7a0e2d4a3c1b2f0e9d8c7b6a5948372615049382716f5e4d3c2b1";

/// A control group, which is removed.
struct Group(PathBuf);

impl Group {
    /// One of that name, in whichever hierarchy there is that systemd would use.
    fn new(name: &str) -> Option<Self> {
        let roots = [
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/systemd",
            "/sys/fs/cgroup/unified",
        ];
        let root = roots
            .iter()
            .map(Path::new)
            .find(|root| root.join("cgroup.procs").exists())?;
        let path = root.join(name);
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }

    fn take_in(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("it can be moved");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn scanned(arguments: &[&str]) -> Vec<Value> {
    run(fdwatch([&["scan", "--json"], arguments].concat())).json()
}

#[test]
fn the_container_and_the_unit_are_told_and_may_be_asked_for() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let Some(group) = Group::new(&format!("docker-{ID}.scope")) else {
        eprintln!("skipped: no control group can be made");
        return;
    };
    group.take_in(puppet.pid());
    puppet.tell(&open(&log.path, "WRONLY"));
    puppet.tell(&open(&log.path, "RDONLY"));
    let [found] = &scanned(&["--path", log.glob()])[..] else {
        panic!("one is to be found");
    };
    let process = &found["process"];
    assert_eq!(process["container"]["id"], ID);
    assert_eq!(process["container"]["runtime"], "docker");
    assert_eq!(process["unit"], format!("docker-{ID}.scope"));
    assert_eq!(process["uid"], 0);
    for (wanted, arguments) in [
        (1, ["--container", &ID[..12]]),
        (0, ["--container", &ID[1..12]]),
        (1, ["--unit", "docker-*.scope"]),
        (0, ["--unit", "nginx.service"]),
        (1, ["--cgroup", "*/docker-*"]),
        (0, ["--cgroup", "/kubepods*"]),
        (1, ["--exe", "*/python3*"]),
        (0, ["--exe", "*/perl*"]),
        (1, ["--type", "regular"]),
        (0, ["--type", "socket"]),
    ] {
        let found = scanned(&[&["--path", log.glob()], &arguments[..]].concat());
        assert_eq!(found.len(), wanted, "{arguments:?}");
    }
    // It must be gone for the group to be.
    puppet.kill();
}

#[test]
fn what_supervisord_calls_it_is_told() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let held = format!("exec 8>{0} 9<{0}; read line", log.glob());
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &held])
        .env("SUPERVISOR_GROUP_NAME", "web")
        .env("SUPERVISOR_PROCESS_NAME", "web_0")
        .stdin(std::process::Stdio::piped());
    let mut shell = common::Guard::spawn(&mut command);
    let found = common::eventually("what it holds", || {
        scanned(&["--path", log.glob()]).into_iter().next()
    });
    let supervisor = &found["process"]["supervisor"];
    assert_eq!(supervisor["group"], "web");
    assert_eq!(supervisor["process"], "web_0");
    shell.kill();
}

/// A shell that does as `script` says, which is to open `x.log` twice and read a line; and what is
/// found of it.
fn found_of(script: &str, directory: &Path) -> (common::Guard, Value) {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script])
        .current_dir(directory)
        .stdin(std::process::Stdio::piped());
    let shell = common::Guard::spawn(&mut command);
    let pattern = format!("{}*/x.log", directory.display());
    let found = common::eventually("what it holds", || {
        scanned(&["--path", &pattern, "--comm", "sh"])
            .into_iter()
            .next()
    });
    (shell, found)
}

#[test]
fn a_path_is_told_as_fdwatch_and_as_the_process_sees_it() {
    const BUSYBOX: &str = "/usr/bin/busybox";
    if !common::bpf() || !common::program(BUSYBOX) {
        return;
    }
    let root = tempfile::tempdir().expect("a directory can be made");
    fs::create_dir(root.path().join("bin")).expect("it is writable");
    fs::copy(BUSYBOX, root.path().join("bin/sh")).expect("it is writable");
    let held = "exec 8>/x.log 9</x.log; read line";
    let script = format!("exec chroot . /bin/sh -c '{held}'");
    let (mut jailed, found) = found_of(&script, root.path());
    let path = root.path().join("x.log").display().to_string();
    assert_eq!(found["file"]["path"], path);
    assert_eq!(found["file"]["process_path"], "/x.log");
    assert_eq!(found["file"]["host_path"], Value::Null);
    jailed.kill();
}

#[test]
fn a_path_in_other_mounts_is_told_with_one_that_leads_there() {
    if !common::bpf() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let at = directory.path().display();
    let script = format!(
        "exec unshare -m --propagation private /bin/sh -c \
         'mount -t tmpfs none {at} && exec 8>{at}/x.log 9<{at}/x.log; read line'"
    );
    let (mut shell, found) = found_of(&script, directory.path());
    assert_eq!(found["file"]["path"], format!("{at}/x.log"));
    assert!(!directory.path().join("x.log").exists());
    let host_path = found["file"]["host_path"].as_str().expect("it is another");
    let metadata = fs::metadata(host_path).expect("it leads there");
    let ino = std::os::unix::fs::MetadataExt::ino(&metadata);
    assert_eq!(found["file"]["ino"], ino);
    shell.kill();
}
