//! The tables in ClickHouse, and how they come to be: texts of SQL, and no I/O.
//!
//! Rows may be written more than once: a batch is sent again when its connection was cut before the
//! server could answer. So nothing here adds up numbers. Tables of rows replace what is the same row;
//! rollups hold sets of who was there, and the first and last time, which come out the same
//! however often a row is taken in. For that reason the server is not to leave out batches it knows
//! already (`insert_deduplicate=0`): it would leave them out of the rollups as well, though a rollup
//! may be what failed at the first try.
//!
//! The same texts are for 18.16 and for what came since; where they cannot be, [`Engine`] tells.

pub(super) mod tables;

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Result, bail, ensure};

use self::tables::{ADDED, ALL, GONE, Made, Rollup, TABLES, TIME, WORD};

/// What the schema here is. What a server has that is older is brought up to it.
pub const VERSION: u32 = 4;

/// The codes of errors that say that a column is there: of 18.16 (`ILLEGAL_COLUMN`), and of what came
/// since (`DUPLICATE_COLUMN`).
pub(super) const IS_THERE: [u32; 2] = [44, 15];

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The database.
    pub database: String,
    /// The cluster, if there is to be one.
    pub cluster: Option<String>,
    /// Days that rows are kept.
    pub days: u32,
    /// Days that rollups are kept.
    pub rollup_days: u32,
}

/// What the server is able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// The version's first two numbers.
    pub version: (u32, u32),
}

impl Engine {
    /// The one whose `version()` is this.
    ///
    /// # Errors
    ///
    /// If it is no version, or one that is too old.
    pub fn of(version: &str) -> Result<Self> {
        let mut parts = version
            .trim()
            .split('.')
            .map(|part| part.parse::<u32>().ok());
        let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
            bail!("the server tells a version that is none: {version:?}");
        };
        ensure!(
            (major, minor) >= (18, 16),
            "ClickHouse {major}.{minor} is too old: 18.16 or newer is needed"
        );
        Ok(Self {
            version: (major, minor),
        })
    }

    /// Whether rows can be deleted by their age. Where not, `fleet init` deletes old days when it is
    /// run.
    #[must_use]
    pub fn has_ttl(self) -> bool {
        self.version >= (19, 6)
    }

    /// Settings for statements that make tables.
    #[must_use]
    pub fn settings(self) -> &'static [(&'static str, &'static str)] {
        if self.version < (19, 11) {
            &[("allow_experimental_low_cardinality_type", "1")]
        } else {
            &[]
        }
    }

    /// Whether a view can have the rights of who made it. Where not, it has those of who inserts. Present
    /// ones can, and do it only if it is said (`ignore_empty_sql_security_in_create_view_query`).
    #[must_use]
    pub fn has_definers(self) -> bool {
        self.version >= (24, 2)
    }

    /// Whether there are users that SQL can make.
    #[must_use]
    pub fn has_sql_users(self) -> bool {
        self.version >= (20, 5)
    }
}

/// An identifier as SQL has it. Names of databases and clusters are those of whoever sets up the
/// server; nothing that a host tells becomes one.
///
/// # Errors
///
/// If it is none that needs no quotes.
pub fn identifier(name: &str) -> Result<&str> {
    let is_one = name.len() <= 64
        && name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && name
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || it == '_');
    ensure!(
        is_one,
        "{name:?} cannot be the name of a database or cluster here: letters, figures and _ only"
    );
    Ok(name)
}

/// The statements that bring a schema of version `from` (0: none) to this one, in order. All may be run
/// again.
///
/// # Errors
///
/// If a name is not one.
pub fn statements(wanted: &Wanted, engine: Engine, from: u32) -> Result<Vec<String>> {
    let database = identifier(&wanted.database)?;
    let cluster = wanted.cluster.as_deref().map(identifier).transpose()?;
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
    for made in TABLES.iter().skip(from as usize).copied().flatten() {
        all.extend(table(made, wanted, engine, database, cluster));
    }
    if from > 0 {
        let added = ADDED.iter().skip(from as usize).copied().flatten();
        for &(name, column, kind) in added.clone() {
            all.extend(add_column(name, column, kind, database, cluster));
        }
        // What fills such a table is made anew, and takes the column in.
        let names: BTreeSet<_> = added.map(|&(name, ..)| name).collect();
        let before = TABLES.iter().take(from as usize).copied().flatten();
        for made in before.filter(|made| names.contains(made.name)) {
            if let Some(view) = view(made, engine, database, cluster) {
                all.push(format!(
                    "DROP TABLE IF EXISTS {database}.{}_view{on_cluster}",
                    made.name
                ));
                all.push(view);
            }
        }
        for made in TABLES.iter().skip(from as usize).copied().flatten() {
            all.extend(fill(made, database));
        }
        for name in GONE.iter().skip(from as usize).copied().flatten() {
            all.extend(take_away(name, database, cluster));
        }
    }
    all.push(format!(
        "INSERT INTO {database}.schema_version (version, time) VALUES ({VERSION}, now())"
    ));
    Ok(all)
}

fn table(
    made: &Made,
    wanted: &Wanted,
    engine: Engine,
    database: &str,
    cluster: Option<&str>,
) -> Vec<String> {
    let Made {
        name, time, order, ..
    } = made;
    let on_cluster = on_cluster(cluster);
    let local = if cluster.is_some() {
        format!("{name}_local")
    } else {
        (*name).to_owned()
    };
    // What all servers of a cluster run has no settings with it, which old ones need for these.
    let word = if cluster.is_some() && !engine.settings().is_empty() {
        "String"
    } else {
        WORD
    };
    let columns = made.columns.replace("{TIME}", TIME);
    let mut columns = columns.replace("{WORD}", word);
    for state in made.rollup.iter().flat_map(Rollup::states) {
        let _ = write!(columns, ", {}", state.column());
    }
    let engine_text = replicated(made.engine, name, database, cluster);
    let part = made.part();
    let mut text = format!(
        "CREATE TABLE IF NOT EXISTS {database}.{local}{on_cluster} ({columns}) \
         ENGINE = {engine_text} PARTITION BY {part}({time}) ORDER BY ({order})"
    );
    if engine.has_ttl() {
        let days = if made.is_rollup {
            wanted.rollup_days
        } else {
            wanted.days
        };
        let _ = write!(text, " TTL {time} + INTERVAL {days} DAY");
    }
    let _ = write!(text, " SETTINGS index_granularity = {}", made.granularity);
    let mut all = vec![text];
    all.extend(view(made, engine, database, cluster));
    if let Some(cluster) = cluster {
        all.push(spread(database, name, cluster));
    }
    all
}

/// What fills a table from another, if anything does.
fn view(made: &Made, engine: Engine, database: &str, cluster: Option<&str>) -> Option<String> {
    let (of, select) = made.of?;
    let name = made.name;
    let on_cluster = on_cluster(cluster);
    let suffix = if cluster.is_some() { "_local" } else { "" };
    let (select, group) = match &made.rollup {
        Some(rollup) => (rollup.select(), format!(" GROUP BY {}", rollup.group())),
        None if select == ALL => {
            let columns = made.columns.split(", ");
            let names: Vec<_> = columns.filter_map(|it| it.split(' ').next()).collect();
            (names.join(", "), String::new())
        }
        None => (select.to_owned(), String::new()),
    };
    let only = if name == "shared_files" {
        " WHERE network != '' AND writers > 0"
    } else {
        ""
    };
    // Who inserts into a table needs no rights on what is made of it.
    let definer = if engine.has_definers() {
        " DEFINER = CURRENT_USER SQL SECURITY DEFINER"
    } else {
        ""
    };
    Some(format!(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.{name}_view{on_cluster} \
         TO {database}.{name}{suffix}{definer} AS SELECT {select} FROM \
         {database}.{of}{suffix}{only}{group}"
    ))
}

/// Fills a rollup that is new from the rows there are. What comes in at the same time comes by its view,
/// and counts once.
fn fill(made: &Made, database: &str) -> Option<String> {
    let (of, rollup) = (made.of?.0, made.rollup.as_ref()?);
    let names = rollup.columns();
    let (select, group) = (rollup.select(), rollup.group());
    Some(format!(
        "INSERT INTO {database}.{} ({names}) SELECT {select} FROM {database}.{of} GROUP BY {group}",
        made.name
    ))
}

/// Takes a table away, and first what fills it.
fn take_away(name: &str, database: &str, cluster: Option<&str>) -> Vec<String> {
    let on_cluster = on_cluster(cluster);
    let drop = |suffix: &str| format!("DROP TABLE IF EXISTS {database}.{name}{suffix}{on_cluster}");
    let mut all = vec![drop("_view"), drop("")];
    if cluster.is_some() {
        all.push(drop("_local"));
    }
    all
}

/// Adds a column to a table. Where it is there already this fails with one of [`IS_THERE`], as 18.16 knows
/// no `ADD COLUMN IF NOT EXISTS`. What spreads a cluster's rows has none itself, and is made anew: 18.16
/// refuses to alter it on all servers.
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
            spread(database, name, cluster),
        ],
    }
}

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

/// What has a statement run on all servers of a cluster, if there is one.
pub(super) fn on_cluster(cluster: Option<&str>) -> String {
    cluster.map_or_else(String::new, |name| format!(" ON CLUSTER {name}"))
}

/// What spreads a table's rows over a cluster: what is the same row must come to the same server.
fn spread(database: &str, name: &str, cluster: &str) -> String {
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

/// Tables that others are filled from, each once.
pub(super) fn filled_from() -> BTreeSet<&'static str> {
    let made = TABLES.into_iter().flatten();
    made.filter_map(|made| Some(made.of?.0)).collect()
}

/// A table that holds rows, and what of it is too old.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The table.
    pub name: &'static str,
    /// The days that rows are kept.
    pub days: u32,
    /// What names a day's part of it: a number that grows with time.
    pub part: &'static str,
}

/// All tables that hold rows: for servers without TTL, and who may read them.
pub fn kept(wanted: &Wanted) -> impl Iterator<Item = Kept> {
    let tables = TABLES.into_iter().flatten();
    tables.map(|made| Kept {
        name: made.name,
        days: if made.is_rollup {
            wanted.rollup_days
        } else {
            wanted.days
        },
        part: made.part(),
    })
}

#[cfg(test)]
pub(super) mod tests;
