//! The case that fdwatch is for: supervisord keeps the readers of `supervisorctl tail -f` clients
//! that died, beside its own writer of the same log.
//!
//! supervisord closes such a client's socket, but the file is part of a reference cycle that only
//! Python's cyclic garbage collector breaks: soon for a young one, and rarely for one that was there
//! for long. Both are driven here, with a real supervisord.

mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Guard, Watch, eventually, procfs};
use tempfile::TempDir;

const SUPERVISORD: &str = "/usr/bin/supervisord";
const SUPERVISORCTL: &str = "/usr/bin/supervisorctl";

/// How often it is tried, for Python may collect what is to stay, which is its good right.
const ATTEMPTS: usize = 5;

/// Calls that make what supervisord holds old, so that Python looks at it rarely.
const CALLS_TO_AGE: usize = 350;

/// supervisord's descriptors that are sockets when nobody is connected: the one it listens at.
const LISTENING: usize = 1;

/// A supervisord in a directory of its own.
struct Supervisord {
    process: Guard,
    directory: TempDir,
}

impl Supervisord {
    /// Starts one, and waits until it writes its program's log.
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let config = directory.path().join("supervisord.conf");
        fs::write(&config, include_str!("fixtures/supervisord.conf")).expect("it can be written");
        let process = Guard::spawn(
            Command::new(SUPERVISORD)
                .arg("-c")
                .arg(config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let supervisord = Self { process, directory };
        let log = supervisord.log();
        supervisord.wait_for(&log, 1);
        eventually("a line in the log", || {
            (fs::metadata(&log).ok()?.len() > 0).then_some(())
        });
        eventually("an answer of supervisord", || supervisord.try_call().ok());
        supervisord
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("talker.log")
    }

    /// What any monitoring of supervisord does all day, on a new connection.
    fn try_call(&self) -> std::io::Result<String> {
        const CALL: &str = "<?xml version='1.0'?><methodCall>\
            <methodName>supervisor.getAllProcessInfo</methodName></methodCall>";
        let mut stream = UnixStream::connect(self.directory.path().join("socket"))?;
        stream.set_read_timeout(Some(common::DEADLINE))?;
        let length = CALL.len();
        write!(
            stream,
            "POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n{CALL}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn call(&self) {
        let answer = self.try_call().expect("supervisord answers");
        assert!(answer.contains("200 OK"), "{answer}");
    }

    /// Attaches a client that reads the program's log, and waits until supervisord has opened that.
    fn tail(&self, descriptors: usize) -> Guard {
        let client = Guard::spawn(
            Command::new(SUPERVISORCTL)
                .arg("-c")
                .arg(self.directory.path().join("supervisord.conf"))
                .args(["tail", "-f", "talker"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        self.wait_for(&self.log(), descriptors);
        // It asks before whether supervisord is there: that connection is to be over.
        self.wait_for_clients(1);
        client
    }

    fn wait_for(&self, path: &Path, descriptors: usize) {
        eventually(&format!("{descriptors} on {}", path.display()), || {
            (procfs::held(self.pid(), path).len() == descriptors).then_some(())
        });
    }

    fn wait_for_clients(&self, clients: usize) {
        eventually(&format!("{clients} connections"), || {
            (procfs::sockets(self.pid()) == LISTENING + clients).then_some(())
        });
    }

    /// The descriptors it has on the program's log.
    fn held(&self) -> Vec<u32> {
        procfs::held(self.pid(), &self.log()).into_keys().collect()
    }
}

impl Drop for Supervisord {
    /// Asks it to end, for it to end its programs first; they are in process groups of their own.
    fn drop(&mut self) {
        if matches!(self.process.0.try_wait(), Ok(None)) {
            self.process.signal(libc::SIGTERM);
        }
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end && matches!(self.process.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        // If it has not, its programs end when they write next: there is nobody to read it.
    }
}

/// The one number that `now` has and `before` has not.
fn added(before: &[u32], now: &[u32]) -> u32 {
    let mut added = now.iter().filter(|fd| !before.contains(fd));
    match (added.next(), added.next()) {
        (Some(&fd), None) => fd,
        _ => panic!("not one more: {before:?}, {now:?}"),
    }
}

/// Whether it came to the end, with the reader that is to stay.
fn readers_come_and_go(calls_to_age: usize) -> bool {
    let supervisord = Supervisord::start();
    let log = supervisord.log();
    let writer = supervisord.held();
    let path = log.to_str().expect("the path is UTF-8");
    let mut watch = Watch::of(supervisord.pid(), &["--path", path]);

    // One reader, that stays when its client dies.
    let mut first = supervisord.tail(2);
    let alone = supervisord.held();
    let staying = added(&writer, &alone);
    let found = watch.finding("found");
    let modes = procfs::assert_agrees(&found, &log);
    assert_eq!(modes[&writer[0]].access, "w");
    assert_eq!(modes[&staying].access, "r");
    assert_eq!(found["file"]["path"], path);
    assert_eq!(found["file"]["type"], "regular");
    assert_eq!(found["file"]["deleted"], false);
    assert_eq!(found["process"]["pid"], supervisord.pid());
    assert_eq!(found["process"]["ppid"], std::process::id());
    assert_eq!(found["process"]["comm"], "supervisord");
    assert_eq!(found["process"]["cmdline"][1], SUPERVISORD);
    assert_eq!(found["cause"], "reopened");
    assert_eq!(found["severity"], "warning");
    for fd in found["fds"].as_array().expect("fds is an array") {
        // The writer was there before fdwatch.
        let is_new = procfs::number(&fd["fd"]) == staying;
        assert_eq!(fd["origin"], if is_new { "openat" } else { "unknown" });
        assert_eq!(fd["opened_at"].is_string(), is_new, "{fd}");
        assert_eq!(fd["tid"].is_u64(), is_new, "{fd}");
    }
    for _ in 0..calls_to_age {
        supervisord.call();
    }
    let near = &procfs::fd(&found, staying)["around"][0];
    assert_eq!(near["origin"], "accept4", "{near}");
    first.kill();
    supervisord.wait_for_clients(0);
    if supervisord.held() != alone {
        return false;
    }
    // The connection is closed, and the reader is not.
    let outlived = watch.finding("changed");
    let reader = procfs::fd(&outlived, staying);
    assert_eq!(reader["outlives"], near["fd"], "{reader}");
    assert!(reader["around"][0]["closed_at"].as_str() > reader["opened_at"].as_str());

    // A second, that does not.
    let mut second = supervisord.tail(3);
    let came = Instant::now();
    let both = supervisord.held();
    let passing = added(&alone, &both);
    let changed = watch.finding("changed");
    let modes = procfs::assert_agrees(&changed, &log);
    assert_eq!(modes[&passing].access, "r");
    assert_eq!(changed["id"], found["id"]);
    assert_eq!(changed["closed"].as_array().map(Vec::len), Some(0));
    second.kill();
    supervisord.wait_for_clients(0);
    assert_eq!(supervisord.held(), both, "it outlives its client");
    let outlived = watch.finding("changed");
    assert!(
        procfs::fd(&outlived, passing)["outlives"].is_u64(),
        "{outlived}"
    );
    let went = eventually("a collection of the second reader", || {
        supervisord.call();
        // As often as monitoring might.
        thread::sleep(Duration::from_millis(100));
        (supervisord.held() != both).then(Instant::now)
    });
    if supervisord.held() != alone {
        return false;
    }
    let changed = watch.finding("changed");
    procfs::assert_agrees(&changed, &log);
    assert_eq!(changed["id"], found["id"]);
    assert_eq!(procfs::numbers(&changed["closed"]), [passing]);
    let closed = &changed["closed"][0];
    assert_eq!(closed["access"], "r");
    assert!(closed["closed_at"].as_str() > closed["opened_at"].as_str());
    let lifetime = closed["lifetime"].as_f64().expect("a lifetime is a number");
    let seen = went.duration_since(came).as_secs_f64();
    assert!((lifetime - seen).abs() < 1.0, "{lifetime} s, seen {seen} s");

    watch.end().assert_told(1, 4, 0);
    true
}

#[test]
fn readers_of_dead_clients_are_told_until_they_are_collected() {
    if !common::bpf() || !common::program(SUPERVISORD) || !common::program(SUPERVISORCTL) {
        return;
    }
    // Each time at another distance from Python's next look at what is old.
    let mut attempts = (0..ATTEMPTS).map(|attempt| CALLS_TO_AGE + 90 * attempt);
    let came_to_the_end = attempts.any(readers_come_and_go);
    assert!(
        came_to_the_end,
        "each time Python collected what was to stay"
    );
}
