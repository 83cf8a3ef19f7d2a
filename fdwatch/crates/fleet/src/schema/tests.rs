//! Statements for each server, alone and in a cluster, from nothing and from earlier versions.

use super::*;

pub(crate) fn wanted(cluster: Option<&str>) -> Wanted {
    Wanted {
        database: "fdwatch".into(),
        cluster: cluster.map(str::to_owned),
        days: 30,
        rollup_days: 400,
    }
}

#[test]
fn versions_are_told_apart() {
    assert_eq!(Engine::of("18.16.1\n").unwrap().version, (18, 16));
    assert!(Engine::of("26.9.2.1").unwrap().has_ttl());
    assert!(Engine::of("18.14.9").is_err() && Engine::of("odd").is_err());
}

#[test]
fn only_what_is_an_identifier_comes_into_a_statement() {
    for wrong in ["", "a b", "a;DROP", "1a", "a.b", "`a`", "ä"] {
        assert!(identifier(wrong).is_err(), "{wrong}");
    }
    let mut wrong = wanted(None);
    wrong.cluster = Some("x', 'y".into());
    assert!(statements(&wrong, Engine::of("26.1").unwrap(), 0).is_err());
}

#[test]
fn a_cluster_has_replicas_and_what_spreads_rows() {
    let all = statements(&wanted(Some("main")), Engine::of("26.9").unwrap(), 0).unwrap();
    let text = all.join(";\n") + ";\n";
    let expected = include_str!("../../../tests/fixtures/fleet_cluster.sql");
    assert!(text == expected, "{text}");
}

#[test]
fn an_upgrade_makes_what_came_since_and_nothing_else() {
    let engine = Engine::of("26.9").unwrap();
    let all = statements(&wanted(None), engine, 1).unwrap();
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
    let all = statements(&wanted(None), engine, 3).unwrap();
    assert_eq!(all.len(), 8 + 4 + 8 + 1, "{all:#?}");
    assert_eq!(statements(&wanted(None), engine, VERSION).unwrap().len(), 1);
}
