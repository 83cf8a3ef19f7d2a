//! What `fdwatch watch` tells of real processes as they open, duplicate, inherit, rotate and close.

mod harness;

use std::path::Path;

use harness::{PYTHON, Program, Watch, accesses, can_run, numbers, on_file};

/// A file in a directory of its own.
struct Log {
    directory: tempfile::TempDir,
    path: String,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program.log");
        std::fs::write(&path, "begin\n").unwrap();
        Self {
            path: path.to_str().unwrap().to_owned(),
            directory,
        }
    }

    fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// The pattern of all files in its directory.
    fn pattern(&self) -> String {
        format!("{}/*", self.directory.path().display())
    }
}

#[test]
fn a_reader_beside_a_writer_is_found_changed_and_gone() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let log = Log::new();
    let mut program = Program::start(
        "step()
a = open(sys.argv[1], 'a'); b = open(sys.argv[1]); step()
c = open(sys.argv[1]); step()
c.close(); step()
b.close(); step()",
        &[&log.path],
    );
    let number = program.pid();
    let mut watch = Watch::start(&["--pid", &number.to_string()]);
    let held = |finding: &serde_json::Value| {
        assert_eq!(finding["process"]["pid"], number);
        assert_eq!(finding["file"]["path"], log.path.as_str());
        assert_eq!(numbers(&finding["fds"]), on_file(number, log.path()));
    };

    program.step();
    let found = watch.finding("found");
    held(&found);
    assert_eq!(accesses(&found["fds"]), ["w", "r"]);
    assert_eq!(found["cause"], "reopened");
    assert_eq!(found["severity"], "warning");
    assert_eq!(found["fds"][0]["append"], true);
    assert_eq!(found["fds"][0]["origin"], "openat");
    assert_ne!(
        found["fds"][0]["description"],
        found["fds"][1]["description"]
    );

    program.step();
    let changed = watch.finding("changed");
    held(&changed);
    assert_eq!(accesses(&changed["fds"]), ["w", "r", "r"]);
    assert_eq!(changed["id"], found["id"]);

    program.step();
    let changed = watch.finding("changed");
    held(&changed);
    assert_eq!(numbers(&changed["closed"]).len(), 1);
    assert!(changed["closed"][0]["lifetime"].is_number());

    program.step();
    let gone = watch.finding("gone");
    held(&gone);
    assert_eq!(accesses(&gone["fds"]), ["w"]);
    assert!(gone["lifetime"].is_number());
    let rest = watch.end(libc::SIGINT);
    let findings = &rest.last().unwrap()["findings"];
    assert_eq!(findings["found"], 1);
    assert_eq!(findings["changed"], 2);
    assert_eq!(findings["gone"], 1);
}

#[test]
fn copies_by_dup_are_one_description_and_an_information() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let log = Log::new();
    let mut program = Program::start(
        "a = os.open(sys.argv[1], os.O_WRONLY); step()
os.dup(a); step()
os.dup2(a, 40); step()
fcntl.fcntl(a, fcntl.F_DUPFD, 50); step()
fcntl.fcntl(a, fcntl.F_DUPFD_CLOEXEC, 60); step()",
        &[&log.path],
    );
    let pid = program.pid().to_string();
    let mut watch = Watch::start(&["--pid", &pid, "--all", "--path", &log.path]);
    program.step();
    let mut finding = watch.finding("found");
    assert_eq!(finding["cause"], "duplicated");
    assert_eq!(finding["severity"], "info");
    for (fd, origin, cloexec) in [
        (40, "dup", false),
        (50, "fcntl", false),
        (60, "fcntl", true),
    ] {
        program.step();
        finding = watch.finding("changed");
        let fds = finding["fds"].as_array().unwrap();
        let last = fds.last().unwrap();
        assert_eq!(last["fd"], fd);
        assert!(
            last["origin"].as_str().unwrap().starts_with(origin),
            "{last}"
        );
        assert_eq!(last["cloexec"], cloexec);
        assert_eq!(last["description"], fds[0]["description"]);
    }
    assert_eq!(numbers(&finding["fds"]), on_file(program.pid(), log.path()));
}

#[test]
fn what_a_child_opens_again_is_inherited() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let log = Log::new();
    let mut program = Program::start(
        "a = open(sys.argv[1], 'a'); step()
if os.fork() == 0:
    b = open(sys.argv[1]); time.sleep(60)
step()",
        &[&log.path],
    );
    let mut watch = Watch::start(&["--path", &log.path]);
    program.step();
    let found = watch.finding("found");
    assert_eq!(found["cause"], "inherited");
    assert_eq!(found["process"]["ppid"], program.pid());
    assert_eq!(found["fds"][0]["origin"], "fork");
    assert_eq!(found["fds"][1]["origin"], "openat");
    let child = found["process"]["pid"].as_i64().unwrap();
    // SAFETY: it is the program's child, and ends with a signal only.
    unsafe { libc::kill(child.try_into().unwrap(), libc::SIGKILL) };
    let gone = watch.finding("gone");
    assert_eq!(numbers(&gone["fds"]).len(), 0);
    assert_eq!(numbers(&gone["closed"]).len(), 2);
}

#[test]
fn a_rotated_file_that_is_still_held_is_told() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let log = Log::new();
    let mut program = Program::start(
        "a = open(sys.argv[1], 'a'); step()
os.rename(sys.argv[1], sys.argv[1] + '.1'); b = open(sys.argv[1], 'a'); step()
a.close(); step()",
        &[&log.path],
    );
    let pid = program.pid().to_string();
    let mut watch = Watch::start(&["--pid", &pid]);
    program.step();
    let found = watch.finding("found");
    assert_eq!(found["cause"], "rotated");
    assert_eq!(found["file"]["path"], format!("{}.1", log.path));
    assert_eq!(found["fds"][1]["file"]["path"], log.path.as_str());
    program.step();
    watch.finding("gone");
}

#[test]
fn one_that_came_and_went_is_told() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let log = Log::new();
    let mut program = Program::start(
        "a = open(sys.argv[1], 'a'); step()
b = os.open(sys.argv[1], os.O_RDONLY); os.close(b); step()",
        &[&log.path],
    );
    let pid = program.pid().to_string();
    let mut watch = Watch::start(&["--pid", &pid]);
    program.step();
    let gone = watch.wait("what came and went", |line| line["change"] == "gone");
    assert_eq!(numbers(&gone["fds"]), on_file(program.pid(), log.path()));
    assert_eq!(accesses(&gone["closed"]), ["r"]);
    assert!(gone["lifetime"].as_f64().unwrap() < 5.0);
}

#[test]
fn a_deleted_file_is_a_warning_even_to_readers() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let log = Log::new();
    let mut program = Program::start(
        "a = os.open(sys.argv[1], os.O_RDONLY); os.unlink(sys.argv[1]); step()
b = os.dup(a); step()",
        &[&log.path],
    );
    let mut watch = Watch::start(&["--path", &log.pattern()]);
    program.step();
    let found = watch.finding("found");
    assert_eq!(found["severity"], "warning");
    assert_eq!(found["file"]["deleted"], true);
    assert_eq!(found["file"]["path"], log.path.as_str());
}

#[test]
fn a_number_that_dup2_takes_away_is_closed() {
    if !can_run(&[PYTHON]) {
        return;
    }
    let log = Log::new();
    let mut program = Program::start(
        "a = os.open(sys.argv[1], os.O_WRONLY); b = os.open(sys.argv[1], os.O_RDONLY); step()
n = os.open('/dev/null', os.O_RDONLY); os.dup2(n, b); step()",
        &[&log.path],
    );
    let pid = program.pid().to_string();
    let mut watch = Watch::start(&["--pid", &pid]);
    assert_eq!(watch.finding("found")["fds"][0]["origin"], "unknown");
    program.step();
    let gone = watch.finding("gone");
    assert_eq!(numbers(&gone["fds"]), on_file(program.pid(), log.path()));
}
