//! The history when file systems are full or read-only, when the database is damaged, locked or removed, and
//! when the writer is killed.

use std::{
    collections::BTreeMap,
    env,
    ffi::CString,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use fdwatch_agent::{config, history::read::Reader};
use fdwatch_core::duplicates::Change;
use fdwatch_events::event::Key;
use fdwatch_test_support::{Guard, eventually, root};

use super::{Writing, all, place};

/// Gives this thread, and threads it starts, a private mount namespace.
fn own_mounts() {
    // SAFETY: unshare takes numbers only.
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
    let text = |bytes: &[u8]| CString::new(bytes).expect("NUL in a string");
    let (from, to) = (text(from.as_bytes()), text(to.as_os_str().as_bytes()));
    let (kind, options) = (text(kind.as_bytes()), text(options.as_bytes()));
    // SAFETY: all strings are NUL-terminated and live until the call returns.
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

/// Fills the file system of a directory with the file `filler`.
fn fill(directory: &Path) -> PathBuf {
    let filler = directory.join("filler");
    let mut full = File::create(&filler).expect("cannot create a file");
    while full.write_all(&[0; 4096]).is_ok() {}
    filler
}

#[test]
fn full_disk_delays_history() {
    if !root() {
        return;
    }
    own_mounts();
    for is_full_at_the_start in [false, true] {
        let (directory, file) = place();
        mount("tmpfs", directory.path(), "tmpfs", 0, "size=2m");
        let (mut writing, filler);
        if is_full_at_the_start {
            fs::create_dir(directory.path().join("fdwatch")).expect("cannot create a directory");
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
        writing.is_failing("free space");
        fs::remove_file(&filler).expect("cannot remove a file");
        writing.is_working();
        writing.has_all();
    }
}

#[test]
fn long_reader_delays_but_size_is_kept() {
    let (_directory, file) = place();
    let most_bytes = 1 << 20;
    let mut writing = Writing::with(config::History {
        file: file.clone(),
        most_bytes,
        ..config::History::default()
    });
    writing.find();
    writing.is_working();
    let other = rusqlite::Connection::open(&file).expect("cannot open a file");
    let rows = |sql| other.query_row(sql, [], |row| row.get::<_, i64>(0));
    other.execute_batch("BEGIN").expect("cannot begin");
    assert_eq!(rows("SELECT count(*) FROM occurrence"), Ok(1));
    for _ in 0..10_000 {
        writing.find();
    }
    writing.is_failing("long-running reader");
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
    other.execute_batch("COMMIT").expect("cannot end");
    writing.is_working();
    assert!(size("") + size("-wal") <= most_bytes);
    assert_eq!(all(&file).last().map(|it| it.key.0), Some(10_001));
}

#[test]
fn read_only_file_system_delays_history() {
    if !root() {
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
    // Existing rows can be read although nothing can be written.
    let file = writing.file.clone();
    writing.history.stop();
    remount(libc::MS_RDONLY);
    assert_eq!(all(&file).len(), 1);
}

#[test]
fn removed_directory_is_recreated() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    writing.find();
    writing.is_working();
    fs::remove_dir_all(file.parent().expect("no parent directory")).expect("cannot remove a file");
    writing.offer(2, Change::Found, b"cat", b"/2");
    writing.is_working();
    let keys: Vec<_> = all(&file).iter().map(|it| it.key).collect();
    assert_eq!(keys, [Key(2)]);
}

#[test]
fn locked_database_delays_history() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    writing.find();
    writing.is_working();
    let other = rusqlite::Connection::open(&file).expect("cannot open a file");
    other.execute_batch("BEGIN IMMEDIATE").expect("cannot lock");
    writing.find();
    writing.is_failing("locked");
    other.execute_batch("COMMIT").expect("cannot unlock");
    writing.is_working();
    writing.has_all();
}

fn aside(file: &Path) -> usize {
    let directory = file.parent().expect("no parent directory");
    let entries = fs::read_dir(directory).expect("cannot read a directory");
    let names = entries.map(|entry| entry.expect("cannot read a file").file_name());
    names
        .filter(|name| {
            let name = name.to_string_lossy();
            name.contains(".corrupt-") && !name.ends_with("-wal")
        })
        .count()
}

#[test]
fn damaged_database_is_moved_aside() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    writing.find();
    writing.history.stop();
    fs::write(&file, [b'g'; 50_000]).expect("cannot overwrite a file");
    let mut writing = Writing::to(file.clone());
    writing.find();
    writing.is_working();
    writing.has_all();
    assert_eq!(aside(&file), 1);
}

#[test]
fn database_damaged_while_open_is_replaced() {
    let (_directory, file) = place();
    let mut writing = Writing::to(file.clone());
    // More rows than the writer keeps in memory.
    for _ in 0..5000 {
        writing.find();
    }
    writing.is_working();
    fs::write(&file, vec![b'g'; 2 << 20]).expect("cannot overwrite a file");
    // The writer continues with the usable part of the file until it reads a damaged page.
    eventually("an intact database with new rows", || {
        let before = writing.delivered();
        for _ in 0..50 {
            writing.find();
        }
        eventually("a written event", || {
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
        .expect("cannot check a file");
    assert_eq!(checked, "ok");
}

const CHILD: &str = "FDWATCH_TEST_HISTORY";

/// Runs in the process that the next test kills; does nothing in a normal test run.
#[test]
fn child_writes_until_killed() {
    let Some(file) = env::var_os(CHILD) else {
        return;
    };
    let mut writing = Writing::to(file.into());
    let round: u128 = env::var("ROUND").map_or(0, |it| it.parse().expect("not a number"));
    for number in 1_u128.. {
        let key = round << 64 | number;
        writing.offer(key, Change::Found, b"cat", b"/x");
        if number % 3 == 0 {
            writing.offer(key, Change::Gone, b"cat", b"/x");
        }
        // More than the test harness writes.
        println!("\nwritten {}", writing.delivered());
        thread::sleep(Duration::from_micros(500));
    }
}

/// Returns the numbers of the found and gone events of each key, in order.
fn expected(delivered: u64) -> (u64, u64) {
    // Cycle of events: found 1, 2, 3, gone 3.
    let (whole, rest) = (delivered / 4, delivered % 4);
    (whole * 3 + rest.min(3), whole)
}

#[test]
fn written_events_survive_a_kill_once() {
    const ROUNDS: u64 = 15;
    let (_directory, file) = place();
    let mut written = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut command = Command::new(env::current_exe().expect("no executable path"));
        command
            .args([
                "--exact",
                "history::faults::child_writes_until_killed",
                "--nocapture",
            ])
            .env(CHILD, &file)
            .env("ROUND", round.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = Guard::spawn(&mut command);
        let lines = BufReader::new(child.0.stdout.take().expect("the pipe was requested")).lines();
        let numbers = lines.map_while(Result::ok);
        let mut numbers = numbers.filter_map(|line| line.strip_prefix("written ")?.parse().ok());
        // Kill at different moments: while it collects, writes, checkpoints.
        let first: u64 = numbers.by_ref().find(|&it| it > 0).expect("cannot write");
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
        assert!(count >= least, "{count} rows, at least {least} expected");
        assert!(ended >= least_ended, "{ended} of {least_ended} ended");
        rows.dedup();
        assert_eq!(rows.len() as u64, count, "duplicate rows");
        // The rows are a prefix of the events: none is missing in between.
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
        .expect("cannot check a file");
    assert_eq!(checked, "ok");
}
