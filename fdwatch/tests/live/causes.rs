//! Causes of duplicates and lineages of descriptors, each with a program that produces it.

use fdwatch_test_support::{
    Log, Puppet, Watch, bpf, fdwatch,
    procfs::{self, fd},
    program,
    puppet::open,
    run,
};
use serde_json::Value;

/// Returns a descriptor's lineage: how it was passed on, and to which processes.
fn chain(fd: &Value) -> Vec<(&str, u64)> {
    let links = fd["chain"].as_array().map_or(&[][..], Vec::as_slice);
    let how = |link: &Value| link["how"].as_str().map(str::to_owned);
    let links = links.iter();
    links
        .map(|link| {
            assert!(how(link).is_some(), "{link}");
            let (how, pid) = (link["how"].as_str(), link["pid"].as_u64());
            (how.unwrap_or_default(), pid.unwrap_or_default())
        })
        .collect()
}

#[test]
fn fd_from_socket_is_received() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &["--path", log.glob()]);
    let kept = puppet.open(&log.path, "WRONLY");
    puppet.exec(&format!(
        "ours, theirs = socket.socketpair()\n\
         if os.fork() == 0:\n    \
             socket.send_fds(theirs, [b'x'], [{}])\n    \
             os._exit(0)\n\
         os.wait()",
        open(&log.path, "RDONLY")
    ));
    let received = puppet.number("socket.recv_fds(ours, 1, 1)[1][0]");
    let found = watch.finding("found");
    procfs::assert_agrees(&found, &log.path);
    assert_eq!(found["cause"], "received");
    assert_eq!(found["severity"], "warning");
    assert_eq!(fd(&found, received)["origin"], "recvmsg");
    assert_eq!(fd(&found, kept)["origin"], "openat");
    watch.end().assert_counts(1, 0, 0);
}

#[test]
fn fd_kept_across_exec_is_exec_leak() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::start(&["--path", log.glob(), "--comm", "tail"]);
    let leaked = puppet.open(&log.path, "WRONLY|APPEND");
    let path = log.glob();
    let child = puppet.number(&format!(
        "os.fork() or os.execv('/usr/bin/tail', ['tail', '-f', '{path}'])"
    ));
    let found = watch.finding("found");
    procfs::assert_agrees(&found, &log.path);
    assert_eq!(found["process"]["pid"], child);
    assert_eq!(found["cause"], "exec-leak");
    assert_eq!(found["severity"], "warning");
    let advice = found["advice"].as_str().unwrap_or_default();
    assert!(advice.contains("O_CLOEXEC"), "{advice}");
    let leaked = fd(&found, leaked);
    assert_eq!(leaked["origin"], "exec-kept");
    let (parent, child) = (puppet.pid().into(), child.into());
    assert_eq!(
        chain(leaked),
        [("openat", parent), ("fork", child), ("exec", child)]
    );
    assert_eq!(leaked["chain"][1]["comm"], leaked["chain"][0]["comm"]);
    assert_eq!(leaked["chain"][2]["comm"], "tail");
}

#[test]
fn lineage_survives_exited_processes() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::start(&["--path", log.glob()]);
    let kept = puppet.open(&log.path, "WRONLY");
    // The middle process exits and its child is reparented.
    puppet.exec(&format!(
        "ends = os.pipe()\n\
         middle = os.fork()\n\
         if middle == 0:\n    \
             parent = os.getppid()\n    \
             child = os.fork()\n    \
             if child == 0:\n        \
                 {}\n        \
                 stay_with({})\n    \
             os.write(ends[1], str(child).encode())\n    \
             os._exit(0)\n\
         os.waitpid(middle, 0)",
        open(&log.path, "RDONLY"),
        puppet.pid()
    ));
    let middle = puppet.number("middle");
    let child = puppet.number("int(os.read(ends[0], 20))");
    let found = watch.finding("found");
    assert_eq!(found["process"]["pid"], child);
    assert_eq!(found["cause"], "inherited");
    assert_eq!(
        chain(fd(&found, kept)),
        [
            ("openat", puppet.pid().into()),
            ("fork", middle.into()),
            ("fork", child.into())
        ]
    );
}

#[test]
fn shell_redirection_is_info() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::start(&[
        "--path",
        log.glob(),
        "--severity",
        "info",
        "--comm",
        "sleep",
    ]);
    let path = log.glob();
    puppet.exec(&format!(
        "import subprocess\n\
         shell = subprocess.Popen(['sh', '-c', 'exec sleep 120 >{path} 2>&1'])"
    ));
    let found = watch.finding("found");
    assert_eq!(procfs::numbers(&found["fds"]), [1, 2]);
    assert_eq!(found["cause"], "duplicated");
    assert_eq!(found["severity"], "info");
    puppet.exec("shell.kill()");
    watch.finding("gone");
    watch.end().assert_counts(1, 0, 1);
}

#[test]
fn log_opened_by_two_libraries_is_reopened() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &["--path", log.glob()]);
    let path = log.glob();
    puppet.exec(&format!(
        "import logging\n\
         one, other = logging.getLogger('one'), logging.getLogger('other')\n\
         one.addHandler(logging.FileHandler('{path}'))\n\
         other.addHandler(logging.FileHandler('{path}'))"
    ));
    let found = watch.finding("found");
    let modes = procfs::assert_agrees(&found, &log.path);
    assert_eq!(modes.len(), 2);
    assert_eq!(found["cause"], "reopened");
    assert_eq!(found["severity"], "warning");
    puppet.exec("[handler.close() for handler in one.handlers]");
    watch.finding("gone");
    watch.end().assert_counts(1, 0, 1);
}

#[test]
fn separate_writers_of_service_are_reported() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let mut watch = Watch::start(&["--path", log.glob()]);
    let child = |flags| format!("os.fork() or ({}, stay())", open(&log.path, flags));
    let one = puppet.number(&child("WRONLY"));
    let other = puppet.number(&child("WRONLY|APPEND"));
    let found = watch.finding("found");
    assert_eq!(found["cause"], "shared-file");
    assert_eq!(found["severity"], "warning");
    let second = &found["others"][0];
    let mut pids = [&found["process"]["pid"], &second["process"]["pid"]].map(procfs::number);
    pids.sort_unstable();
    assert_eq!(pids, [one, other]);
    assert_eq!(found["file"]["path"], log.glob());
    for (process, fd) in [
        (&found["process"], &found["fds"]),
        (&second["process"], &second["fds"]),
    ] {
        let pid = procfs::number(&process["pid"]);
        let mode = procfs::reported(fd);
        assert_eq!(mode, procfs::held(pid, &log.path));
    }
    // `scan` reports the same.
    let scan = run(fdwatch(["scan", "--json", "--path", log.glob()]));
    let scanned = scan.json();
    assert_eq!(scanned.len(), 1, "{scanned:?}");
    assert_eq!(scanned[0]["cause"], "shared-file");
    puppet.exec(&format!(
        "os.kill({one}, signal.SIGKILL); os.waitpid({one}, 0)"
    ));
    let gone = watch.finding("gone");
    assert_eq!(gone["id"], found["id"]);
    watch.end().assert_counts(1, 0, 1);
}

#[test]
fn log_reopened_by_workers_is_inherited() {
    if !bpf() {
        return;
    }
    let log = Log::create();
    let mut puppet = Puppet::start();
    let kept = puppet.open(&log.path, "WRONLY|APPEND");
    let mut watch = Watch::start(&["--path", log.glob()]);
    let again = open(&log.path, "WRONLY|APPEND");
    let children = [0, 1, 2].map(|_| puppet.number(&format!("os.fork() or ({again}, stay())")));
    let mut reported = children.map(|_| {
        let found = watch.finding("found");
        assert_eq!(found["cause"], "inherited");
        assert_eq!(found["severity"], "warning");
        let pid = procfs::number(&found["process"]["pid"]);
        let inherited = fd(&found, kept);
        let parent = inherited["chain"][0]["pid"].as_u64();
        assert_eq!(parent, Some(puppet.pid().into()), "{inherited}");
        assert_eq!(inherited["chain"][1]["how"], "fork");
        assert_eq!(inherited["chain"][1]["pid"], pid);
        pid
    });
    reported.sort_unstable();
    assert_eq!(reported, children);
    watch.end().assert_counts(3, 0, 0);
}

#[test]
fn log_kept_after_rotation_is_rotated_file() {
    const LOGROTATE: &str = "/usr/sbin/logrotate";
    if !bpf() || !program(LOGROTATE) {
        return;
    }
    let log = Log::create();
    let (path, directory) = (log.glob(), log.directory.path().display());
    let config = log.directory.path().join("logrotate.conf");
    let rules = format!("\"{path}\" {{\n  rotate 3\n  create 0644 root root\n  su root root\n}}\n");
    std::fs::write(&config, rules).expect("cannot write a file");
    let mut puppet = Puppet::start();
    let glob = format!("{path}*");
    let mut watch = Watch::of(puppet.pid(), &["--path", &glob]);
    let old = puppet.open(&log.path, "WRONLY|APPEND");
    puppet.exec(&format!("os.write({old}, b'line')"));
    // Opened again, so that its path is looked up by a descriptor that stays open.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let rotated = std::process::Command::new(LOGROTATE)
        .args(["-f", "-s", &format!("{directory}/state")])
        .arg(&config)
        .output()
        .expect("cannot run logrotate");
    assert!(rotated.status.success(), "{rotated:?}");
    let new = puppet.open(&log.path, "WRONLY|APPEND");
    let found = watch.finding("found");
    assert_eq!(found["cause"], "rotated");
    assert_eq!(found["severity"], "warning");
    assert_eq!(found["file"]["path"], format!("{path}.1"));
    assert_eq!(fd(&found, new)["file"]["path"], path);
    assert!(fd(&found, old)["file"].is_null());
    let advice = found["advice"].as_str().unwrap_or_default();
    assert!(advice.contains("copytruncate"), "{advice}");
    puppet.close(old);
    watch.finding("gone");
    watch.end().assert_counts(1, 0, 1);
}
