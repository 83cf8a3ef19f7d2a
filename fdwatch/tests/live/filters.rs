//! Filters select findings, and the exit code of `scan` depends on them.

use std::path::PathBuf;

use fdwatch_test_support::{Finished, Puppet, Watch, bpf, fdwatch, procfs, run};
use tempfile::TempDir;

/// A process and a directory for its files.
struct Holder {
    puppet: Puppet,
    directory: TempDir,
}

impl Holder {
    fn new() -> Self {
        Self {
            puppet: Puppet::start(),
            directory: tempfile::tempdir().expect("cannot create a directory"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Opens a file for writing, and again for reading until it has `count` descriptors.
    fn open(&mut self, name: &str, count: u32) {
        let path = self.path(name);
        self.puppet.open(&path, "WRONLY|CREAT");
        for _ in 1..count {
            self.puppet.open(&path, "RDONLY");
        }
    }

    /// Duplicates a descriptor, which is an info finding.
    fn copy(&mut self, name: &str) {
        let path = self.path(name);
        let fd = self.puppet.open(&path, "WRONLY|CREAT");
        self.puppet.number(&format!("libc.dup({fd})"));
    }

    /// Runs `scan` on this process.
    fn scan(&self, arguments: &[&str]) -> Vec<String> {
        let pid = self.puppet.pid().to_string();
        let finished = scan(&[&["--pid", &pid], arguments].concat());
        self.names(&finished)
    }

    /// Returns the names of the reported files in order, and asserts the exit code.
    fn names(&self, finished: &Finished) -> Vec<String> {
        let findings = finished.json();
        let code = i32::from(!findings.is_empty());
        assert_eq!(finished.code, Some(code), "{}", finished.stderr);
        let prefix = format!("{}/", self.directory.path().display());
        let names = findings.iter().map(|finding| {
            assert_eq!(finding["type"], "finding");
            assert_eq!(finding["change"], "found");
            assert_eq!(finding["process"]["pid"], self.puppet.pid());
            let path = finding["file"]["path"].as_str().expect("no path");
            path.strip_prefix(&prefix).unwrap_or(path).to_owned()
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }
}

fn scan(arguments: &[&str]) -> Finished {
    run(fdwatch([&["scan", "--json"], arguments].concat()))
}

#[test]
fn scan_exit_code_shows_duplicates() {
    if !bpf() {
        return;
    }
    let mut holder = Holder::new();
    let pid = holder.puppet.pid().to_string();
    let scan = |arguments: &[&str]| run(fdwatch([&["scan"], arguments].concat()));
    let nothing = scan(&["--pid", &pid]);
    assert_eq!(nothing.code, Some(0), "{}", nothing.stderr);
    assert!(nothing.output.is_empty());
    holder.open("x", 2);
    let found = scan(&["--pid", &pid]);
    assert_eq!(found.code, Some(1), "{}", found.stderr);
    assert!(found.stdout().contains("FOUND"));
    holder.puppet.kill();
    assert!(scan(&["--pid", &pid]).error().contains("no such process"));
}

#[test]
fn default_filter_is_regular_files_and_warnings() {
    if !bpf() {
        return;
    }
    let mut holder = Holder::new();
    holder.open("warning", 2);
    holder.copy("info");
    holder.puppet.open("/dev/zero".as_ref(), "RDWR");
    holder.puppet.open("/dev/zero".as_ref(), "RDONLY");
    assert_eq!(holder.scan(&[]), ["warning"]);
    assert_eq!(holder.scan(&["--severity", "info"]), ["info", "warning"]);
    let all = holder.scan(&["--all"]);
    for name in ["/dev/zero", "info", "warning"] {
        assert!(
            all.iter().any(|reported| reported == name),
            "{name}: {all:?}"
        );
    }
    let all = holder.scan(&["--all", "--severity", "warning"]);
    assert_eq!(all, ["warning"]);
    assert_eq!(holder.scan(&["--severity", "critical"]), [""; 0]);
}

#[test]
fn nearly_reached_fd_limit_is_critical() {
    if !bpf() {
        return;
    }
    let mut holder = Holder::new();
    holder
        .puppet
        .exec("resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))");
    holder.open("x", 42);
    holder.open("y", 2);
    assert_eq!(holder.scan(&["--severity", "critical"]), ["x"]);
    assert_eq!(holder.scan(&["--severity", "warning"]), ["x", "y"]);
}

#[test]
fn options_select_by_name_path_and_count() {
    if !bpf() {
        return;
    }
    let mut holder = Holder::new();
    let mut other = Holder::new();
    // Unique among concurrent test runs.
    let id = std::process::id();
    let (one, two) = (format!("fd-{id}-1"), format!("fd-{id}-2"));
    for (puppet, name) in [(&mut holder.puppet, &one), (&mut other.puppet, &two)] {
        puppet.exec(&format!("open('/proc/self/comm', 'w').write('{name}')"));
    }
    holder.open("a.log", 2);
    holder.open("b.log", 3);
    holder.open("c.txt", 4);
    other.open("a.log", 2);

    let directory = holder.directory.path().display();
    let logs = format!("{directory}/*.log");
    assert_eq!(holder.scan(&[]), ["a.log", "b.log", "c.txt"]);
    assert_eq!(holder.scan(&["--min-fds", "3"]), ["b.log", "c.txt"]);
    assert_eq!(holder.scan(&["--path", &logs]), ["a.log", "b.log"]);
    assert_eq!(holder.scan(&["--path", "*/?.txt"]), ["c.txt"]);
    let both = ["--path", "*/a.log", "--path", "*.txt"];
    assert_eq!(holder.scan(&both), ["a.log", "c.txt"]);
    assert_eq!(holder.scan(&["--comm", &format!("fd-{id}-*")]).len(), 3);
    assert_eq!(holder.scan(&["--comm", &two]), [""; 0]);
    let narrow = ["--path", &logs, "--min-fds", "3", "--comm", &one];
    assert_eq!(holder.scan(&narrow), ["b.log"]);

    // Not limited to one process.
    let finished = scan(&["--comm", &two]);
    assert_eq!(other.names(&finished), ["a.log"]);
    let findings = scan(&["--comm", &format!("fd-{id}-{{1,2}}"), "--path", "*/a.log"]).json();
    let pids = findings
        .iter()
        .map(|reported| procfs::number(&reported["process"]["pid"]));
    let mut pids: Vec<_> = pids.collect();
    pids.sort_unstable();
    let mut expected = [holder.puppet.pid(), other.puppet.pid()];
    expected.sort_unstable();
    assert_eq!(pids, expected);
}

#[test]
fn watch_reports_selected_findings() {
    if !bpf() {
        return;
    }
    let mut holder = Holder::new();
    let glob = format!("{}/*.log", holder.directory.path().display());
    let mut watch = Watch::of(
        holder.puppet.pid(),
        &["--path", &glob, "--min-fds", "3", "--comm", "python*"],
    );
    holder.open("x.txt", 3);
    holder.open("two.log", 2);
    holder.open("three.log", 3);
    let found = watch.finding("found");
    let path = holder.path("three.log");
    assert_eq!(found["file"]["path"], path.to_str().unwrap());
    procfs::assert_agrees(&found, &path);
    // A finding that starts to match is reported as found.
    holder.puppet.open(&holder.path("two.log"), "RDONLY");
    let found = watch.finding("found");
    procfs::assert_agrees(&found, &holder.path("two.log"));
    watch.end().assert_counts(2, 0, 0);
}

#[test]
fn watch_reports_each_selected_process() {
    if !bpf() {
        return;
    }
    let mut holders = [Holder::new(), Holder::new()];
    let mut unwatched = Holder::new();
    let pids = holders.each_ref().map(|it| it.puppet.pid().to_string());
    let mut watch = Watch::start(&["--pid", &pids[0], "--pid", &pids[1]]);
    unwatched.open("x", 2);
    for holder in &mut holders {
        holder.open("x", 2);
        procfs::assert_agrees(&watch.finding("found"), &holder.path("x"));
    }
    watch.end().assert_counts(2, 0, 0);
}
