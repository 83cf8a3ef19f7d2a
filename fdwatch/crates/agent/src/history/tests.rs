//! Tests of stored rows, limits, migrations and damaged databases.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    History, HourlyCounts, MAX_PROCESSES, Run, Settings, State,
    aging::ALL,
    backlog::Backlog,
    read::{Occurrence, ReadError, Reader},
    record::{MAX_JSON, Record},
    schema::{self, MIGRATIONS},
    store::Store,
    trouble::{self, Kind},
};
use crate::{
    config,
    sink::{Sink, SinkStats},
};
use fdwatch_core::{
    diagnose::{ProcessInfo, Severity},
    duplicates::Change,
    model::Moment,
};
use fdwatch_events::{
    ProcessRow,
    event::{Event, EventKind, Key, Measure, ThresholdReport},
};

const SECOND: u64 = 1_000_000_000;
const BEGAN: u64 = 1_700_000_000 * SECOND;

/// A database in a directory of its own.
struct Place {
    directory: TempDir,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("made/history.db");
        Self { directory, file }
    }

    fn settings(&self, boot: &str, agent: &str) -> Settings {
        Settings {
            config: config::History {
                file: self.file.clone(),
                ..config::History::default()
            },
            run: Run {
                boot: boot.to_owned(),
                booted: BEGAN,
                agent: agent.to_owned(),
            },
            found_again_within: Duration::from_secs(60),
        }
    }

    fn store(&self, boot: &str, agent: &str) -> Store {
        Store::open(&self.settings(boot, agent)).unwrap()
    }

    fn all(&self) -> Vec<Occurrence> {
        all(&self.file)
    }
}

fn all(file: &Path) -> Vec<Occurrence> {
    let reader = Reader::open(file).unwrap();
    let mut found: Vec<Occurrence> = Vec::new();
    loop {
        let after = found.last().map(|last| (last.since, last.id));
        let page = reader.occurrences(0, after, false).unwrap();
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

/// Returns a record of `key`, at `seconds` after the start.
fn record(key: u128, change: Change, number: u64, seconds: u64) -> Record<'static> {
    Record {
        key: Key(key),
        kind: "finding",
        change,
        number,
        wall_time: BEGAN + seconds * SECOND,
        booted: BEGAN,
        lifetime: None,
        cause: Some("reopened"),
        severity: Some(Severity::Warning),
        pid: 7,
        start_time: 1,
        comm: b"cat",
        exe: None,
        unit: None,
        path: Some(b"/var/log/cat.log"),
        dev: Some(8),
        ino: Some(u64::MAX),
        fds: Some(2),
        times: 1,
        json: Some("{}"),
        json_bytes: 2,
    }
}

fn write(store: &mut Store, records: &[Record<'_>]) {
    let mut backlog = Backlog::default();
    assert!(records.iter().all(|record| backlog.push(*record)));
    store.write(backlog.first(usize::MAX)).unwrap();
}

#[test]
fn one_occurrence_is_one_row() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    let changed = Record {
        severity: Some(Severity::Critical),
        fds: Some(5),
        json: Some("{\"fds\":5}"),
        json_bytes: 9,
        ..record(1, Change::Changed, 2, 5)
    };
    let gone = Record {
        severity: Some(Severity::Info),
        fds: Some(0),
        ..record(1, Change::Gone, 3, 9)
    };
    write(&mut store, &[record(1, Change::Found, 1, 1), changed, gone]);
    let rows = place.all();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(row.since, BEGAN + SECOND);
    assert_eq!(row.ended, Some(BEGAN + 9 * SECOND));
    assert!(row.since_seen && row.end_seen);
    assert_eq!((row.fds, row.most_fds), (Some(5), Some(5)));
    assert_eq!(row.severity, Some(Severity::Critical));
    assert_eq!(row.ino, Some(u64::MAX));
    // A new occurrence is another row.
    write(&mut store, &[record(1, Change::Found, 4, 20)]);
    assert_eq!(place.all().len(), 2);
}

#[test]
fn stored_records_are_skipped() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    let records = [
        record(1, Change::Found, 1, 1),
        record(1, Change::Gone, 2, 2),
        record(2, Change::Found, 3, 3),
    ];
    write(&mut store, &records);
    let before = place.all();
    write(&mut store, &records);
    assert_eq!(place.all(), before);
    // The same agent may open it again, as on a reload.
    store.close();
    let mut store = place.store("b", "1");
    write(&mut store, &records);
    store.end_unfound(BEGAN + 99 * SECOND).unwrap();
    assert_eq!(place.all(), before);
}

#[test]
fn finding_continues_under_another_agent() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    write(
        &mut store,
        &[
            record(1, Change::Found, 1, 1),
            record(2, Change::Found, 2, 2),
        ],
    );
    drop(store);
    let mut store = place.store("b", "2");
    write(&mut store, &[record(1, Change::Found, 1, 50)]);
    store.end_unfound(BEGAN + 110 * SECOND).unwrap();
    let rows = place.all();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].since, rows[0].ended), (BEGAN + SECOND, None));
    assert_eq!(rows[1].ended, Some(BEGAN + 110 * SECOND));
    assert!(!rows[1].end_seen);
}

#[test]
fn findings_end_with_the_boot() {
    let place = Place::new();
    let mut store = place.store("a", "1");
    let mut early = record(1, Change::Found, 1, 0);
    early.wall_time = BEGAN - 500 * SECOND;
    write(&mut store, &[early]);
    drop(store);
    drop(place.store("b", "1"));
    let rows = place.all();
    assert_eq!((rows[0].ended, rows[0].end_seen), (Some(BEGAN), false));
}

#[test]
fn lost_events_are_tolerated() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    let gone = Record {
        lifetime: Some(30 * SECOND),
        ..record(2, Change::Gone, 2, 40)
    };
    let records = [
        // The start is missing.
        record(1, Change::Changed, 1, 50),
        gone,
        // The end is missing.
        record(3, Change::Found, 3, 60),
        record(3, Change::Found, 4, 70),
    ];
    write(&mut store, &records);
    let rows = place.all();
    let shown: Vec<_> = rows
        .iter()
        .map(|row| {
            let at = |time: u64| (time - BEGAN) / SECOND;
            let ended = row.ended.map(at);
            (at(row.since), row.since_seen, ended, row.end_seen)
        })
        .collect();
    let expected = [
        (10, true, Some(40), true),
        (50, false, None, false),
        (60, true, Some(70), false),
        (70, true, None, false),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn end_without_json_keeps_the_stored_json() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    let mut found = record(1, Change::Found, 1, 1);
    found.exe = Some(b"/bin/cat");
    let mut gone = record(1, Change::Gone, 2, 2);
    gone.json_bytes = 7;
    write(&mut store, &[found, gone.without_json()]);
    let rows = place.all();
    assert_eq!(rows[0].json.as_deref(), Some("{}"));
    assert_eq!(rows[0].exe.as_deref(), Some(&b"/bin/cat"[..]));
    assert!(rows[0].end_seen);
}

#[test]
fn untrusted_bytes_are_read_back_unchanged() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    let names: [&[u8]; 5] = [
        b"/a\nb\x1b[31m",
        b"/\xff\xfe\x00x",
        &[b'p'; 4096],
        b"'; DROP TABLE occurrence; --",
        b"",
    ];
    let json = "x".repeat(70 << 10);
    for (number, name) in names.iter().enumerate() {
        let mut hostile = record(
            number as u128,
            Change::Found,
            number as u64 + 1,
            number as u64,
        );
        hostile.path = Some(name);
        hostile.comm = name;
        hostile.json = Some(&json);
        hostile.json_bytes = 70 << 10;
        write(&mut store, &[hostile]);
    }
    let rows = place.all();
    let found: Vec<_> = rows
        .iter()
        .map(|row| row.path.as_deref().unwrap())
        .collect();
    assert_eq!(found, names);
    assert!(rows.iter().all(|row| row.json_bytes == 70 << 10));
}

#[test]
fn file_and_directory_are_private() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    write(&mut store, &[record(1, Change::Found, 1, 1)]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.file.parent().unwrap()), 0o700);
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(
            mode(&trouble::beside(&place.file, suffix)),
            0o600,
            "{suffix}"
        );
    }
    drop(store);
    fs::set_permissions(&place.file, fs::Permissions::from_mode(0o644)).unwrap();
    drop(place.store("b", "1"));
    assert_eq!(mode(&place.file), 0o600);
}

#[test]
fn foreign_files_are_not_changed() {
    let place = Place::new();
    fs::create_dir(place.file.parent().unwrap()).unwrap();
    let settings = place.settings("b", "1");
    // A database of another program.
    let other = Connection::open(&place.file).unwrap();
    other.execute_batch("CREATE TABLE mine (x);").unwrap();
    drop(other);
    let before = fs::read(&place.file).unwrap();
    let trouble = Store::open(&settings).unwrap_err();
    assert_eq!(trouble.kind, Kind::NotOurs, "{trouble}");
    assert_eq!(fs::read(&place.file).unwrap(), before);
    // A database of a newer version.
    fs::remove_file(&place.file).unwrap();
    drop(place.store("b", "1"));
    let newer = Connection::open(&place.file).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let trouble = Store::open(&settings).unwrap_err();
    assert_eq!(trouble.kind, Kind::NotOurs, "{trouble}");
    assert!(matches!(
        Reader::open(&place.file),
        Err(ReadError::NotOurs(_, message)) if message.contains("newer")
    ));
    // A symbolic link.
    let link = place.directory.path().join("link.db");
    std::os::unix::fs::symlink(&place.file, &link).unwrap();
    let mut settings = settings;
    settings.config.file = link;
    assert!(Store::open(&settings).is_err());
}

#[test]
fn migration_is_complete_or_undone() {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection, &MIGRATIONS).unwrap();
    connection
        .execute("INSERT INTO run (boot, agent) VALUES ('b', '1')", [])
        .unwrap();
    let broken = [
        MIGRATIONS[0],
        "ALTER TABLE run ADD COLUMN more TEXT; SELECT nothing FROM nowhere;",
    ];
    assert!(schema::migrate(&mut connection, &broken).is_err());
    assert_eq!(schema::version(&connection, &broken).unwrap(), 1);
    let later = [MIGRATIONS[0], "ALTER TABLE run ADD COLUMN more TEXT;"];
    schema::migrate(&mut connection, &later).unwrap();
    schema::migrate(&mut connection, &later).unwrap();
    let row: (String, Option<String>) = connection
        .query_row("SELECT agent, more FROM run", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(row, ("1".to_owned(), None));
}

#[test]
fn many_findings_stay_within_the_size_limit() {
    let place = Place::new();
    let mut settings = place.settings("b", "1");
    settings.config.most_bytes = 2 << 20;
    let mut store = Store::open(&settings).unwrap();
    let size = || {
        let of =
            |suffix| fs::metadata(trouble::beside(&place.file, suffix)).map_or(0, |it| it.len());
        of("") + of("-wal")
    };
    let (mut number, mut largest) = (0, 0);
    let json = "x".repeat(1000);
    for _ in 0..200 {
        let mut batch = Vec::new();
        for _ in 0..50 {
            number += 1;
            let key = u128::from(number);
            let found = Record {
                json: Some(&json),
                ..record(key, Change::Found, number, number)
            };
            batch.push(found);
            number += 1;
            // Some stay active.
            if number % 100 != 0 {
                batch.push(record(key, Change::Gone, number, number));
            }
        }
        write(&mut store, &batch);
        while !store.keep_size().unwrap().0 {}
        largest = largest.max(size());
    }
    assert!(largest <= 2 << 20, "{largest}");
    let rows = place.all();
    assert!(rows.len() > 500, "{}", rows.len());
    // The newest remain.
    assert_eq!(rows.last().unwrap().key, Key(u128::from(number - 1)));
    // Active ones are deleted last.
    assert_eq!(rows.iter().filter(|row| row.ended.is_none()).count(), 200);
}

#[test]
fn active_findings_stay_within_the_size_limit() {
    let place = Place::new();
    let mut settings = place.settings("b", "1");
    settings.config.most_bytes = 512 << 10;
    let mut store = Store::open(&settings).unwrap();
    let mut deleted_active = 0;
    for batch in 0..60_u64 {
        let records: Vec<_> = (0..50)
            .map(|of| {
                record(
                    (batch * 50 + of).into(),
                    Change::Found,
                    batch * 50 + of + 1,
                    batch,
                )
            })
            .collect();
        write(&mut store, &records);
        loop {
            let (is_within, active) = store.keep_size().unwrap();
            deleted_active += active;
            if is_within {
                break;
            }
        }
    }
    assert!(deleted_active > 0);
    assert_eq!(place.all().len() + deleted_active, 3000);
}

#[test]
fn old_entries_are_deleted() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    let records = [
        record(1, Change::Found, 1, 1),
        record(2, Change::Found, 2, 2),
        record(2, Change::Gone, 3, 3),
        record(3, Change::Found, 4, 4),
        record(3, Change::Gone, 5, 1000),
    ];
    write(&mut store, &records);
    let age = config::History::default().most_age.as_secs();
    store.delete_old(BEGAN + (age + 500) * SECOND, ALL).unwrap();
    let keys: Vec<_> = place.all().iter().map(|row| row.key).collect();
    assert_eq!(keys, [Key(1), Key(3)]);
}

#[test]
fn deletions_by_age_are_limited_to_a_share() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    let counts = |hour: u64| HourlyCounts {
        wall_time: BEGAN + hour * 3600 * SECOND,
        more_processes: 1,
        ..HourlyCounts::default()
    };
    let mut records = Vec::new();
    for key in 1..=1000 {
        records.push(record(key.into(), Change::Found, 2 * key, key));
        records.push(record(key.into(), Change::Gone, 2 * key + 1, key));
        store.hourly(&counts(key)).unwrap();
    }
    write(&mut store, &records);
    store.delete_old(u64::MAX / 2, 300_000).unwrap();
    let rows = place.all();
    assert_eq!((rows.len(), rows[0].key), (700, Key(301)));
    let hours: u64 = store.count("hourly").unwrap();
    assert_eq!(hours, 700);
    store.delete_old(u64::MAX / 2, 1).unwrap();
    assert_eq!(place.all().len(), 699);
}

#[test]
fn clock_ahead_at_the_start_deletes_nothing() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    let mut records = Vec::new();
    for key in 1..=1000 {
        records.push(record(key.into(), Change::Found, 2 * key, key));
        records.push(record(key.into(), Change::Gone, 2 * key + 1, key));
    }
    // All are years old by the clock of this host.
    write(&mut store, &records);
    drop(store);
    let counts = Arc::new(SinkStats::default());
    let (sink, receiver) = Sink::new("history", 100, Arc::clone(&counts));
    let history = History::start_with(place.settings("b", "2"), receiver, Arc::clone(&counts));
    sink.offer(&Arc::new(threshold(5, Change::Found)));
    eventually("the event", || counts.now()[2] == 1);
    history.stop();
    assert_eq!(place.all().len(), 1001);
}

#[test]
fn set_clock_does_not_change_the_time_between_start_and_end() {
    const YEAR: u64 = 365 * 86_400 * SECOND;
    let place = Place::new();
    let mut store = place.store("b", "1");
    // At another clock by `ahead`.
    let by_clock = |ahead: u64, record: Record<'static>| Record {
        wall_time: record.wall_time + ahead,
        booted: record.booted + ahead,
        ..record
    };
    let found = |key, number, seconds| record(key, Change::Found, number, seconds);
    let gone = |key, number, seconds| record(key, Change::Gone, number, seconds);
    let records = [
        found(1, 1, 10),
        found(2, 2, 20),
        found(3, 3, 30),
        by_clock(YEAR, gone(1, 4, 16)),
        by_clock(YEAR, found(4, 5, 40)),
        gone(2, 6, 50),
        gone(4, 7, 60),
    ];
    write(&mut store, &records);
    let seen = |row: &Occurrence| {
        let seconds = |time: u64| (time - BEGAN) / SECOND;
        (row.key.0, seconds(row.since), row.ended.map(seconds))
    };
    let mut rows: Vec<_> = place.all().iter().map(seen).collect();
    rows.sort_unstable();
    let year = YEAR / SECOND;
    let expected = [
        (1, year + 10, Some(year + 16)),
        (2, 20, Some(50)),
        (3, 30, None),
        (4, 40, Some(60)),
    ];
    assert_eq!(rows, expected);
    // Without an event.
    store.follow_clock(BEGAN + YEAR).unwrap();
    let rows = place.all();
    assert_eq!(
        seen(rows.iter().find(|row| row.key == Key(3)).unwrap()).1,
        year + 30
    );
    // Never below 1970.
    store.follow_clock(0).unwrap();
    assert!(place.all().iter().all(|row| row.since < BEGAN + 2 * YEAR));
}

#[test]
fn minimum_maximum_and_last_of_an_hour_are_stored() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    let row = |pid, descriptors, curve: &[u32]| ProcessRow {
        pid,
        start_time: 1,
        comm: b"cat".to_vec(),
        descriptors,
        curve: curve.to_vec(),
        ..ProcessRow::default()
    };
    let counts = |rows, seconds| HourlyCounts {
        wall_time: BEGAN + seconds * SECOND,
        rows,
        more_processes: 3,
        more_descriptors: 30,
    };
    store
        .hourly(&counts(vec![row(7, 10, &[4, 40])], 0))
        .unwrap();
    store.hourly(&counts(vec![row(7, 12, &[])], 60)).unwrap();
    // More processes than have rows of their own.
    let many = (1..=600).map(|pid| row(pid, pid as usize, &[])).collect();
    store.hourly(&counts(many, 3600)).unwrap();
    let reader = Reader::open(&place.file).unwrap();
    let first = reader.hourly(0, None, false).unwrap();
    let of = |row: &super::read::Hourly| (row.pid, row.processes, row.fewest, row.most, row.last);
    assert_eq!(of(&first[0]), (0, 3, 30, 30, 30));
    assert_eq!(of(&first[1]), (7, 1, 4, 40, 12));
    assert_eq!(of(&first[2]), (0, 103, 5080, 5080, 5080));
    let mut hours = first;
    loop {
        let page = reader.hourly(0, hours.last(), false).unwrap();
        if page.is_empty() {
            break;
        }
        hours.extend(page);
    }
    assert_eq!(hours.len(), 2 + 1 + MAX_PROCESSES);
}

#[test]
fn backlog_is_bounded_and_keeps_ends_longer() {
    let mut backlog = Backlog::default();
    let mut accepted = 0;
    let json = "x".repeat(MAX_JSON);
    for number in 0..200_u64 {
        let mut large = record(number.into(), Change::Found, number, 1);
        large.json = Some(&json);
        accepted += usize::from(backlog.push(large));
    }
    assert!((32..100).contains(&accepted), "{accepted}");
    assert!(backlog.push(record(1, Change::Gone, 300, 2)));
    assert_eq!(backlog.len(), accepted + 1);
    assert_eq!(backlog.first(1).count(), 1);
    backlog.remove_written(accepted + 1);
    assert!(backlog.is_empty());
    for number in 0..100_000 {
        backlog.push(record(1, Change::Gone, number, 2));
    }
    assert_eq!(backlog.len(), 60_000);
}

#[test]
fn three_damaged_databases_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("history.db");
    for number in 0..5 {
        fs::write(&file, number.to_string()).unwrap();
        fs::write(trouble::beside(&file, "-wal"), "log").unwrap();
        let now = Timestamp::from_second(1_700_000_000 + number).unwrap();
        trouble::set_aside(&file, now).unwrap();
    }
    let aside = trouble::list_set_aside(&file).unwrap();
    let remaining: Vec<_> = aside
        .iter()
        .map(|it| fs::read_to_string(it).unwrap())
        .collect();
    assert_eq!(remaining, ["2", "3", "4"]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 6);
}

fn threshold(number: u64, change: Change) -> Event {
    Event {
        number,
        at: Moment(number),
        wall_time: BEGAN + number,
        kind: EventKind::Threshold(Box::new(ThresholdReport {
            change,
            process: ProcessInfo::default(),
            of: Measure::Descriptors,
            value: 900.0,
            threshold: 800.0,
            severity: Severity::Critical,
        })),
        json: "{}".to_owned(),
        key: Some(Key(number.into())),
    }
}

fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(600);
    while !check() {
        assert!(Instant::now() < until, "timed out waiting for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn findings_not_found_again_are_ended() {
    let place = Place::new();
    let mut store = place.store("b", "1");
    write(&mut store, &[record(1, Change::Found, 1, 1)]);
    drop(store);
    let mut settings = place.settings("b", "2");
    settings.found_again_within = Duration::from_millis(300);
    let counts = Arc::new(SinkStats::default());
    let (sink, receiver) = Sink::new("history", 100, Arc::clone(&counts));
    let history = History::start_with(settings, receiver, Arc::clone(&counts));
    sink.offer(&Arc::new(threshold(5, Change::Found)));
    history.mark_first_snapshot();
    eventually("the end of the finding", || {
        place.all().iter().filter(|row| row.ended.is_some()).count() == 1
    });
    assert_eq!(history.state(), State::Working);
    history.stop();
    let rows = place.all();
    assert_eq!(rows.len(), 2);
    let found = rows.iter().find(|row| row.kind == "threshold").unwrap();
    assert_eq!(found.cause.as_deref(), Some("descriptors"));
    assert_eq!((found.fds, found.ended), (Some(900), None));
    assert_eq!(counts.now(), [1, 0, 1, 0]);
}
