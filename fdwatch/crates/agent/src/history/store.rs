//! The operations on the database: by one thread, in short transactions.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params,
};

use super::{
    aging::ALL,
    record::Record,
    schema::{self, MIGRATIONS},
    trouble::{self, Kind, Trouble},
    types::{HourlyCounts, MAX_PROCESSES, Settings},
};
use fdwatch_core::duplicates::Change;
use fdwatch_events::ProcessRow;

/// Time to wait for another writer; there should be none.
const BUSY_TIMEOUT: Duration = Duration::from_millis(200);

/// Rows per delete statement.
const DELETE_BATCH: i64 = 200;

/// Pages per incremental vacuum.
const VACUUM_PAGES: i64 = 256;

/// Time limit of one round of deletions.
const MAX_DELETE_TIME: Duration = Duration::from_millis(300);

/// Minimum of the size limit. An empty database takes a tenth of it.
const MIN_BYTES: u64 = 512 << 10;

/// Change of the clock, relative to the boot clock, that is a step: nanoseconds.
const STEP: u64 = 1_000_000_000;

/// Nanoseconds of an hour.
const HOUR: u64 = 3_600_000_000_000;

/// An open database.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    file: PathBuf,
    /// Device and inode of the open file.
    identity: (u64, u64),
    run: i64,
    /// The time of the boot by the clock of the last record: nanoseconds since 1970.
    booted: Option<u64>,
    max_bytes: u64,
    max_age: Duration,
}

impl Store {
    /// Opens the database; creates it and its directory if necessary. Ends the findings that were active at an earlier
    /// boot.
    pub(super) fn open(settings: &Settings) -> Result<Self, Trouble> {
        let file = &settings.config.file;
        let identity = prepare(file)?;
        let mut connection = Connection::open_with_flags(
            file,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let max_bytes = settings.config.most_bytes.max(MIN_BYTES);
        let checkpoint = (max_bytes / 16 / 4096).clamp(16, 256).cast_signed();
        // The file is untrusted. It is not mapped: truncation would kill the agent.
        connection.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;")?;
        connection.execute_batch("PRAGMA mmap_size=0; PRAGMA cache_size=-2048;")?;
        schema::version(&connection, &MIGRATIONS)?;
        // Has an effect only on an empty database.
        connection.execute_batch("PRAGMA auto_vacuum=INCREMENTAL;")?;
        let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            let message =
                format!("its file system does not support a write-ahead log (mode {mode})");
            return Err(Trouble::new(Kind::Other, message));
        }
        // A commit survives a kill of the agent in any mode. With FULL the log is flushed at each commit, so it
        // survives a power failure too; NORMAL would lose what came after the last checkpoint. There are at most
        // four commits per second, and only this thread waits for them.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", checkpoint)?;
        connection.query_row("PRAGMA journal_size_limit=1048576", [], |_| Ok(()))?;
        connection.pragma_update(None, "foreign_keys", "OFF")?;
        schema::migrate(&mut connection, &MIGRATIONS)?;
        check_tables(&connection)?;
        let run = begin_run(&mut connection, settings)?;
        Ok(Self {
            connection,
            file: file.clone(),
            identity,
            run,
            booted: None,
            max_bytes,
            max_age: settings.config.most_age,
        })
    }

    /// Checks that the open file is still the one at its path.
    pub(super) fn check_is_current(&self) -> Result<(), Trouble> {
        let is_current = fs::metadata(&self.file)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
            && trouble::beside(&self.file, "-wal").exists();
        if is_current {
            return Ok(());
        }
        let message = "it was removed or replaced";
        Err(Trouble::new(Kind::Removed, message))
    }

    /// Checks that a new connection can read the file: this one caches pages, and would not notice damage for a long
    /// time. Reads only the beginning, which is cheap.
    pub(super) fn check_is_readable(&self) -> Result<(), Trouble> {
        let other = Connection::open_with_flags(
            &self.file,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        other.busy_timeout(BUSY_TIMEOUT)?;
        other.query_row("SELECT count(*) FROM run", [], |_| Ok(()))?;
        Ok(())
    }

    /// Writes records in order, and returns their number. Writes none if it fails.
    pub(super) fn write<'a>(
        &mut self,
        records: impl Iterator<Item = Record<'a>>,
    ) -> Result<usize, Trouble> {
        let (run, mut booted) = (self.run, self.booted);
        let transaction = self.begin()?;
        let mut count = 0;
        for record in records {
            follow_clock(&transaction, &mut booted, record.booted)?;
            apply(&transaction, run, &record)?;
            count += 1;
        }
        transaction.commit()?;
        self.booted = booted;
        Ok(count)
    }

    /// Returns whether the clock was set since the last record; `booted` is the time of the boot by the clock.
    pub(super) fn has_stepped(&self, booted: u64) -> bool {
        self.booted.is_some_and(|before| is_step(before, booted))
    }

    /// Follows a clock that was set since the last record.
    pub(super) fn follow_clock(&mut self, booted: u64) -> Result<(), Trouble> {
        let mut before = self.booted;
        follow_clock(&self.connection, &mut before, booted)?;
        self.booted = before;
        Ok(())
    }

    fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// Writes the number of descriptors per process.
    pub(super) fn hourly(&mut self, counts: &HourlyCounts) -> Result<(), Trouble> {
        let hour = (counts.wall_time - counts.wall_time % HOUR).cast_signed();
        let (rows, rest) = hourly_rows(counts);
        let transaction = self.begin()?;
        {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO hourly VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (hour, pid, start_time) DO UPDATE SET comm = excluded.comm,
                     unit = excluded.unit, processes = excluded.processes,
                     fewest = min(fewest, excluded.fewest), most = max(most, excluded.most),
                     last = excluded.last",
            )?;
            for row in rows {
                let last = number(row.descriptors);
                let curve = row.curve.iter().map(|&count| i64::from(count));
                let fewest = curve.clone().min().unwrap_or(last).min(last);
                let most = curve.max().unwrap_or(last).max(last);
                statement.execute(params![
                    hour,
                    row.pid,
                    row.start_time.cast_signed(),
                    row.comm,
                    row.unit,
                    1,
                    fewest,
                    most,
                    last
                ])?;
            }
            let (processes, last) = (number(rest.0), number(rest.1));
            if processes > 0 {
                let no_unit: Option<&str> = None;
                statement.execute(params![
                    hour, 0, 0, b"", no_unit, processes, last, last, last
                ])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Ends the findings of earlier agents that were not found again.
    pub(super) fn end_unfound(&mut self, now: u64) -> Result<(), Trouble> {
        self.connection.execute(
            "UPDATE occurrence SET ended = max(?1, last_change), end_seen = 0
             WHERE ended IS NULL AND run != ?2",
            params![now.cast_signed(), self.run],
        )?;
        Ok(())
    }

    /// Deletes old entries, up to a `share` of all: parts per million, rounded up to whole entries.
    pub(super) fn delete_old(&mut self, now: u64, share: u64) -> Result<(), Trouble> {
        let age = u64::try_from(self.max_age.as_nanos()).unwrap_or(u64::MAX);
        let before = now.saturating_sub(age).cast_signed();
        let limit = |count: u64| count.saturating_mul(share).div_ceil(ALL);
        let (mut rows, mut hours) = (
            limit(self.count("occurrence")?),
            limit(self.count("hourly")?),
        );
        let began = Instant::now();
        while began.elapsed() < MAX_DELETE_TIME {
            let deleted = self.delete_ended("ended < ?1", before, rows)?;
            let deleted_hours = self.connection.execute(
                "DELETE FROM hourly WHERE (hour, pid, start_time) IN (
                     SELECT hour, pid, start_time FROM hourly WHERE hour < ?1 LIMIT ?2)",
                params![before, batch(hours)],
            )?;
            if deleted + deleted_hours == 0 {
                break;
            }
            rows = rows.saturating_sub(deleted as u64);
            hours = hours.saturating_sub(deleted_hours as u64);
        }
        Ok(())
    }

    /// Returns the number of rows of a table.
    pub(super) fn count(&self, table: &str) -> rusqlite::Result<u64> {
        let sql = format!("SELECT count(*) FROM {table}");
        let count: i64 = self.connection.query_row(&sql, [], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    fn delete_ended(&self, which: &str, parameter: i64, limit: u64) -> rusqlite::Result<usize> {
        let sql = format!(
            "DELETE FROM occurrence WHERE id IN (
                 SELECT id FROM occurrence WHERE {which} ORDER BY ended LIMIT ?2)"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        statement.execute(params![parameter, batch(limit)])
    }

    /// Deletes the oldest entries and frees their space, for a limited time, if the database is too large. Returns
    /// whether it is within its limit then, and the number of deleted entries that are still active. Fails if the
    /// log, not the content, is too large.
    pub(super) fn keep_size(&mut self) -> Result<(bool, usize), Trouble> {
        let (high, low) = (
            self.max_bytes - self.max_bytes / 8,
            self.max_bytes - self.max_bytes / 4,
        );
        let mut deleted_active = 0;
        if self.size()? > high {
            let began = Instant::now();
            loop {
                // Moves the content of the log to the file, because the log does not shrink.
                self.checkpoint()?;
                if self.used()? <= low {
                    break;
                }
                deleted_active += self.delete_oldest()?;
                self.vacuum()?;
                if began.elapsed() > MAX_DELETE_TIME {
                    break;
                }
            }
            self.vacuum()?;
            self.checkpoint()?;
        }
        let is_within = self.size()? <= self.max_bytes;
        if !is_within && self.used()? <= low {
            let message = "a long-running reader keeps its log from shrinking";
            return Err(Trouble::new(Kind::Locked, message));
        }
        Ok((is_within, deleted_active))
    }

    /// Deletes some of the oldest entries. Returns how many of them are still active.
    fn delete_oldest(&self) -> Result<usize, Trouble> {
        // Ended findings and hours, oldest first.
        let oldest = |sql| {
            self.connection
                .query_row(sql, [], |row| row.get::<_, Option<i64>>(0))
        };
        let ended = oldest("SELECT min(ended) FROM occurrence")?;
        let hour = oldest("SELECT min(hour) FROM hourly")?;
        match (ended, hour) {
            (Some(ended), Some(hour)) if hour < ended => self.delete_hour(hour)?,
            (None, Some(hour)) => self.delete_hour(hour)?,
            (Some(_), _) => {
                self.delete_ended("ended IS NOT NULL AND ?1 = ?1", 0, u64::MAX)?;
            }
            (None, None) => {
                let deleted = self.connection.execute(
                    "DELETE FROM occurrence WHERE id IN (
                         SELECT id FROM occurrence ORDER BY since LIMIT ?1)",
                    [DELETE_BATCH],
                )?;
                return Ok(deleted);
            }
        }
        Ok(0)
    }

    fn delete_hour(&self, hour: i64) -> rusqlite::Result<()> {
        let mut statement = self
            .connection
            .prepare_cached("DELETE FROM hourly WHERE hour = ?1")?;
        statement.execute([hour]).map(|_| ())
    }

    /// Returns free pages to the file system.
    fn vacuum(&self) -> rusqlite::Result<()> {
        while self.pragma("freelist_count")? > 0 {
            let mut statement = self
                .connection
                .prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
            // Each row is a page.
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
        Ok(())
    }

    /// Moves the content of the log to the file, and truncates the log if there are no readers.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    fn pragma(&self, name: &str) -> rusqlite::Result<u64> {
        let value: i64 = self
            .connection
            .pragma_query_value(None, name, |row| row.get(0))?;
        Ok(value.cast_unsigned())
    }

    /// Returns the size of the file and its log: bytes.
    fn size(&self) -> Result<u64, Trouble> {
        let log = fs::metadata(trouble::beside(&self.file, "-wal")).map_or(0, |it| it.len());
        Ok(self.pragma("page_count")? * self.pragma("page_size")? + log)
    }

    /// Returns the used part of the file: bytes.
    fn used(&self) -> rusqlite::Result<u64> {
        let pages = self.pragma("page_count")?;
        Ok(pages.saturating_sub(self.pragma("freelist_count")?) * self.pragma("page_size")?)
    }

    /// Closes the database, which moves the log to the file.
    pub(super) fn close(self) {
        if let Err((_, error)) = self.connection.close() {
            tracing::debug!("cannot close the history: {error}");
        }
    }
}

/// Creates directory and file if necessary, accessible to their owner only. Returns the file's device and inode. The
/// process must not have the file open: closing any descriptor of a file releases all of the process's locks on it.
fn prepare(file: &Path) -> Result<(u64, u64), Trouble> {
    if let Some(directory) = file.parent().filter(|it| !it.as_os_str().is_empty()) {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|error| Trouble::of_io("create the directory", directory, &error))?;
    }
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(file);
    let opened = opened.map_err(|error| Trouble::of_io("open", file, &error))?;
    let access_error = |error: io::Error| Trouble::of_io("access", file, &error);
    let metadata = opened.metadata().map_err(access_error)?;
    if !metadata.is_file() {
        let message = "it is not a regular file: use another";
        return Err(Trouble::new(Kind::NotOurs, message));
    }
    if metadata.mode() & 0o077 != 0 {
        let owner_only = Permissions::from_mode(0o600);
        opened.set_permissions(owner_only).map_err(access_error)?;
    }
    Ok((metadata.dev(), metadata.ino()))
}

/// Checks the tables. A database with the right ID and version but without the tables is damaged.
fn check_tables(connection: &Connection) -> Result<(), Trouble> {
    for sql in [
        "SELECT id, boot, agent FROM run",
        "SELECT key, since_seen, end_seen, last_number, json_bytes FROM occurrence",
        "SELECT hour, start_time, processes, fewest, most, last FROM hourly",
    ] {
        connection.prepare(sql).map_err(|error| {
            let trouble = Trouble::from(error);
            match trouble.kind {
                Kind::Other => Trouble::new(Kind::Corrupt, trouble.message),
                _ => trouble,
            }
        })?;
    }
    Ok(())
}

/// Returns the row of this run. Ends the findings that were active at an earlier boot.
fn begin_run(connection: &mut Connection, settings: &Settings) -> rusqlite::Result<i64> {
    let run = &settings.run;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let known: Option<i64> = transaction
        .query_row(
            "SELECT id FROM run WHERE boot = ?1 AND agent = ?2",
            params![run.boot, run.agent],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    transaction.execute(
        "INSERT INTO run (boot, agent) VALUES (?1, ?2)",
        params![run.boot, run.agent],
    )?;
    let id = transaction.last_insert_rowid();
    transaction.execute(
        "UPDATE occurrence SET ended = max(?1, last_change), end_seen = 0
         WHERE ended IS NULL AND run IN (SELECT id FROM run WHERE boot != ?2)",
        params![run.booted.cast_signed(), run.boot],
    )?;
    // Runs are needed only for active findings.
    transaction.execute(
        "DELETE FROM run WHERE id != ?1 AND id NOT IN
             (SELECT run FROM occurrence WHERE ended IS NULL)",
        [id],
    )?;
    transaction.commit()?;
    Ok(id)
}

/// Returns the number of rows to delete at once, of `limit`.
fn batch(limit: u64) -> i64 {
    limit.min(DELETE_BATCH.cast_unsigned()).cast_signed()
}

fn is_step(before: u64, booted: u64) -> bool {
    booted.abs_diff(before) >= STEP
}

/// Moves the times of active entries if the clock was set, so that the time until their end stays right. All of them
/// are of this boot. `booted` is the time of the boot by the clock before and, at the end, now.
fn follow_clock(
    connection: &Connection,
    booted: &mut Option<u64>,
    now: u64,
) -> rusqlite::Result<()> {
    if let Some(before) = *booted
        && is_step(before, now)
    {
        // Far from what overflows.
        const MAX: i64 = i64::MAX / 4;
        let step = now.wrapping_sub(before).cast_signed().clamp(-MAX, MAX);
        connection
            .prepare_cached(
                "UPDATE occurrence SET since = max(min(since, ?2) + ?1, 0),
                     last_change = max(min(last_change, ?2) + ?1, 0) WHERE ended IS NULL",
            )?
            .execute(params![step, MAX])?;
        *booted = Some(now);
    }
    booted.get_or_insert(now);
    Ok(())
}

/// The last row of a key.
struct Known {
    id: i64,
    is_active: bool,
    run: i64,
    last_number: i64,
}

/// Writes a record. Skips one that is stored already, as after a commit that seemed to have failed.
fn apply(transaction: &Transaction<'_>, run: i64, record: &Record<'_>) -> rusqlite::Result<()> {
    let known = transaction
        .prepare_cached(
            "SELECT id, ended IS NULL, run, last_number FROM occurrence WHERE key = ?1
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row([record.key.0.to_be_bytes()], |row| {
            Ok(Known {
                id: row.get(0)?,
                is_active: row.get(1)?,
                run: row.get(2)?,
                last_number: row.get(3)?,
            })
        })
        .optional()?;
    let number = record.number.cast_signed();
    match known {
        Some(known) if known.run == run && known.last_number >= number => Ok(()),
        // The event of its end was lost.
        Some(known) if known.is_active && record.change == Change::Found && known.run == run => {
            transaction
                .prepare_cached(
                    "UPDATE occurrence SET ended = max(?1, last_change), end_seen = 0 WHERE id = ?2",
                )?
                .execute(params![record.wall_time.cast_signed(), known.id])?;
            insert(transaction, run, record)
        }
        Some(known) if known.is_active => update(transaction, run, record, known.id),
        _ => insert(transaction, run, record),
    }
}

fn update(
    transaction: &Transaction<'_>,
    run: i64,
    record: &Record<'_>,
    id: i64,
) -> rusqlite::Result<()> {
    let is_gone = record.change == Change::Gone;
    let mut statement = transaction.prepare_cached(
        "UPDATE occurrence SET run = ?2, last_number = ?3, last_change = ?4,
             ended = CASE WHEN ?5 THEN max(?4, since) END, end_seen = ?5,
             severity = nullif(max(coalesce(severity, -1), coalesce(?6, -1)), -1),
             comm = ?7, exe = coalesce(?8, exe), unit = coalesce(?9, unit),
             path = coalesce(?10, path), cause = coalesce(?11, cause),
             fds = CASE WHEN ?5 THEN fds ELSE ?12 END,
             most_fds = nullif(max(coalesce(most_fds, -1), coalesce(?12, -1)), -1),
             times = times + ?13 - 1,
             json = CASE WHEN ?15 > 0 THEN ?14 ELSE json END,
             json_bytes = CASE WHEN ?15 > 0 THEN ?15 ELSE json_bytes END
         WHERE id = ?1",
    )?;
    // A record whose JSON was dropped for lack of room keeps the stored one.
    let json_bytes = match (record.json, record.json_bytes) {
        (None, bytes) if bytes <= super::record::MAX_JSON => 0,
        (_, bytes) => bytes,
    };
    statement.execute(params![
        id,
        run,
        record.number.cast_signed(),
        record.wall_time.cast_signed(),
        is_gone,
        record.severity.map(|it| it as i64),
        record.comm,
        record.exe,
        record.unit,
        record.path,
        record.cause,
        record.fds.map(u64::cast_signed),
        record.times,
        record.json,
        number(json_bytes),
    ])?;
    Ok(())
}

fn insert(transaction: &Transaction<'_>, run: i64, record: &Record<'_>) -> rusqlite::Result<()> {
    let is_gone = record.change == Change::Gone;
    // Without an event of its start, it started earlier. The event of its end may contain its lifetime.
    let since = record.wall_time - record.lifetime.unwrap_or(0).min(record.wall_time);
    let since_seen = record.change == Change::Found || record.lifetime.is_some();
    let mut statement = transaction.prepare_cached(
        "INSERT INTO occurrence (key, kind, since, since_seen, last_change, ended, end_seen, run,
             last_number, cause, severity, pid, start_time, comm, exe, unit, path, dev, ino, fds,
             most_fds, times, json, json_bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
             ?20, ?20, ?21, ?22, ?23)",
    )?;
    statement.execute(params![
        record.key.0.to_be_bytes(),
        record.kind,
        since.cast_signed(),
        since_seen,
        record.wall_time.cast_signed(),
        is_gone.then_some(record.wall_time.cast_signed()),
        is_gone,
        run,
        record.number.cast_signed(),
        record.cause,
        record.severity.map(|it| it as i64),
        record.pid,
        record.start_time.cast_signed(),
        record.comm,
        record.exe,
        record.unit,
        record.path,
        record.dev,
        record.ino.map(u64::cast_signed),
        record.fds.map(u64::cast_signed),
        record.times,
        record.json,
        number(record.json_bytes),
    ])?;
    Ok(())
}

/// Returns the processes with the most descriptors, and the number of the others and of their descriptors.
fn hourly_rows(counts: &HourlyCounts) -> (Vec<&ProcessRow>, (usize, usize)) {
    let mut rows: Vec<_> = counts.rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.descriptors));
    let others = rows.split_off(rows.len().min(MAX_PROCESSES));
    let processes = others.len() + counts.more_processes;
    let descriptors: usize = others.iter().map(|row| row.descriptors).sum();
    (rows, (processes, descriptors + counts.more_descriptors))
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
