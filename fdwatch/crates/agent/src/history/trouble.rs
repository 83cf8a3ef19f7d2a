//! What can be wrong with the database, and what is done with one that is damaged.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rusqlite::{Error, ErrorCode};

/// Damaged databases that are kept.
const MAX_CORRUPT: usize = 3;

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is no space.
    Full,
    /// It is damaged, or no database.
    Corrupt,
    /// It is not where it was.
    Removed,
    /// Someone else has it.
    Locked,
    /// It may not be written.
    Denied,
    /// It is of another program, or of a newer fdwatch.
    NotOurs,
    /// Something else.
    Other,
}

/// That, and in words.
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

    /// What the system says of something that was done to `path`.
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
        let (kind, remedy) = match code(&error) {
            Some((ErrorCode::DiskFull, _) | (_, rusqlite::ffi::SQLITE_IOERR_SHMSIZE)) => {
                (Kind::Full, ": make space on its file system")
            }
            Some((ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)) => (Kind::Corrupt, ""),
            Some((ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _)) => {
                (Kind::Locked, ": another process has locked it")
            }
            Some((ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _)) => (
                Kind::Denied,
                ": it must be writable, and so must its directory",
            ),
            _ => (Kind::Other, ""),
        };
        Self::new(kind, format!("{error}{remedy}"))
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

/// The database's write-ahead log, or its index, or a copy of one of these that is aside.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Puts a damaged database aside, as `NAME.corrupt-TIME`, with its log, and deletes the oldest of those
/// beyond three. No one may have it open.
pub(super) fn put_aside(file: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let aside = beside(
        file,
        &now.strftime(".corrupt-%Y%m%dT%H%M%S.%9f").to_string(),
    );
    fs::rename(file, &aside)?;
    for (suffix, is_of_use) in [("-wal", true), ("-shm", false)] {
        let log = beside(file, suffix);
        let result = if is_of_use {
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
    for old in aside_already(file)?.iter().rev().skip(MAX_CORRUPT) {
        fs::remove_file(old)?;
        // It may have had none.
        let _ = fs::remove_file(beside(old, "-wal"));
    }
    Ok(aside)
}

/// Those there are, the oldest first.
pub(super) fn aside_already(file: &Path) -> io::Result<Vec<PathBuf>> {
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
