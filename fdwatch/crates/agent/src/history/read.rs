//! Reads the history: while an agent writes it, and when there is none. How it is shown is not known
//! here.

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

/// Rows that are read at once: none is read while others are shown, for that may take long and would keep
/// the log from being made smaller.
const PAGE: i64 = 256;

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error(
        "there is no history at {0}: `fdwatch agent` keeps one; name its file with --database if it is another"
    )]
    Missing(PathBuf),
    /// It may not be read.
    #[error("{0} may not be read: it is of whoever runs the agent alone, mostly root")]
    Denied(PathBuf),
    /// It is of another program, or of a newer fdwatch.
    #[error("{0} cannot be read: {1}")]
    NotOurs(PathBuf, String),
    /// It is damaged.
    #[error("{0} is damaged: {1}; the agent puts it aside and begins another")]
    Damaged(PathBuf, String),
    /// Something else.
    #[error("{0} cannot be read: {1}")]
    Other(PathBuf, String),
}

/// Something that came, and may have gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    /// Its number in the database.
    pub id: i64,
    /// What it is.
    pub key: Key,
    /// `finding`, `growth` or `threshold`.
    pub kind: String,
    /// When it came: nanoseconds since 1970.
    pub since: u64,
    /// Whether that was told; else it may have been earlier.
    pub since_seen: bool,
    /// When it was told last.
    pub last_change: u64,
    /// When it ended; none, if it is there, or was when the agent was.
    pub ended: Option<u64>,
    /// Whether its end was told; else it was noticed then.
    pub end_seen: bool,
    /// The cause of a finding, the measure of a threshold.
    pub cause: Option<String>,
    /// The highest it had.
    pub severity: Option<Severity>,
    /// The process.
    pub pid: u32,
    /// When that was started: nanoseconds since boot.
    pub start_time: u64,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its program's path.
    pub exe: Option<Vec<u8>>,
    /// Its unit.
    pub unit: Option<String>,
    /// The file's path.
    pub path: Option<Vec<u8>>,
    /// Its device, in the kernel's encoding.
    pub dev: Option<u32>,
    /// Its inode.
    pub ino: Option<u64>,
    /// Descriptors when it was there last.
    pub fds: Option<u64>,
    /// The most there were.
    pub most_fds: Option<u64>,
    /// How often it came.
    pub times: u64,
    /// As it was told last; none if that was more than is kept.
    pub json: Option<String>,
    /// How much that was: bytes.
    pub json_bytes: u64,
}

/// How many descriptors a process had in an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hourly {
    /// When the hour began: nanoseconds since 1970.
    pub hour: u64,
    /// The process; 0 for all that are not told of by themselves.
    pub pid: u32,
    /// When it was started: nanoseconds since boot.
    pub start_time: u64,
    /// Its name.
    pub comm: Vec<u8>,
    /// Its unit.
    pub unit: Option<String>,
    /// How many processes it is.
    pub processes: u64,
    /// The fewest descriptors.
    pub fewest: u64,
    /// The most.
    pub most: u64,
    /// As many as there were last.
    pub last: u64,
}

impl From<&Occurrence> for Object<History> {
    fn from(from: &Occurrence) -> Self {
        let time = |at| Time::from(rfc3339(at));
        let is_threshold = from.kind == "threshold";
        let (path, exe) = (from.path.as_deref(), from.exe.as_deref());
        let lifetime = from.ended.filter(|_| from.end_seen);
        // A line end between the values of an object has no meaning, but would end this line.
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

/// A history that is read.
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
    /// If there is none, or it cannot be read.
    pub fn open(file: &Path) -> Result<Self, ReadError> {
        // Looked at first: SQLite says no more than that it cannot.
        if let Err(error) = fs::File::open(file) {
            return Err(match error.kind() {
                io::ErrorKind::NotFound => ReadError::Missing(file.to_owned()),
                io::ErrorKind::PermissionDenied => ReadError::Denied(file.to_owned()),
                _ => ReadError::Other(file.to_owned(), error.to_string()),
            });
        }
        let failed = |error| Self::error(file, error);
        let connection = match Self::connect(file, "mode=ro") {
            // Where nothing can be written, as in a copy on a read-only file system, readers and writers
            // cannot know of each other. That is no matter if no one has written: there is no log.
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

    fn connect(file: &Path, how: &str) -> Result<Connection, Trouble> {
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
            format!("{uri}?{how}"),
            OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_URI
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA mmap_size=0;")?;
        if schema::version(&connection, &MIGRATIONS)? == 0 {
            let message = "there is nothing in it";
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

    /// What was there at any time since `since` (nanoseconds since 1970), a page of it: what follows
    /// `after`, in the order it came, or before it, backwards.
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

    /// How many descriptors processes had in the hours since `since` (nanoseconds since 1970), a page of
    /// it: what follows `after`, hour by hour, or before it, backwards.
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
        // An hour that has begun before is part of what was asked for.
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
