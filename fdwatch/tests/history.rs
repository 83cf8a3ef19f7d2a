//! The agent's history: what is kept whatever happens around it, and `fdwatch history`, which shows it.

mod common;

use std::{
    collections::BTreeMap,
    env,
    ffi::CString,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use common::{Guard, eventually, fdwatch, run};
use fdwatch::{
    agent::{
        config,
        event::{Event, Key, Told},
        history::{
            History, HourlyCounts, State,
            read::{Occurrence, Reader},
        },
        outlet::{Counts, Outlet},
        view::ProcessRow,
    },
    diagnose::{Cause, FileInfo, Finding, ProcessInfo, Severity},
    duplicates::Change,
    model::{FileType, Moment},
    proc,
};
use tempfile::TempDir;

const HOUR: u64 = 3_600_000_000_000;

/// A finding of a process named `comm` on `path`.
fn told(number: u64, key: u128, change: Change, comm: &[u8], path: &[u8]) -> Event {
    let finding = Finding {
        id: number,
        change,
        process: ProcessInfo {
            pid: 4242,
            comm: comm.to_vec(),
            ..ProcessInfo::default()
        },
        file: FileInfo {
            path: Some(path.to_vec()),
            dev: 8 << 20 | 1,
            ino: 99,
            file_type: FileType::Regular,
            deleted: false,
            pinned: None,
            process_path: None,
            host_path: None,
        },
        fds: Vec::new(),
        closed: Vec::new(),
        more_closed: 0,
        lifetime: None,
        times: 1,
        cause: Cause::Reopened,
        severity: Severity::Warning,
        advice: "none",
        others: Vec::new(),
        closed_again: None,
        shared_by: Vec::new(),
    };
    Event {
        number,
        at: Moment(proc::boottime()),
        wall_time: proc::wall_time(),
        json: format!("{{\"schema\":1,\"type\":\"finding\",\"id\":{number}}}"),
        told: Told::Finding(Box::new(finding)),
        key: Some(Key(key)),
    }
}

/// A history that is written.
struct Writing {
    history: History,
    outlet: Outlet,
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
        let counts = Arc::new(Counts::default());
        let (outlet, receiver) = Outlet::new("history", 100_000, Arc::clone(&counts));
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
        let event = told(self.number, key, change, comm, path);
        self.outlet.offer(&Arc::new(event));
    }

    /// Something that is found under a key that was not there.
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

    /// Waits until all that was offered was written.
    fn is_working(&self) {
        eventually("all is written", || {
            let [taken, dropped, delivered, failed] = self.outlet.counts.now();
            assert_eq!((dropped, failed), (0, 0));
            (taken == delivered && self.history.state() == State::Working).then_some(())
        });
    }

    /// Holds that what was offered is there, each once.
    fn has_all(&self) {
        let mut keys: Vec<_> = all(&self.file).iter().map(|it| it.key.0).collect();
        keys.sort_unstable();
        let expected: Vec<_> = (1..=u128::from(self.number)).collect();
        assert_eq!(keys, expected);
    }
}

fn all(file: &Path) -> Vec<Occurrence> {
    let reader = Reader::open(file).expect("the history can be read");
    let mut found: Vec<Occurrence> = Vec::new();
    loop {
        let after = found.last().map(|last| (last.since, last.id));
        let page = reader.occurrences(0, after, false);
        let page = page.expect("the history can be read");
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("fdwatch/history.db");
    (directory, file)
}

fn history<const N: usize>(file: &Path, arguments: [&str; N]) -> Command {
    let mut command = fdwatch(["history", "--database"]);
    command.arg(file).args(arguments);
    command
}

#[test]
fn what_came_and_went_is_shown_while_it_is_written_and_after() {
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
        assert!(lines[1].contains("there for "), "{text}");
        assert!(lines[1].contains("\\x1b[31mx\\n[4242]"), "{text}");
        assert!(lines[1].ends_with("  /tmp/\\xff\\nb"), "{text}");
        // Paths stand below each other.
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
    // As in a copy where nothing can be written.
    let copy = file.with_file_name("copy %?#.db");
    fs::copy(&file, &copy).expect("it can be copied");
    assert_eq!(all(&copy).len(), 2);
}

#[test]
fn what_is_not_wanted_is_left_out() {
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
        paths.map(|path| path.expect("a path").to_owned()).collect()
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
    assert!(nothing.stderr.contains("nothing"), "{}", nothing.stderr);
}

#[test]
fn descriptors_of_processes_are_shown_hour_by_hour() {
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
        .expect("a time");
    assert_eq!(u128::try_from(shown.as_nanosecond()), Ok(hour.into()));
}

#[test]
fn what_cannot_be_read_is_said() {
    let (directory, file) = place();
    let missing = run(history(&file, []));
    assert!(missing.error().contains("there is no history at"));
    let garbage = directory.path().join("garbage");
    fs::write(&garbage, [b'g'; 5000]).expect("a file can be written");
    assert!(run(history(&garbage, [])).error().contains("is damaged"));
    let empty = directory.path().join("empty");
    fs::write(&empty, "").expect("a file can be written");
    assert!(run(history(&empty, [])).error().contains("nothing in it"));
    if !common::root() {
        return;
    }
    Writing::to(file.clone()).history.stop();
    // Where another user may look, the file itself is closed to him.
    let open = |path: &Path, mode: &str| {
        let status = Command::new("chmod").arg(mode).arg(path).status();
        assert!(status.is_ok_and(|status| status.success()));
    };
    let copy = directory.path().join("fdwatch-binary");
    fs::copy(env!("CARGO_BIN_EXE_fdwatch"), &copy).expect("it can be copied");
    open(&copy, "755");
    for directory in [
        directory.path(),
        file.parent().expect("it is in a directory"),
    ] {
        open(directory, "755");
    }
    let mut command = Command::new(&copy);
    command
        .args(["history", "--database"])
        .arg(&file)
        .uid(65534)
        .gid(65534);
    assert!(run(command).error().contains("may not be read"));
}

/// Gives this thread, and those it starts, mounts of their own: they end with the process at the latest.
fn own_mounts() {
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    mount(
        "none",
        Path::new("/"),
        "",
        libc::MS_REC | libc::MS_PRIVATE,
        "",
    );
}

fn mount(from: &str, to: &Path, kind: &str, flags: libc::c_ulong, options: &str) {
    let text = |bytes: &[u8]| CString::new(bytes).expect("there is no NUL in it");
    let (from, to) = (text(from.as_bytes()), text(to.as_os_str().as_bytes()));
    let (kind, options) = (text(kind.as_bytes()), text(options.as_bytes()));
    // SAFETY: all are strings that end, and live until the call returns.
    let result = unsafe {
        libc::mount(
            from.as_ptr(),
            to.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Takes all the space that there is in a directory, as `filler` in it.
fn fill(directory: &Path) -> PathBuf {
    let filler = directory.join("filler");
    let mut full = File::create(&filler).expect("a file can be made");
    while full.write_all(&[0; 4096]).is_ok() {}
    filler
}

#[test]
fn a_full_disk_is_waited_for() {
    if !common::root() {
        return;
    }
    own_mounts();
    for is_full_at_the_start in [false, true] {
        let (directory, file) = place();
        mount("tmpfs", directory.path(), "tmpfs", 0, "size=2m");
        let (mut writing, filler);
        if is_full_at_the_start {
            fs::create_dir(directory.path().join("fdwatch")).expect("a directory can be made");
            filler = fill(directory.path());
            writing = Writing::to(file);
        } else {
            writing = Writing::to(file);
            writing.find();
            writing.is_working();
            filler = fill(directory.path());
        }
        for _ in 0..500 {
            writing.find();
        }
        writing.is_failing("make space");
        fs::remove_file(&filler).expect("a file can be removed");
        writing.is_working();
        writing.has_all();
    }
}

#[test]
fn a_reader_that_does_not_end_is_waited_for_and_the_size_kept() {
    let (_directory, file) = place();
    let most_bytes = 1 << 20;
    let mut writing = Writing::with(config::History {
        file: file.clone(),
        most_bytes,
        ..config::History::default()
    });
    writing.find();
    writing.is_working();
    let other = rusqlite::Connection::open(&file).expect("it can be opened");
    let rows = |sql| other.query_row(sql, [], |row| row.get::<_, i64>(0));
    other.execute_batch("BEGIN").expect("it can be begun");
    assert_eq!(rows("SELECT count(*) FROM occurrence"), Ok(1));
    for _ in 0..10_000 {
        writing.find();
    }
    writing.is_failing("someone reads");
    let size = |suffix: &str| {
        let mut name = file.clone().into_os_string();
        name.push(suffix);
        fs::metadata(name).map_or(0, |it| it.len())
    };
    let most = most_bytes + most_bytes / 8;
    assert!(
        size("") + size("-wal") <= most,
        "{} {}",
        size(""),
        size("-wal")
    );
    other.execute_batch("COMMIT").expect("it can be ended");
    writing.is_working();
    assert!(size("") + size("-wal") <= most_bytes);
    assert_eq!(all(&file).last().map(|it| it.key.0), Some(10_001));
}

#[test]
fn a_read_only_file_system_is_waited_for() {
    if !common::root() {
        return;
    }
    own_mounts();
    let (directory, file) = place();
    mount("tmpfs", directory.path(), "tmpfs", 0, "size=4m");
    let remount = |flags| {
        mount(
            "none",
            directory.path(),
            "",
            libc::MS_REMOUNT | libc::MS_BIND | flags,
            "",
        );
    };
    remount(libc::MS_RDONLY);
    let mut writing = Writing::to(file);
    writing.find();
    writing.is_failing("Read-only");
    remount(0);
    writing.is_working();
    writing.has_all();
    // What is there can be read where nothing can be written.
    let file = writing.file.clone();
    writing.history.stop();
    remount(libc::MS_RDONLY);
    assert_eq!(all(&file).len(), 1);
}

#[test]
fn a_directory_that_is_removed_is_made_again() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    writing.find();
    writing.is_working();
    fs::remove_dir_all(file.parent().expect("it is in a directory")).expect("it can be removed");
    writing.offer(2, Change::Found, b"cat", b"/2");
    writing.is_working();
    let keys: Vec<_> = all(&file).iter().map(|it| it.key).collect();
    assert_eq!(keys, [Key(2)]);
}

#[test]
fn a_database_that_is_locked_is_waited_for() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    writing.find();
    writing.is_working();
    let other = rusqlite::Connection::open(&file).expect("it can be opened");
    other
        .execute_batch("BEGIN IMMEDIATE")
        .expect("it can be locked");
    writing.find();
    writing.is_failing("locked");
    other.execute_batch("COMMIT").expect("it can be unlocked");
    writing.is_working();
    writing.has_all();
}

fn aside(file: &Path) -> usize {
    let directory = file.parent().expect("it is in a directory");
    let entries = fs::read_dir(directory).expect("a directory can be read");
    let names = entries.map(|entry| entry.expect("it can be read").file_name());
    names
        .filter(|name| {
            let name = name.to_string_lossy();
            name.contains(".corrupt-") && !name.ends_with("-wal")
        })
        .count()
}

#[test]
fn a_damaged_database_is_put_aside() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    writing.find();
    writing.history.stop();
    fs::write(&file, [b'g'; 50_000]).expect("it can be overwritten");
    let mut writing = Writing::to(file.clone());
    writing.find();
    writing.is_working();
    writing.has_all();
    assert_eq!(aside(&file), 1);
}

#[test]
fn a_database_that_is_damaged_while_it_is_open_does_no_lasting_harm() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    // Beyond what the writer has in memory.
    for _ in 0..5000 {
        writing.find();
    }
    writing.is_working();
    fs::write(&file, vec![b'g'; 2 << 20]).expect("it can be overwritten");
    // It goes on, whatever of the file is still of use, until what is bad is met and put aside.
    eventually("a sound database with what is told now", || {
        let before = writing.delivered();
        for _ in 0..50 {
            writing.find();
        }
        eventually("it is written", || {
            (writing.delivered() > before).then_some(())
        });
        let last = u128::from(writing.number);
        let reader = Reader::open(&file).ok()?;
        let newest = reader.occurrences(0, None, true).ok()?;
        (aside(&file) == 1 && newest.iter().any(|it| it.key.0 == last)).then_some(())
    });
    writing.history.stop();
    let checked: String = rusqlite::Connection::open(&file)
        .and_then(|it| it.query_row("PRAGMA integrity_check", [], |row| row.get(0)))
        .expect("it can be checked");
    assert_eq!(checked, "ok");
}

const CHILD: &str = "FDWATCH_TEST_HISTORY";

/// Not a test by itself: the process that is killed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(file) = env::var_os(CHILD) else {
        return;
    };
    let mut writing = Writing::to(file.into());
    let round: u128 = env::var("ROUND").map_or(0, |it| it.parse().expect("a number"));
    for number in 1_u128.. {
        let key = round << 64 | number;
        writing.offer(key, Change::Found, b"cat", b"/x");
        if number % 3 == 0 {
            writing.offer(key, Change::Gone, b"cat", b"/x");
        }
        // More than the harness's own output.
        println!("\nwritten {}", writing.delivered());
        thread::sleep(Duration::from_micros(500));
    }
}

/// The numbers of events that a key's found and gone have, in the order of telling.
fn expected(delivered: u64) -> (u64, u64) {
    // Three are found and one goes, again and again: found 1, 2, 3, gone 3.
    let (whole, rest) = (delivered / 4, delivered % 4);
    (whole * 3 + rest.min(3), whole)
}

#[test]
fn what_was_written_outlives_a_kill_and_is_there_once() {
    const ROUNDS: u64 = 15;
    let (_directory, file) = place();
    let mut written = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut command = Command::new(env::current_exe().expect("this is a program"));
        command
            .args([
                "--exact",
                "child_that_writes_until_it_is_killed",
                "--nocapture",
            ])
            .env(CHILD, &file)
            .env("ROUND", round.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = Guard::spawn(&mut command);
        let lines = BufReader::new(child.0.stdout.take().expect("it was asked for")).lines();
        let numbers = lines.map_while(Result::ok);
        let mut numbers = numbers.filter_map(|line| line.strip_prefix("written ")?.parse().ok());
        // At moments as different as can be: in the middle of collecting, writing, bringing the log home.
        let first: u64 = numbers.by_ref().find(|&it| it > 0).expect("it writes");
        thread::sleep(Duration::from_micros(
            round * 31_000 % 400_000 + round * 777,
        ));
        child.kill();
        let last = numbers.last().unwrap_or(first);
        written.insert(u128::from(round), last);
    }
    let mut found: BTreeMap<u128, Vec<_>> = BTreeMap::new();
    for it in all(&file) {
        found
            .entry(it.key.0 >> 64)
            .or_default()
            .push((it.key.0, it.ended.is_some()));
    }
    for (round, delivered) in written {
        let mut rows = found.remove(&round).unwrap_or_default();
        let count = rows.len() as u64;
        let ended = rows.iter().filter(|&&(_, ended)| ended).count() as u64;
        let (least, least_ended) = expected(delivered);
        assert!(count >= least, "{count} of {least} are there");
        assert!(ended >= least_ended, "{ended} of {least_ended} ended");
        rows.dedup();
        assert_eq!(rows.len() as u64, count, "some are there twice");
        // What is there is a beginning of what was told: nothing is missing in between.
        rows.sort_unstable();
        let numbers: Vec<_> = rows
            .iter()
            .map(|&(key, _)| key & u128::from(u64::MAX))
            .collect();
        let consecutive: Vec<_> = (1..=u128::from(count)).collect();
        assert_eq!(numbers, consecutive);
    }
    let checked: String = rusqlite::Connection::open(&file)
        .and_then(|it| it.query_row("PRAGMA integrity_check", [], |row| row.get(0)))
        .expect("it can be checked");
    assert_eq!(checked, "ok");
}

#[test]
fn what_is_told_is_written_without_anything_more_being_told() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    writing.find();
    writing.is_working();
    // It is with the kernel, not in this process: a kill now costs nothing.
    writing.has_all();
    for _ in 0..100 {
        writing.find();
    }
    writing.history.stop();
    assert_eq!(all(&file).len(), 101);
}
