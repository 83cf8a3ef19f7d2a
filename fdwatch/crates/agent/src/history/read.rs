//! The reader of the history, which works with and without a running agent.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, Row, params};
use serde_json::value::RawValue;

use super::{
    schema::{self, MIGRATIONS},
    trouble::{self, Kind, Trouble},
};
use fdwatch_core::{device::major_minor, diagnose::Severity};
use fdwatch_events::{
    event::Key,
    time::{rfc3339, seconds},
    wire::{
        Cause, History, HistoryFile, HistoryHour, HistoryProcess, Object, Text, Time, lossy,
        lost_bytes,
    },
};

/// Rows per query. No query stays open while rows are printed: that may take long, and a reader keeps the log from
/// shrinking.
const PAGE: i64 = 256;

/// Why the history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file does not exist.
    #[error("no history at {0}: `fdwatch agent` writes it; use --database for another file")]
    Missing(PathBuf),
    /// Permission denied.
    #[error(
        "cannot read {0}: permission denied; only the user of the agent, usually root, may read it"
    )]
    Denied(PathBuf),
    /// Database of another program or a newer fdwatch.
    #[error("cannot read {0}: {1}")]
    NotOurs(PathBuf, String),
    /// Damaged database.
    #[error("{0} is damaged: {1}; the agent renames it and starts a new one")]
    Damaged(PathBuf, String),
    /// Something else.
    #[error("cannot read {0}: {1}")]
    Other(PathBuf, String),
}

/// A finding, growth or threshold over its lifetime.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    /// Its row ID.
    pub id: i64,
    /// What it is about.
    pub key: Key,
    /// `finding`, `growth` or `threshold`.
    pub kind: String,
    /// When it started: nanoseconds since 1970.
    pub since: u64,
    /// Whether the start was observed; otherwise it may have been earlier.
    pub since_seen: bool,
    /// When it last changed: nanoseconds since 1970.
    pub last_change: u64,
    /// When it ended; `None` if it is active, or was when the agent stopped.
    pub ended: Option<u64>,
    /// Whether the end was observed; otherwise it may have been earlier.
    pub end_seen: bool,
    /// The cause of a finding, the measure of a threshold.
    pub cause: Option<String>,
    /// Its highest severity.
    pub severity: Option<Severity>,
    /// The PID of the process.
    pub pid: u32,
    /// When the process started: nanoseconds since boot.
    pub start_time: u64,
    /// The name of the process.
    pub comm: Vec<u8>,
    /// The path of its program.
    pub exe: Option<Vec<u8>>,
    /// Its systemd unit.
    pub unit: Option<String>,
    /// The file's path.
    pub path: Option<Vec<u8>>,
    /// The device of the file, in the kernel's encoding.
    pub dev: Option<u32>,
    /// The inode of the file.
    pub ino: Option<u64>,
    /// Number of descriptors when it was last active.
    pub fds: Option<u64>,
    /// Maximum number of descriptors.
    pub most_fds: Option<u64>,
    /// How often it occurred.
    pub times: u64,
    /// Its last event as JSON; `None` if too large.
    pub json: Option<String>,
    /// Size of that event: bytes.
    pub json_bytes: u64,
}

/// The number of descriptors of a process in one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hourly {
    /// Start of the hour: nanoseconds since 1970.
    pub hour: u64,
    /// The PID; 0 for all processes without a row of their own.
    pub pid: u32,
    /// When the process started: nanoseconds since boot.
    pub start_time: u64,
    /// The name of the process.
    pub comm: Vec<u8>,
    /// Its systemd unit.
    pub unit: Option<String>,
    /// Number of processes of this row.
    pub processes: u64,
    /// Minimum number of descriptors.
    pub fewest: u64,
    /// Maximum number of descriptors.
    pub most: u64,
    /// Last number of descriptors.
    pub last: u64,
}

impl From<&Occurrence> for Object<History> {
    fn from(from: &Occurrence) -> Self {
        let time = |at| Time::from(rfc3339(at));
        let is_threshold = from.kind == "threshold";
        let (path, exe) = (from.path.as_deref(), from.exe.as_deref());
        let lifetime = from.ended.filter(|_| from.end_seen);
        // Line breaks between JSON values have no meaning, but would end the line of output.
        let json = from.json.as_deref();
        let json = json.map(|json| json.trim().replace(['\n', '\r'], " "));
        Self::new(History {
            kind: from.kind.clone().into(),
            key: from.key,
            first: time(from.since),
            first_seen: from.since_seen,
            last: time(from.last_change),
            ended: from.ended.map(time),
            end_seen: from.end_seen,
            lifetime: lifetime.map(|ended| seconds(ended.saturating_sub(from.since))),
            severity: from.severity.map(|severity| severity.name().into()),
            cause: from
                .cause
                .clone()
                .filter(|_| !is_threshold)
                .map(Cause::from),
            measure: from.cause.clone().filter(|_| is_threshold).map(Text::from),
            process: HistoryProcess {
                exe: exe.map(lossy),
                exe_bytes: exe.and_then(lost_bytes),
                ..process(from.pid, &from.comm, from.unit.as_deref())
            },
            file: from.dev.zip(from.ino).map(|(dev, ino)| {
                let (major, minor) = major_minor(dev);
                HistoryFile {
                    path: path.map(lossy),
                    path_bytes: path.and_then(lost_bytes),
                    dev: format!("{major}:{minor}").into(),
                    ino,
                }
            }),
            fds: from.fds,
            most_fds: from.most_fds,
            times: from.times,
            finding_bytes: from.json_bytes,
            finding: json.and_then(|json| RawValue::from_string(json).ok()),
        })
    }
}

impl From<&Hourly> for Object<HistoryHour> {
    fn from(from: &Hourly) -> Self {
        let own = (from.pid != 0).then(|| process(from.pid, &from.comm, from.unit.as_deref()));
        Self::new(HistoryHour {
            hour: rfc3339(from.hour).into(),
            process: own,
            processes: from.processes,
            fewest: from.fewest,
            most: from.most,
            last: from.last,
        })
    }
}

fn process(pid: u32, comm: &[u8], unit: Option<&str>) -> HistoryProcess {
    HistoryProcess {
        pid,
        comm: lossy(comm),
        comm_bytes: lost_bytes(comm),
        exe: None,
        exe_bytes: None,
        unit: unit.map(str::to_owned),
    }
}

/// A history opened for reading.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    file: PathBuf,
}

impl Reader {
    /// Opens the history in `file`.
    ///
    /// # Errors
    ///
    /// If it does not exist or cannot be read.
    pub fn open(file: &Path) -> Result<Self, ReadError> {
        // SQLite does not report why it cannot open a file.
        if let Err(error) = fs::File::open(file) {
            return Err(match error.kind() {
                io::ErrorKind::NotFound => ReadError::Missing(file.to_owned()),
                io::ErrorKind::PermissionDenied => ReadError::Denied(file.to_owned()),
                _ => ReadError::Other(file.to_owned(), error.to_string()),
            });
        }
        let failed = |error| Self::error(file, error);
        let connection = match Self::connect(file, "mode=ro") {
            // On a read-only file system, SQLite cannot lock. Without a log there is no writer, so it is safe to read
            // without locks.
            Err(_) if is_without_log(file) => {
                Self::connect(file, "mode=ro&immutable=1").map_err(failed)?
            }
            result => result.map_err(failed)?,
        };
        Ok(Self {
            connection,
            file: file.to_owned(),
        })
    }

    fn connect(file: &Path, mode: &str) -> Result<Connection, Trouble> {
        let file =
            std::path::absolute(file).map_err(|error| Trouble::of_io("find", file, &error))?;
        let mut uri = "file:".to_owned();
        for &byte in file.as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
                uri.push(byte.into());
            } else {
                uri.push_str(&format!("%{byte:02x}"));
            }
        }
        let connection = Connection::open_with_flags(
            format!("{uri}?{mode}"),
            OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_URI
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA mmap_size=0;")?;
        if schema::version(&connection, &MIGRATIONS)? == 0 {
            let message = "the database is empty";
            return Err(Trouble::new(Kind::NotOurs, message));
        }
        Ok(connection)
    }

    fn error(file: &Path, trouble: Trouble) -> ReadError {
        let (file, message) = (file.to_owned(), trouble.message);
        match trouble.kind {
            Kind::Corrupt => ReadError::Damaged(file, message),
            Kind::NotOurs => ReadError::NotOurs(file, message),
            Kind::Denied => ReadError::Denied(file),
            _ => ReadError::Other(file, message),
        }
    }

    /// Returns a page of the occurrences that were active at any time after `since` (nanoseconds since 1970), ordered
    /// by start: those that follow `after`, or precede it with `backwards`.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn occurrences(
        &self,
        since: u64,
        after: Option<(u64, i64)>,
        backwards: bool,
    ) -> Result<Vec<Occurrence>, ReadError> {
        let (compare, order) = if backwards {
            ("<", "DESC")
        } else {
            (">", "ASC")
        };
        let first = if backwards {
            (i64::MAX, i64::MAX)
        } else {
            (-1, -1)
        };
        let (after, id) = after.map_or(first, |(since, id)| (since.cast_signed(), id));
        let sql = format!(
            "SELECT id, key, kind, since, since_seen, last_change, ended, end_seen, cause, severity,
                 pid, start_time, comm, exe, unit, path, dev, ino, fds, most_fds, times, json, json_bytes
             FROM occurrence
             WHERE (since, id) {compare} (?1, ?2) AND (ended IS NULL OR ended >= ?3)
             ORDER BY since {order}, id {order} LIMIT {PAGE}"
        );
        let parameters = params![after, id, since.cast_signed()];
        self.rows(&sql, parameters, occurrence)
    }

    /// Returns a page of the number of descriptors per process and hour after `since` (nanoseconds since 1970): the
    /// rows that follow `after`, or precede it with `backwards`.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn hourly(
        &self,
        since: u64,
        after: Option<&Hourly>,
        backwards: bool,
    ) -> Result<Vec<Hourly>, ReadError> {
        let (compare, order) = if backwards {
            ("<", "DESC")
        } else {
            (">", "ASC")
        };
        let first = if backwards { i64::MAX } else { -1 };
        let after = after.map_or((first, first, first), |row| {
            let start_time = row.start_time.cast_signed();
            (row.hour.cast_signed(), i64::from(row.pid), start_time)
        });
        let sql = format!(
            "SELECT hour, pid, start_time, comm, unit, processes, fewest, most, last FROM hourly
             WHERE (hour, pid, start_time) {compare} (?1, ?2, ?3) AND hour >= ?4
             ORDER BY hour {order}, pid {order}, start_time {order} LIMIT {PAGE}"
        );
        // Includes the hour that `since` is in.
        let since = since.saturating_sub(3_600_000_000_000).cast_signed();
        let parameters = params![after.0, after.1, after.2, since];
        self.rows(&sql, parameters, hourly)
    }

    fn rows<T>(
        &self,
        sql: &str,
        parameters: &[&dyn rusqlite::ToSql],
        of: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, ReadError> {
        let read = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(parameters, of)?.collect()
        };
        read().map_err(|error| Self::error(&self.file, error.into()))
    }
}

fn is_without_log(file: &Path) -> bool {
    let log = trouble::beside(file, "-wal");
    fs::metadata(log).map_or(true, |log| log.len() == 0)
}

fn occurrence(row: &Row<'_>) -> rusqlite::Result<Occurrence> {
    let count = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    let some = |index| {
        row.get::<_, Option<i64>>(index)
            .map(|it| it.map(i64::cast_unsigned))
    };
    Ok(Occurrence {
        id: row.get(0)?,
        key: Key(u128::from_be_bytes(row.get(1)?)),
        kind: row.get(2)?,
        since: count(3)?,
        since_seen: row.get(4)?,
        last_change: count(5)?,
        ended: some(6)?,
        end_seen: row.get(7)?,
        cause: row.get(8)?,
        severity: row.get::<_, Option<i64>>(9)?.map(severity),
        pid: row.get(10)?,
        start_time: count(11)?,
        comm: row.get(12)?,
        exe: row.get(13)?,
        unit: row.get(14)?,
        path: row.get(15)?,
        dev: row.get(16)?,
        ino: some(17)?,
        fds: some(18)?,
        most_fds: some(19)?,
        times: count(20)?,
        json: row.get(21)?,
        json_bytes: count(22)?,
    })
}

const fn severity(number: i64) -> Severity {
    match number {
        i64::MIN..=0 => Severity::Info,
        1 => Severity::Warning,
        _ => Severity::Critical,
    }
}

fn hourly(row: &Row<'_>) -> rusqlite::Result<Hourly> {
    let count = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    Ok(Hourly {
        hour: count(0)?,
        pid: row.get(1)?,
        start_time: count(2)?,
        comm: row.get(3)?,
        unit: row.get(4)?,
        processes: count(5)?,
        fewest: count(6)?,
        most: count(7)?,
        last: count(8)?,
    })
}
