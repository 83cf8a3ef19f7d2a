//! Errors of the database, and renaming of a damaged one.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rusqlite::{Error, ErrorCode};

/// Limit of damaged databases to keep.
const MAX_CORRUPT: usize = 3;

/// The kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The disk is full.
    Full,
    /// The file is damaged or not a database.
    Corrupt,
    /// The file was removed or replaced.
    Removed,
    /// Another process has locked it.
    Locked,
    /// Permission denied.
    Denied,
    /// Database of another program or a newer fdwatch.
    NotOurs,
    /// Any other error.
    Other,
}

/// An error of the database.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    pub(super) message: String,
}

impl Trouble {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message }
    }

    /// Creates the error of a system call on `path`.
    pub(super) fn of_io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Full,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Denied,
            _ => Kind::Other,
        };
        let message = format!("cannot {doing} {}: {error}", path.display());
        Self::new(kind, message)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let (kind, hint) = match code(&error) {
            Some((ErrorCode::DiskFull, _) | (_, rusqlite::ffi::SQLITE_IOERR_SHMSIZE)) => {
                (Kind::Full, ": free space on its file system")
            }
            Some((ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)) => (Kind::Corrupt, ""),
            Some((ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _)) => {
                (Kind::Locked, ": another process has locked it")
            }
            Some((ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _)) => {
                (Kind::Denied, ": make it and its directory writable")
            }
            _ => (Kind::Other, ""),
        };
        Self::new(kind, format!("{error}{hint}"))
    }
}

fn code(error: &Error) -> Option<(ErrorCode, i32)> {
    let error = error.sqlite_error()?;
    Some((error.code, error.extended_code))
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Returns the path of a file next to the database, such as its write-ahead log.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Renames a damaged database and its log to `NAME.corrupt-TIME`, and keeps the last three of these. The database must
/// not be open.
pub(super) fn set_aside(file: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let aside = beside(
        file,
        &now.strftime(".corrupt-%Y%m%dT%H%M%S.%9f").to_string(),
    );
    fs::rename(file, &aside)?;
    for (suffix, is_kept) in [("-wal", true), ("-shm", false)] {
        let log = beside(file, suffix);
        let result = if is_kept {
            fs::rename(&log, beside(&aside, suffix))
        } else {
            fs::remove_file(&log)
        };
        if let Err(error) = result
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    for old in list_set_aside(file)?.iter().rev().skip(MAX_CORRUPT) {
        fs::remove_file(old)?;
        // It may have no log.
        let _ = fs::remove_file(beside(old, "-wal"));
    }
    Ok(aside)
}

/// Returns the renamed databases, oldest first.
pub(super) fn list_set_aside(file: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
        return Ok(Vec::new());
    };
    let mut beginning = name.as_encoded_bytes().to_vec();
    beginning.extend(b".corrupt-");
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(&beginning) && !bytes.ends_with(b"-wal") {
            found.push(directory.join(name));
        }
    }
    found.sort_unstable();
    Ok(found)
}
