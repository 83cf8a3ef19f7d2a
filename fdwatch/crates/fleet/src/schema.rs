//! The statements that create and upgrade the tables in ClickHouse.
//!
//! Rows may be inserted more than once: a batch is sent again if the connection failed before the response
//! arrived. Therefore nothing is summed. Tables of rows replace equal rows; rollups hold sets and first and last times,
//! which are idempotent. The server must not deduplicate batches (`insert_deduplicate=0`): it would skip
//! the rollups of a repeated batch too, though a rollup may be what failed at first.
//!
//! All versions from 18.16 on get the same statements, except where [`Engine`] makes a difference.

pub(super) mod tables;

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Result, bail, ensure};

pub use self::tables::VERSION;
use self::tables::{ADDED, ALL, REMOVED, Rollup, TABLES, TIME, TableSpec, WORD};

/// Error codes for an existing column: `ILLEGAL_COLUMN` of 18.16, and `DUPLICATE_COLUMN` of later
/// versions.
pub(super) const COLUMN_EXISTS: [u32; 2] = [44, 15];

/// Options of the schema.
#[derive(Clone, Debug)]
pub struct SchemaOptions {
    /// Name of the database.
    pub database: String,
    /// Name of the cluster, if the tables are distributed.
    pub cluster: Option<String>,
    /// Retention of rows, in days.
    pub days: u32,
    /// Retention of rollups, in days.
    pub rollup_days: u32,
}

/// Version of a server, and its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Major and minor version.
    pub version: (u32, u32),
}

impl Engine {
    /// Parses the result of `version()`.
    ///
    /// # Errors
    ///
    /// If it is not a version, or older than 18.16.
    pub fn of(version: &str) -> Result<Self> {
        let mut parts = version
            .trim()
            .split('.')
            .map(|part| part.parse::<u32>().ok());
        let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
            bail!("invalid server version: {version:?}");
        };
        ensure!(
            (major, minor) >= (18, 16),
            "unsupported server version: ClickHouse {major}.{minor}\nhelp: use 18.16 or newer"
        );
        Ok(Self {
            version: (major, minor),
        })
    }

    /// Returns whether tables can have a TTL. Without it, `fleet init` deletes expired partitions.
    #[must_use]
    pub fn has_ttl(self) -> bool {
        self.version >= (19, 6)
    }

    /// Returns the settings for statements that create tables.
    #[must_use]
    pub fn settings(self) -> &'static [(&'static str, &'static str)] {
        if self.version < (19, 11) {
            &[("allow_experimental_low_cardinality_type", "1")]
        } else {
            &[]
        }
    }

    /// Returns whether a view can run with the privileges of its creator. Otherwise it runs with those of
    /// the user that inserts. Recent versions do so only if the view specifies it
    /// (`ignore_empty_sql_security_in_create_view_query`).
    #[must_use]
    pub fn has_definers(self) -> bool {
        self.version >= (24, 2)
    }

    /// Returns whether SQL can create users.
    #[must_use]
    pub fn has_sql_users(self) -> bool {
        self.version >= (20, 5)
    }
}

/// Checks that the name of a database or cluster is an identifier that needs no quotes. These names come
/// from the administrator; no data of hosts becomes an identifier.
///
/// # Errors
///
/// If it is not such an identifier.
pub fn identifier(name: &str) -> Result<&str> {
    let is_valid = name.len() <= 64
        && name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && name
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || it == '_');
    ensure!(
        is_valid,
        "invalid name of a database or cluster: {name:?}\n\
         help: use 1 to 64 letters, digits or _, not starting with a digit"
    );
    Ok(name)
}

/// Returns the statements that upgrade a schema of version `from` (0: none) to [`VERSION`], in order. All
/// may be repeated.
///
/// # Errors
///
/// If the name of the database or the cluster is invalid.
pub fn statements(options: &SchemaOptions, engine: Engine, from: u32) -> Result<Vec<String>> {
    let database = identifier(&options.database)?;
    let cluster = options.cluster.as_deref().map(identifier).transpose()?;
    let on_cluster = on_cluster(cluster);
    let mut all = Vec::new();
    if from == 0 {
        all.push(format!(
            "CREATE DATABASE IF NOT EXISTS {database}{on_cluster}"
        ));
        let engine = replicated("ReplacingMergeTree", "schema_version", database, cluster);
        let suffix = if cluster.is_some() { "_local" } else { "" };
        all.push(format!(
            "CREATE TABLE IF NOT EXISTS {database}.schema_version{suffix}{on_cluster} \
             (version UInt32, time {TIME}) ENGINE = {engine} ORDER BY version"
        ));
        if let Some(cluster) = cluster {
            all.push(distributed(database, "schema_version", cluster, "version"));
        }
    }
    for spec in TABLES.iter().skip(from as usize).copied().flatten() {
        all.extend(table(spec, options, engine, database, cluster));
    }
    if from > 0 {
        let added = ADDED.iter().skip(from as usize).copied().flatten();
        for &(name, column, kind) in added.clone() {
            all.extend(add_column(name, column, kind, database, cluster));
        }
        // The view that fills such a table is created again, with the column.
        let names: BTreeSet<_> = added.map(|&(name, ..)| name).collect();
        let before = TABLES.iter().take(from as usize).copied().flatten();
        for spec in before.filter(|spec| names.contains(spec.name)) {
            if let Some(view) = view(spec, engine, database, cluster) {
                all.push(format!(
                    "DROP TABLE IF EXISTS {database}.{}_view{on_cluster}",
                    spec.name
                ));
                all.push(view);
            }
        }
        for spec in TABLES.iter().skip(from as usize).copied().flatten() {
            all.extend(fill(spec, database));
        }
        for name in REMOVED.iter().skip(from as usize).copied().flatten() {
            all.extend(drop_table(name, database, cluster));
        }
    }
    all.push(format!(
        "INSERT INTO {database}.schema_version (version, time) VALUES ({VERSION}, now())"
    ));
    Ok(all)
}

/// Returns the statements that create a table, and the view that fills it.
fn table(
    spec: &TableSpec,
    options: &SchemaOptions,
    engine: Engine,
    database: &str,
    cluster: Option<&str>,
) -> Vec<String> {
    let TableSpec {
        name, time, order, ..
    } = spec;
    let on_cluster = on_cluster(cluster);
    let local = if cluster.is_some() {
        format!("{name}_local")
    } else {
        (*name).to_owned()
    };
    // `ON CLUSTER` passes no settings on, which old servers need for `LowCardinality`.
    let word = if cluster.is_some() && !engine.settings().is_empty() {
        "String"
    } else {
        WORD
    };
    let columns = spec.columns.replace("{TIME}", TIME);
    let mut columns = columns.replace("{WORD}", word);
    for state in spec.rollup.iter().flat_map(Rollup::states) {
        let _ = write!(columns, ", {}", state.column());
    }
    let engine_text = replicated(spec.engine, name, database, cluster);
    let partition = spec.partition();
    let mut text = format!(
        "CREATE TABLE IF NOT EXISTS {database}.{local}{on_cluster} ({columns}) \
         ENGINE = {engine_text} PARTITION BY {partition}({time}) ORDER BY ({order})"
    );
    if engine.has_ttl() {
        let days = retention(spec, options);
        let _ = write!(text, " TTL {time} + INTERVAL {days} DAY");
    }
    let _ = write!(text, " SETTINGS index_granularity = {}", spec.granularity);
    let mut all = vec![text];
    all.extend(view(spec, engine, database, cluster));
    if let Some(cluster) = cluster {
        all.push(distributed_table(database, name, cluster));
    }
    all
}

/// Returns the retention of a table, in days.
const fn retention(spec: &TableSpec, options: &SchemaOptions) -> u32 {
    if spec.is_rollup {
        options.rollup_days
    } else {
        options.days
    }
}

/// Returns the statement that creates the view which fills a table from another.
fn view(spec: &TableSpec, engine: Engine, database: &str, cluster: Option<&str>) -> Option<String> {
    let (source, select) = spec.source?;
    let name = spec.name;
    let on_cluster = on_cluster(cluster);
    let suffix = if cluster.is_some() { "_local" } else { "" };
    let (select, group) = match &spec.rollup {
        Some(rollup) => (rollup.select(), format!(" GROUP BY {}", rollup.group())),
        None if select == ALL => {
            let columns = spec.columns.split(", ");
            let names: Vec<_> = columns.filter_map(|it| it.split(' ').next()).collect();
            (names.join(", "), String::new())
        }
        None => (select.to_owned(), String::new()),
    };
    let condition = if name == "shared_files" {
        " WHERE network != '' AND writers > 0"
    } else {
        ""
    };
    // A user that inserts into a table needs no privileges on the tables filled from it.
    let definer = if engine.has_definers() {
        " DEFINER = CURRENT_USER SQL SECURITY DEFINER"
    } else {
        ""
    };
    Some(format!(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.{name}_view{on_cluster} \
         TO {database}.{name}{suffix}{definer} AS SELECT {select} FROM \
         {database}.{source}{suffix}{condition}{group}"
    ))
}

/// Returns the statement that fills a new rollup from existing rows. Rows inserted meanwhile come through
/// the view as well, and count once.
fn fill(spec: &TableSpec, database: &str) -> Option<String> {
    let (source, rollup) = (spec.source?.0, spec.rollup.as_ref()?);
    let names = rollup.columns();
    let (select, group) = (rollup.select(), rollup.group());
    Some(format!(
        "INSERT INTO {database}.{} ({names}) SELECT {select} FROM {database}.{source} GROUP BY {group}",
        spec.name
    ))
}

/// Returns the statements that drop a table, after the view that fills it.
fn drop_table(name: &str, database: &str, cluster: Option<&str>) -> Vec<String> {
    let on_cluster = on_cluster(cluster);
    let drop = |suffix: &str| format!("DROP TABLE IF EXISTS {database}.{name}{suffix}{on_cluster}");
    let mut all = vec![drop("_view"), drop("")];
    if cluster.is_some() {
        all.push(drop("_local"));
    }
    all
}

/// Returns the statements that add a column to a table. If it exists they fail with a code of
/// [`COLUMN_EXISTS`], as 18.16 has no `ADD COLUMN IF NOT EXISTS`. A distributed table holds no data and is
/// created again: 18.16 refuses to alter it on a cluster.
fn add_column(
    name: &str,
    column: &str,
    kind: &str,
    database: &str,
    cluster: Option<&str>,
) -> Vec<String> {
    let add = |suffix: &str, on_cluster: &str| {
        format!("ALTER TABLE {database}.{name}{suffix}{on_cluster} ADD COLUMN {column} {kind}")
    };
    match cluster {
        None => vec![add("", "")],
        Some(cluster) => vec![
            add("_local", &on_cluster(Some(cluster))),
            format!("DROP TABLE IF EXISTS {database}.{name} ON CLUSTER {cluster}"),
            distributed_table(database, name, cluster),
        ],
    }
}

/// Returns the engine of a table, replicated if there is a cluster.
fn replicated(engine: &str, table: &str, database: &str, cluster: Option<&str>) -> String {
    if cluster.is_none() {
        return if engine.contains('(') {
            engine.to_owned()
        } else {
            format!("{engine}()")
        };
    }
    let (name, version) = engine.split_once('(').unwrap_or((engine, ")"));
    let version = version.trim_end_matches(')');
    let version = if version.is_empty() {
        String::new()
    } else {
        format!(", {version}")
    };
    format!(
        "Replicated{name}('/clickhouse/tables/{{shard}}/{database}/{table}', '{{replica}}'{version})"
    )
}

/// Returns the clause that runs a statement on all servers of a cluster.
pub(super) fn on_cluster(cluster: Option<&str>) -> String {
    cluster.map_or_else(String::new, |name| format!(" ON CLUSTER {name}"))
}

/// Returns the statement that distributes a table over a cluster: equal rows must go to the same server.
fn distributed_table(database: &str, name: &str, cluster: &str) -> String {
    let by = if name.starts_with("signature_") {
        "rand()"
    } else {
        "cityHash64(host)"
    };
    distributed(database, name, cluster, by)
}

fn distributed(database: &str, name: &str, cluster: &str, by: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {database}.{name} ON CLUSTER {cluster} AS \
         {database}.{name}_local ENGINE = Distributed({cluster}, {database}, {name}_local, {by})"
    )
}

/// Returns the tables that views read.
pub(super) fn source_tables() -> BTreeSet<&'static str> {
    let specs = TABLES.into_iter().flatten();
    specs.filter_map(|spec| Some(spec.source?.0)).collect()
}

/// A table and its retention.
#[derive(Clone, Copy, Debug)]
pub struct TableInfo {
    /// Name.
    pub name: &'static str,
    /// Retention, in days.
    pub days: u32,
    /// SQL function that maps a time to its partition: a number that increases with time.
    pub partition: &'static str,
}

/// Returns all tables that hold data.
pub fn tables(options: &SchemaOptions) -> impl Iterator<Item = TableInfo> {
    let specs = TABLES.into_iter().flatten();
    specs.map(|spec| TableInfo {
        name: spec.name,
        days: retention(spec, options),
        partition: spec.partition(),
    })
}

#[cfg(test)]
pub(super) mod tests;
