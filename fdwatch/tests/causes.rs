//! Why there is a duplicate, and how its descriptors came to where they are: each cause by a program
//! that does what leads to it.

mod common;

use common::{
    Log, Puppet, Watch,
    procfs::{self, fd},
    puppet::open,
};
use serde_json::Value;

/// A descriptor's way: how it was passed on, and to whom.
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
fn what_comes_over_a_socket_beside_what_there_is_is_received() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &["--path", log.glob()]);
    let kept = puppet.open(&log.path, "WRONLY");
    puppet.tell(&format!(
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
    watch.end().assert_told(1, 0, 0);
}

#[test]
fn what_a_program_opens_beside_what_the_one_before_has_left_it_is_leaked_over_exec() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
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
fn a_way_is_known_after_those_it_led_through_are_gone() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let mut watch = Watch::start(&["--path", log.glob()]);
    let kept = puppet.open(&log.path, "WRONLY");
    // The one between ends, and its child is adopted.
    puppet.tell(&format!(
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
fn a_shell_that_sends_both_outputs_to_a_file_is_no_more_than_an_information() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
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
    puppet.tell(&format!(
        "import subprocess\n\
         shell = subprocess.Popen(['sh', '-c', 'exec sleep 120 >{path} 2>&1'])"
    ));
    let found = watch.finding("found");
    assert_eq!(procfs::numbers(&found["fds"]), [1, 2]);
    assert_eq!(found["cause"], "duplicated");
    assert_eq!(found["severity"], "info");
    puppet.tell("shell.kill()");
    watch.finding("gone");
    watch.end().assert_told(1, 0, 1);
}

#[test]
fn a_logger_that_two_libraries_opened_is_reopened() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &["--path", log.glob()]);
    let path = log.glob();
    puppet.tell(&format!(
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
    puppet.tell("[handler.close() for handler in one.handlers]");
    watch.finding("gone");
    watch.end().assert_told(1, 0, 1);
}

#[test]
fn processes_of_one_service_that_write_one_file_each_for_itself_are_told() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
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
        let mode = procfs::told(fd);
        assert_eq!(mode, procfs::held(pid, &log.path));
    }
    // A look tells the same.
    let scan = common::run(common::fdwatch(["scan", "--json", "--path", log.glob()]));
    let scanned = scan.json();
    assert_eq!(scanned.len(), 1, "{scanned:?}");
    assert_eq!(scanned[0]["cause"], "shared-file");
    puppet.tell(&format!(
        "os.kill({one}, signal.SIGKILL); os.waitpid({one}, 0)"
    ));
    let gone = watch.finding("gone");
    assert_eq!(gone["id"], found["id"]);
    watch.end().assert_told(1, 0, 1);
}

#[test]
fn children_of_a_server_that_open_its_log_again_inherit_it() {
    if !common::bpf() {
        return;
    }
    let log = Log::new();
    let mut puppet = Puppet::start();
    let kept = puppet.open(&log.path, "WRONLY|APPEND");
    let mut watch = Watch::start(&["--path", log.glob()]);
    let again = open(&log.path, "WRONLY|APPEND");
    let children = [0, 1, 2].map(|_| puppet.number(&format!("os.fork() or ({again}, stay())")));
    let mut told = children.map(|_| {
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
    told.sort_unstable();
    assert_eq!(told, children);
    watch.end().assert_told(3, 0, 0);
}

#[test]
fn a_daemon_that_opens_its_log_anew_and_keeps_the_old_one_has_a_rotated_file() {
    const LOGROTATE: &str = "/usr/sbin/logrotate";
    if !common::bpf() || !common::program(LOGROTATE) {
        return;
    }
    let log = Log::new();
    let (path, directory) = (log.glob(), log.directory.path().display());
    let config = log.directory.path().join("logrotate.conf");
    let rules = format!("\"{path}\" {{\n  rotate 3\n  create 0644 root root\n  su root root\n}}\n");
    std::fs::write(&config, rules).expect("it can be written");
    let mut puppet = Puppet::start();
    let glob = format!("{path}*");
    let mut watch = Watch::of(puppet.pid(), &["--path", &glob]);
    let old = puppet.open(&log.path, "WRONLY|APPEND");
    puppet.tell(&format!("os.write({old}, b'line')"));
    // For it to be known by which path it was opened: that is asked of what stays open.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let rotated = std::process::Command::new(LOGROTATE)
        .args(["-f", "-s", &format!("{directory}/state")])
        .arg(&config)
        .output()
        .expect("logrotate can be run");
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
    watch.end().assert_told(1, 0, 1);
}
