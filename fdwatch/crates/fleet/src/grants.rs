//! Who may do what on the server: texts for its administrator, and no I/O.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    rows::Table,
    schema::{Engine, Kept, Wanted, filled_from, identifier, kept, on_cluster},
};

/// Users that may do what agents need, and what questions need, and nothing else.
///
/// # Errors
///
/// If the database's name is not one.
pub fn grants(wanted: &Wanted, engine: Engine) -> Result<String> {
    let database = identifier(&wanted.database)?;
    if !engine.has_sql_users() {
        return Ok(format!(
            "<!-- ClickHouse {}.{} has no users in SQL: this belongs into users.xml, with hashes of\n     \
             passwords of your own (printf %s PASSWORD | sha256sum). There are no privileges by table\n     \
             there; a user that writes may read and make tables of this database too. -->\n\
             <yandex>\n  <profiles>\n    <fdwatch_reader><readonly>1</readonly></fdwatch_reader>\n    \
             <fdwatch_writer><readonly>0</readonly></fdwatch_writer>\n  </profiles>\n  <users>\n{}{}  \
             </users>\n</yandex>\n",
            engine.version.0,
            engine.version.1,
            old_user("fdwatch_writer", database),
            old_user("fdwatch_reader", database),
        ));
    }
    let cluster = wanted.cluster.as_deref().map(identifier).transpose()?;
    let on_cluster = on_cluster(cluster);
    let mut text = format!(
        "-- Replace the passwords. Agents write as fdwatch_writer; questions and Grafana read as\n\
         -- fdwatch_reader.\n\
         CREATE USER IF NOT EXISTS fdwatch_writer{on_cluster} IDENTIFIED WITH sha256_password BY 'CHANGE ME';\n\
         CREATE USER IF NOT EXISTS fdwatch_reader{on_cluster} IDENTIFIED WITH sha256_password BY 'CHANGE ME' \
         SETTINGS readonly = 1;\n"
    );
    // A server asks its own part of a table that is spread as the same user.
    let parts: &[&str] = match cluster {
        Some(_) => &["", "_local"],
        None => &[""],
    };
    let mut grant = |what: &str, table: &str, user: &str| {
        for part in parts {
            let _ = writeln!(
                text,
                "GRANT{on_cluster} {what} ON {database}.{table}{part} TO {user};"
            );
        }
    };
    for table in Table::ALL {
        grant("INSERT", table.name(), "fdwatch_writer");
    }
    if !engine.has_definers() {
        // Views read with the rights of who inserts.
        for table in filled_from() {
            grant("SELECT", table, "fdwatch_writer");
        }
    }
    grant("SELECT", "schema_version", "fdwatch_reader");
    for Kept { name, .. } in kept(wanted) {
        grant("SELECT", name, "fdwatch_reader");
    }
    // What a question asks for comes as a table of one row.
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
    use super::{super::schema::tests::wanted, *};

    #[test]
    fn users_may_do_what_they_need() {
        let new = grants(&wanted(None), Engine::of("26.9").unwrap()).unwrap();
        assert!(new.contains("GRANT INSERT ON fdwatch.findings TO fdwatch_writer;"));
        let reads = "GRANT SELECT ON fdwatch.findings TO fdwatch_writer;";
        assert!(!new.contains(reads));
        let before_definers = grants(&wanted(None), Engine::of("24.1").unwrap()).unwrap();
        assert!(before_definers.contains(reads));
        let spread = grants(&wanted(Some("main")), Engine::of("26.9").unwrap()).unwrap();
        let part = "GRANT ON CLUSTER main INSERT ON fdwatch.findings_local TO fdwatch_writer;";
        assert!(spread.contains(part), "{spread}");
        let old = grants(&wanted(None), Engine::of("18.16").unwrap()).unwrap();
        assert!(old.contains("<readonly>1</readonly>"), "{old}");
    }
}
