//! The workload of a finding's process: container, unit, supervisord program, and paths in its mounts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fdwatch_test_support::{
    Guard, Log, Puppet, bpf, eventually, fdwatch, program, puppet::open, run,
};
use serde_json::Value;

const ID: &str = "8f34e5b9e9f7a0e2d4a3c1b2f0e9d8c7b6a5948372615049382716f5e4d3c2b1";

/// A control group, removed when dropped.
struct Group(PathBuf);

impl Group {
    /// Creates one in the hierarchy that systemd would use.
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

    fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("cannot move a file");
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
fn container_and_unit_are_reported_and_selectable() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let Some(group) = Group::new(&format!("docker-{ID}.scope")) else {
        eprintln!("skipped: cannot create a control group");
        return;
    };
    group.add(puppet.pid());
    puppet.exec(&open(&log.path, "WRONLY"));
    puppet.exec(&open(&log.path, "RDONLY"));
    let [found] = &scanned(&["--path", log.glob()])[..] else {
        panic!("no finding");
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
    // The group can be removed only after its process has ended.
    puppet.kill();
}

#[test]
fn supervisord_program_name_is_reported() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let held = format!("exec 8>{0} 9<{0}; read line", log.glob());
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &held])
        .env("SUPERVISOR_GROUP_NAME", "web")
        .env("SUPERVISOR_PROCESS_NAME", "web_0")
        .stdin(std::process::Stdio::piped());
    let mut shell = Guard::spawn(&mut command);
    let found = eventually("the finding", || {
        scanned(&["--path", log.glob()]).into_iter().next()
    });
    let supervisor = &found["process"]["supervisor"];
    assert_eq!(supervisor["group"], "web");
    assert_eq!(supervisor["process"], "web_0");
    shell.kill();
}

/// Runs a shell script that opens `x.log` twice and reads a line, and returns the finding.
fn found_of(script: &str, directory: &Path) -> (Guard, Value) {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script])
        .current_dir(directory)
        .stdin(std::process::Stdio::piped());
    let shell = Guard::spawn(&mut command);
    let pattern = format!("{}*/x.log", directory.display());
    let found = eventually("the finding", || {
        scanned(&["--path", &pattern, "--comm", "sh"])
            .into_iter()
            .next()
    });
    (shell, found)
}

#[test]
fn path_is_reported_for_host_and_process() {
    const BUSYBOX: &str = "/usr/bin/busybox";
    if !bpf() || !program(BUSYBOX) {
        return;
    }
    let root = tempfile::tempdir().expect("cannot create a directory");
    fs::create_dir(root.path().join("bin")).expect("cannot write");
    fs::copy(BUSYBOX, root.path().join("bin/sh")).expect("cannot write");
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
fn path_in_other_mounts_has_proc_path() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let at = directory.path().display();
    let script = format!(
        "exec unshare -m --propagation private /bin/sh -c \
         'mount -t tmpfs none {at} && exec 8>{at}/x.log 9<{at}/x.log; read line'"
    );
    let (mut shell, found) = found_of(&script, directory.path());
    assert_eq!(found["file"]["path"], format!("{at}/x.log"));
    assert!(!directory.path().join("x.log").exists());
    let host_path = found["file"]["host_path"].as_str().expect("not another");
    let metadata = fs::metadata(host_path).expect("wrong target");
    let ino = std::os::unix::fs::MetadataExt::ino(&metadata);
    assert_eq!(found["file"]["ino"], ino);
    shell.kill();
}
