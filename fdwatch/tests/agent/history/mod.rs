//! The agent's history, and `fdwatch history`, which shows it.

mod faults;

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use fdwatch_agent::{
    config,
    history::{
        History, HourlyCounts, State,
        read::{Occurrence, Reader},
    },
    sink::{Sink, SinkStats},
};
use fdwatch_core::{
    diagnose::{Cause, FileInfo, Finding, ProcessInfo, Severity},
    duplicates::Change,
    model::{FileType, Moment},
};
use fdwatch_events::{
    ProcessRow,
    event::{Event, EventKind, Key},
    time::Clock,
};
use fdwatch_host::proc;
use fdwatch_render::{Format, Reporter};
use fdwatch_test_support::{eventually, fdwatch, root, run};
use tempfile::TempDir;

const HOUR: u64 = 3_600_000_000_000;

/// Builds a finding of a process named `comm` on `path`.
fn finding_event(number: u64, key: u128, change: Change, comm: &[u8], path: &[u8]) -> Event {
    let process = ProcessInfo {
        pid: 4242,
        comm: comm.to_vec(),
        ..ProcessInfo::default()
    };
    let file = FileInfo::new(Some(path.to_vec()), 8 << 20 | 1, 99, FileType::Regular);
    let (cause, severity) = (Cause::Reopened, Severity::Warning);
    let finding = Finding {
        advice: "none",
        ..Finding::new(number, change, process, file, cause, severity)
    };
    let (at, wall_time) = (Moment(proc::boottime()), proc::wall_time());
    let clock = Clock::new(wall_time, at.0);
    let mut reporter = Reporter::new(
        Vec::new(),
        Format::Json,
        fdwatch_events::wire::Wire::new("host".to_owned(), clock),
    );
    let shown = reporter.report(&finding, at);
    shown.expect("cannot write to memory");
    let json = String::from_utf8(reporter.into_output()).expect("not UTF-8");
    Event {
        number,
        at,
        wall_time,
        json: json.trim_end().to_owned(),
        kind: EventKind::Finding(Box::new(finding)),
        key: Some(Key(key)),
    }
}

/// A history writer in the background.
struct Writing {
    history: History,
    outlet: Sink,
    file: PathBuf,
    number: u64,
}

impl Writing {
    fn to(file: PathBuf) -> Self {
        Self::with(config::History {
            file,
            ..config::History::default()
        })
    }

    fn with(config: config::History) -> Self {
        let file = config.file.clone();
        let counts = Arc::new(SinkStats::default());
        let (outlet, receiver) = Sink::new("history", 100_000, Arc::clone(&counts));
        let history = History::start(config, receiver, counts);
        Self {
            history,
            outlet,
            file,
            number: 0,
        }
    }

    fn offer(&mut self, key: u128, change: Change, comm: &[u8], path: &[u8]) {
        self.number += 1;
        let event = finding_event(self.number, key, change, comm, path);
        self.outlet.offer(&Arc::new(event));
    }

    /// Offers a finding under a new key.
    fn find(&mut self) {
        let key = u128::from(self.number) + 1;
        self.offer(key, Change::Found, b"cat", format!("/{key}").as_bytes());
    }

    fn delivered(&self) -> u64 {
        self.outlet.counts.now()[2]
    }

    fn is_failing(&self, word: &str) {
        eventually(word, || match self.history.state() {
            State::Failing { reason, .. } => {
                assert!(reason.contains(word), "{reason}");
                Some(())
            }
            State::Working => None,
        });
    }

    /// Waits until all offered events are written.
    fn is_working(&self) {
        eventually("all rows to be written", || {
            let [taken, dropped, delivered, failed] = self.outlet.counts.now();
            assert_eq!((dropped, failed), (0, 0));
            (taken == delivered && self.history.state() == State::Working).then_some(())
        });
    }

    /// Asserts that each offered event is stored once.
    fn has_all(&self) {
        let mut keys: Vec<_> = all(&self.file).iter().map(|it| it.key.0).collect();
        keys.sort_unstable();
        let expected: Vec<_> = (1..=u128::from(self.number)).collect();
        assert_eq!(keys, expected);
    }
}

fn all(file: &Path) -> Vec<Occurrence> {
    let reader = Reader::open(file).expect("cannot read the history");
    let mut found: Vec<Occurrence> = Vec::new();
    loop {
        let after = found.last().map(|last| (last.since, last.id));
        let page = reader.occurrences(0, after, false);
        let page = page.expect("cannot read the history");
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let file = directory.path().join("fdwatch/history.db");
    (directory, file)
}

fn history<const N: usize>(file: &Path, arguments: [&str; N]) -> Command {
    let mut command = fdwatch(["history", "--database"]);
    command.arg(file).args(arguments);
    command
}

#[test]
fn history_is_shown_during_and_after_writing() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    writing.offer(1, Change::Found, b"nginx", b"/var/log/a.log");
    writing.offer(2, Change::Found, b"\x1b[31mx\n", b"/tmp/\xff\nb");
    writing.offer(1, Change::Gone, b"nginx", b"/var/log/a.log");
    writing.is_working();
    let check = || {
        let text = run(history(&file, [])).stdout();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("warning") && lines[0].contains("reopened"));
        assert!(lines[0].contains("nginx[4242]") && lines[0].ends_with("  /var/log/a.log"));
        assert!(lines[0].contains("lived "), "{text}");
        assert!(lines[1].contains("exists for "), "{text}");
        assert!(lines[1].contains("\\x1b[31mx\\n[4242]"), "{text}");
        assert!(lines[1].ends_with("  /tmp/\\xff\\nb"), "{text}");
        // Paths are printed below each other.
        assert_eq!(lines[0].find("/var"), lines[1].find("/tmp"), "{text}");
        let json = run(history(&file, ["--json"])).json();
        assert_eq!(json.len(), 2);
        assert_eq!(
            (&json[0]["schema"], &json[0]["type"]),
            (&1.into(), &"history".into())
        );
        assert_eq!(json[0]["finding"]["id"], 3);
        assert!(json[0]["ended"].is_string() && json[0]["end_seen"] == true);
        assert!(json[1]["ended"].is_null());
        assert_eq!(json[1]["file"]["path_bytes"], "2f746d702fff0a62");
        assert_eq!(json[1]["file"]["dev"], "8:1");
    };
    check();
    writing.history.stop();
    check();
    // As on a read-only copy.
    let copy = file.with_file_name("copy %?#.db");
    fs::copy(&file, &copy).expect("cannot copy a file");
    assert_eq!(all(&copy).len(), 2);
}

#[test]
fn filters_select_history_rows() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    for key in 1..=700 {
        let comm = if key % 2 == 0 { "even" } else { "odd" };
        let path = format!("/d{}/{key}", key % 10);
        writing.offer(key, Change::Found, comm.as_bytes(), path.as_bytes());
    }
    writing.history.stop();
    let shown = |arguments: &[&str]| -> Vec<String> {
        let mut command = history(&file, ["--json"]);
        command.args(arguments);
        let lines = run(command).json();
        let paths = lines.iter().map(|line| line["file"]["path"].as_str());
        paths
            .map(|path| path.expect("no path").to_owned())
            .collect()
    };
    let everything = shown(&[]);
    assert_eq!(everything.len(), 700);
    assert_eq!(everything[699], "/d0/700");
    assert_eq!(shown(&["--limit", "3"]), everything[697..]);
    assert_eq!(shown(&["--limit", "500"]), everything[200..]);
    assert_eq!(shown(&["--limit", "0"]).len(), 0);
    assert_eq!(shown(&["--path", "/d7/*"]).len(), 70);
    assert_eq!(
        shown(&["--comm", "od?", "--limit", "2"]),
        ["/d7/697", "/d9/699"]
    );
    assert_eq!(shown(&["--pid", "4242", "--since", "7d"]).len(), 700);
    assert_eq!(shown(&["--pid", "1"]).len(), 0);
    assert_eq!(shown(&["--severity", "critical"]).len(), 0);
    let nothing = run(history(&file, ["--pid", "1"]));
    assert_eq!(nothing.code, Some(0));
    assert!(
        nothing.stderr.contains("no matching entries"),
        "{}",
        nothing.stderr
    );
}

#[test]
fn descriptor_counts_are_shown_by_hour() {
    let (_directory, file) = place();
    let writing = Writing::to(file.clone());
    let hour = proc::wall_time() / HOUR * HOUR;
    writing.history.hourly(HourlyCounts {
        wall_time: hour + HOUR / 2,
        rows: vec![ProcessRow {
            pid: 7,
            comm: b"a\nb".to_vec(),
            unit: Some("x.service".to_owned()),
            descriptors: 12,
            curve: vec![4, 40],
            ..ProcessRow::default()
        }],
        more_processes: 2,
        more_descriptors: 9,
    });
    writing.history.stop();
    let text = run(history(&file, ["--processes"])).stdout();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].contains("2 others"), "{text}");
    assert!(
        lines[1].contains("a\\nb[7]") && lines[1].ends_with("x.service"),
        "{text}"
    );
    let json = run(history(&file, ["--processes", "--json", "--comm", "a*"])).json();
    assert_eq!(json.len(), 1);
    let counts = ["fewest", "most", "last"].map(|name| json[0][name].as_u64());
    assert_eq!(counts, [4, 40, 12].map(Some));
    let shown: jiff::Timestamp = json[0]["hour"]
        .as_str()
        .and_then(|time| time.parse().ok())
        .expect("no time");
    assert_eq!(u128::try_from(shown.as_nanosecond()), Ok(hour.into()));
}

#[test]
fn unreadable_history_is_an_error() {
    let (directory, file) = place();
    let missing = run(history(&file, []));
    assert!(missing.error().contains("no history at"));
    let garbage = directory.path().join("garbage");
    fs::write(&garbage, [b'g'; 5000]).expect("cannot write a file");
    assert!(run(history(&garbage, [])).error().contains("is damaged"));
    let empty = directory.path().join("empty");
    fs::write(&empty, "").expect("cannot write a file");
    assert!(
        run(history(&empty, []))
            .error()
            .contains("database is empty")
    );
    if !root() {
        return;
    }
    Writing::to(file.clone()).history.stop();
    // Another user may enter the directory but not read the file.
    let open = |path: &Path, mode: &str| {
        let status = Command::new("chmod").arg(mode).arg(path).status();
        assert!(status.is_ok_and(|status| status.success()));
    };
    let copy = directory.path().join("fdwatch-binary");
    fs::copy(env!("CARGO_BIN_EXE_fdwatch"), &copy).expect("cannot copy a file");
    open(&copy, "755");
    for directory in [
        directory.path(),
        file.parent().expect("no parent directory"),
    ] {
        open(directory, "755");
    }
    let mut command = Command::new(&copy);
    command
        .args(["history", "--database"])
        .arg(&file)
        .uid(65534)
        .gid(65534);
    assert!(
        run(command)
            .error()
            .contains("permission denied; only the user of the agent")
    );
}

#[test]
fn last_event_is_written_without_another() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    writing.find();
    writing.is_working();
    // The kernel has the rows: a kill now loses nothing.
    writing.has_all();
    for _ in 0..100 {
        writing.find();
    }
    writing.history.stop();
    assert_eq!(all(&file).len(), 101);
}
