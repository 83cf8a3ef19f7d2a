//! SQL or XML that creates the server's users with the privileges that agents and queries need.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    rows::Table,
    schema::{Engine, SchemaOptions, TableInfo, identifier, on_cluster, source_tables, tables},
};

/// Returns the statements for a user that writes (agents) and one that reads (queries, Grafana), with no
/// other privileges.
///
/// # Errors
///
/// If the name of the database or the cluster is invalid.
pub fn grants(options: &SchemaOptions, engine: Engine) -> Result<String> {
    let database = identifier(&options.database)?;
    if !engine.has_sql_users() {
        return Ok(format!(
            "<!-- ClickHouse {}.{} has no SQL users: add this to users.xml, with hashes of your own\n     \
             passwords (printf %s PASSWORD | sha256sum). It has no privileges per table: the\n     \
             writer can also read and create tables of this database. -->\n\
             <yandex>\n  <profiles>\n    <fdwatch_reader><readonly>1</readonly></fdwatch_reader>\n    \
             <fdwatch_writer><readonly>0</readonly></fdwatch_writer>\n  </profiles>\n  <users>\n{}{}  \
             </users>\n</yandex>\n",
            engine.version.0,
            engine.version.1,
            old_user("fdwatch_writer", database),
            old_user("fdwatch_reader", database),
        ));
    }
    let cluster = options.cluster.as_deref().map(identifier).transpose()?;
    let on_cluster = on_cluster(cluster);
    let mut text = format!(
        "-- Replace the passwords. Agents write as fdwatch_writer; queries and Grafana read as\n\
         -- fdwatch_reader.\n\
         CREATE USER IF NOT EXISTS fdwatch_writer{on_cluster} IDENTIFIED WITH sha256_password BY 'CHANGE ME';\n\
         CREATE USER IF NOT EXISTS fdwatch_reader{on_cluster} IDENTIFIED WITH sha256_password BY 'CHANGE ME' \
         SETTINGS readonly = 1;\n"
    );
    // A distributed table is read on each server as the same user.
    let suffixes: &[&str] = match cluster {
        Some(_) => &["", "_local"],
        None => &[""],
    };
    let mut grant = |privilege: &str, table: &str, user: &str| {
        for suffix in suffixes {
            let _ = writeln!(
                text,
                "GRANT{on_cluster} {privilege} ON {database}.{table}{suffix} TO {user};"
            );
        }
    };
    for table in Table::ALL {
        grant("INSERT", table.name(), "fdwatch_writer");
    }
    if !engine.has_definers() {
        // Views read with the privileges of the user that inserts.
        for table in source_tables() {
            grant("SELECT", table, "fdwatch_writer");
        }
    }
    grant("SELECT", "schema_version", "fdwatch_reader");
    for TableInfo { name, .. } in tables(options) {
        grant("SELECT", name, "fdwatch_reader");
    }
    // The parameters of a query are sent as a temporary table.
    let _ = writeln!(
        text,
        "GRANT{on_cluster} CREATE TEMPORARY TABLE ON *.* TO fdwatch_reader;"
    );
    Ok(text)
}

fn old_user(name: &str, database: &str) -> String {
    format!(
        "    <{name}>\n      <password_sha256_hex>CHANGE ME</password_sha256_hex>\n      \
         <networks><ip>::/0</ip></networks>\n      <profile>{name}</profile>\n      \
         <quota>default</quota>\n      \
         <allow_databases><database>{database}</database></allow_databases>\n    </{name}>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{super::schema::tests::options, *};

    #[test]
    fn grants_cover_all_versions() {
        let new = grants(&options(None), Engine::of("26.9").unwrap()).unwrap();
        assert!(new.contains("GRANT INSERT ON fdwatch.findings TO fdwatch_writer;"));
        let reads = "GRANT SELECT ON fdwatch.findings TO fdwatch_writer;";
        assert!(!new.contains(reads));
        let before_definers = grants(&options(None), Engine::of("24.1").unwrap()).unwrap();
        assert!(before_definers.contains(reads));
        let spread = grants(&options(Some("main")), Engine::of("26.9").unwrap()).unwrap();
        let part = "GRANT ON CLUSTER main INSERT ON fdwatch.findings_local TO fdwatch_writer;";
        assert!(spread.contains(part), "{spread}");
        let old = grants(&options(None), Engine::of("18.16").unwrap()).unwrap();
        assert!(old.contains("<readonly>1</readonly>"), "{old}");
    }
}
