//! The layout of the database, and migrations from earlier versions.

use rusqlite::{Connection, TransactionBehavior};

use super::trouble::{Kind, Trouble};

/// The application ID of fdwatch's history: `fdwh`.
pub(super) const APPLICATION: i32 = 0x6664_7768;

/// The migration from each version to the next; the first creates the tables. They must never change.
pub(super) const MIGRATIONS: [&str; 1] = [
    // Times are nanoseconds since 1970, start_time since boot. Names and paths are untrusted bytes.
    // `ended` is NULL while the finding is active. `end_seen` is 0 if it ended at `ended` or before,
    // `since_seen` is 0 if it started at `since` or before. `severity` is the highest it had:
    // 0 info, 1 warning, 2 critical.
    "CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        boot TEXT NOT NULL,
        agent TEXT NOT NULL,
        UNIQUE (boot, agent)
    ) STRICT;
    CREATE TABLE occurrence (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        kind TEXT NOT NULL,
        since INTEGER NOT NULL,
        since_seen INTEGER NOT NULL,
        last_change INTEGER NOT NULL,
        ended INTEGER,
        end_seen INTEGER NOT NULL DEFAULT 0,
        run INTEGER NOT NULL REFERENCES run,
        last_number INTEGER NOT NULL,
        cause TEXT,
        severity INTEGER,
        pid INTEGER NOT NULL,
        start_time INTEGER NOT NULL,
        comm BLOB NOT NULL,
        exe BLOB,
        unit TEXT,
        path BLOB,
        dev INTEGER,
        ino INTEGER,
        fds INTEGER,
        most_fds INTEGER,
        times INTEGER NOT NULL,
        json TEXT,
        json_bytes INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX occurrence_key ON occurrence (key);
    CREATE UNIQUE INDEX occurrence_there ON occurrence (key) WHERE ended IS NULL;
    CREATE INDEX occurrence_since ON occurrence (since);
    CREATE INDEX occurrence_ended ON occurrence (ended);
    CREATE INDEX occurrence_path ON occurrence (path);
    CREATE TABLE hourly (
        hour INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        start_time INTEGER NOT NULL,
        comm BLOB NOT NULL,
        unit TEXT,
        processes INTEGER NOT NULL,
        fewest INTEGER NOT NULL,
        most INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (hour, pid, start_time)
    ) STRICT, WITHOUT ROWID;",
];

/// Returns the version after all migrations.
pub(super) fn latest(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

/// Returns the version of a database: 0 if it is empty.
pub(super) fn version(connection: &Connection, migrations: &[&str]) -> Result<i64, Trouble> {
    let of = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let version = of("user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if of("application_id")? != i64::from(APPLICATION) && (tables > 0 || version != 0) {
        let message = "it belongs to another program: use another file";
        return Err(Trouble::new(Kind::NotOurs, message));
    }
    if version > latest(migrations) {
        let message = format!(
            "it was written by a newer fdwatch (version {version}, supported up to {}): use that, or another file",
            latest(migrations)
        );
        return Err(Trouble::new(Kind::NotOurs, message));
    }
    Ok(version)
}

/// Migrates a database to the latest version. Changes nothing if it fails.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), Trouble> {
    let from = version(connection, migrations)?;
    if from == latest(migrations) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = usize::try_from(version(&transaction, migrations)?).unwrap_or(0);
    for step in migrations.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", latest(migrations))?;
    transaction.commit()?;
    Ok(())
}
