//! Tests of the statements for single servers and clusters, and of upgrades.

use super::*;

pub(crate) fn options(cluster: Option<&str>) -> SchemaOptions {
    SchemaOptions {
        database: "fdwatch".into(),
        cluster: cluster.map(str::to_owned),
        days: 30,
        rollup_days: 400,
    }
}

#[test]
fn versions_are_parsed() {
    assert_eq!(Engine::of("18.16.1\n").unwrap().version, (18, 16));
    assert!(Engine::of("26.9.2.1").unwrap().has_ttl());
    assert!(Engine::of("18.14.9").is_err() && Engine::of("odd").is_err());
}

#[test]
fn invalid_identifiers_are_rejected() {
    for wrong in ["", "a b", "a;DROP", "1a", "a.b", "`a`", "ä"] {
        assert!(identifier(wrong).is_err(), "{wrong}");
    }
    let mut wrong = options(None);
    wrong.cluster = Some("x', 'y".into());
    assert!(statements(&wrong, Engine::of("26.1").unwrap(), 0).is_err());
}

#[test]
fn cluster_has_replicated_and_distributed_tables() {
    let all = statements(&options(Some("main")), Engine::of("26.9").unwrap(), 0).unwrap();
    let text = all.join(";\n") + ";\n";
    let expected = include_str!("../../../../tests/fixtures/fleet_cluster.sql");
    assert!(text == expected, "{text}");
}

#[test]
fn upgrade_creates_only_what_is_new() {
    let engine = Engine::of("26.9").unwrap();
    let all = statements(&options(None), engine, 1).unwrap();
    let begin = |at: usize| all[at].split(" (").next().unwrap();
    let expected = [
        "CREATE TABLE IF NOT EXISTS fdwatch.shared_files",
        "CREATE TABLE IF NOT EXISTS fdwatch.signature_hours",
        "ALTER TABLE fdwatch.heartbeats ADD COLUMN files_left_out UInt64",
        "ALTER TABLE fdwatch.hosts ADD COLUMN files_left_out UInt64",
        "DROP TABLE IF EXISTS fdwatch.hosts_view",
        "INSERT INTO fdwatch.signature_hours",
        "DROP TABLE IF EXISTS fdwatch.hourly_view",
        "DROP TABLE IF EXISTS fdwatch.hourly",
        "INSERT INTO fdwatch.schema_version",
    ];
    assert_eq!([0, 2, 10, 11, 12, 14, 18, 19, 26].map(begin), expected);
    assert!(all[1].contains("WHERE network != ''"));
    assert!(all[13].contains("dropped, files_left_out FROM fdwatch.heartbeats"));
    assert!(all[14].contains("FROM fdwatch.findings GROUP BY hour, signature"));
    assert_eq!(all.len(), 27, "{all:#?}");
    let all = statements(&options(None), engine, 3).unwrap();
    assert_eq!(all.len(), 8 + 4 + 8 + 1, "{all:#?}");
    assert_eq!(
        statements(&options(None), engine, VERSION).unwrap().len(),
        1
    );
}
