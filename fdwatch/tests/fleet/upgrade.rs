//! Upgrades of tables from earlier versions on real engines, also after an interrupted upgrade, without loss of rows.

use fdwatch_fleet::{
    rows::{FindingRow, HeartbeatRow, SharedFileRow, Table, add_line},
    schema::{self, SchemaOptions, VERSION},
    setup,
    source::{GroupBy, Query, Source},
    store::Client,
};

use crate::clickhouse::{ClickHouse, ENGINES, Engine};
use crate::rows::{NOW, client, runtime, wanted};

/// Returns the statements that made the tables of an earlier version.
fn statements_of(version: u32, engine: schema::Engine) -> Vec<String> {
    let rollups = include_str!("../fixtures/fleet_rollups_3.sql");
    let rollups = rollups
        .split_terminator(";\n")
        .filter(|_| version < 4)
        .map(str::to_owned);
    let all = schema::statements(&wanted(), engine, 0).unwrap();
    let is_newer = |it: &str| {
        let came = [("shared_files", 2), ("signature_", 4), ("host_", 4)];
        let mut came = came.into_iter();
        came.any(|(name, since)| version < since && it.contains(&format!("fdwatch.{name}")))
    };
    let all = all.into_iter().filter(|it| !is_newer(it)).chain(rollups);
    let all = all.map(|it| {
        let reported = [VERSION, version].map(|it| format!("VALUES ({it},"));
        let it = it.replace(&reported[0], &reported[1]);
        if version < 3 {
            it.replace(", files_left_out UInt64", "")
                .replace(", files_left_out", "")
        } else {
            it
        }
    });
    all.collect()
}

fn heartbeat(host: &str, files_left_out: u64) -> Vec<u8> {
    let mut lines = Vec::new();
    let row = HeartbeatRow {
        time: NOW - 60,
        host: host.into(),
        version: "0.1.0".into(),
        files_left_out,
        ..HeartbeatRow::default()
    };
    add_line(&mut lines, &row).unwrap();
    lines
}

#[test]
fn tables_of_earlier_versions_are_upgraded() {
    let runtime = runtime();
    for engine in ENGINES {
        for version in 1..VERSION {
            let directory = tempfile::tempdir().unwrap();
            let Some(server) = ClickHouse::start(engine, directory.path()) else {
                continue;
            };
            runtime.block_on(upgrade(&client(&server.url()), version));
        }
    }
}

async fn upgrade(client: &Client, version: u32) {
    let engine = setup::engine(client).await.unwrap();
    for statement in statements_of(version, engine) {
        assert!(
            version == 3 || !statement.contains("files_left_out"),
            "{statement}"
        );
        client.run(&statement, engine.settings()).await.unwrap();
    }
    // Rows of an agent newer than the tables: values without a column are dropped.
    client
        .insert(Table::Heartbeats, &heartbeat("before", 1))
        .await
        .unwrap();
    let mut lines = Vec::new();
    let row = FindingRow {
        time: NOW - 60,
        host: "web-1".into(),
        signature: "v1:ab".into(),
        severity: 2,
        fds: 3,
        ..FindingRow::default()
    };
    add_line(&mut lines, &row).unwrap();
    client.insert(Table::Findings, &lines).await.unwrap();
    // Interrupted before the version is recorded.
    let mut cut = schema::statements(&wanted(), engine, version).unwrap();
    assert!(cut.pop().unwrap().contains("schema_version"));
    for statement in &cut {
        client.run(statement, engine.settings()).await.unwrap();
    }
    let done = setup::init(client, &wanted()).await.unwrap();
    assert_eq!(done.from, version);
    assert_eq!(setup::init(client, &wanted()).await.unwrap().from, VERSION);
    client
        .insert(Table::Heartbeats, &heartbeat("since", 7))
        .await
        .unwrap();
    let mut lines = Vec::new();
    for host in ["a", "b"] {
        let row = SharedFileRow {
            time: NOW - 60,
            network: "nas:/x".into(),
            ino: 7,
            host: host.into(),
            ..SharedFileRow::default()
        };
        add_line(&mut lines, &row).unwrap();
    }
    client.insert(Table::SharedFiles, &lines).await.unwrap();
    let source = Source::Server(client.clone());
    let query = Query::since(NOW - 3600, NOW, 1);
    let hosts = source.hosts(&query).await.unwrap();
    let hosts: Vec<_> = hosts
        .iter()
        .map(|it| (&it.host[..], it.files_left_out))
        .collect();
    let before = u64::from(version == 3);
    assert_eq!(hosts, [("before", before), ("since", 7)]);
    assert_eq!(source.shared(&query).await.unwrap()[0].hosts, 2);
    // Newer rollups contain the earlier rows once, although the fill ran twice.
    for query in [query, Query::since(NOW - 30 * 86_400, NOW, 1)] {
        for by in [GroupBy::Signature, GroupBy::Host] {
            let found = source.duplicates(&query, by, 9).await.unwrap();
            assert_eq!(found.count, 1, "{by:?} {query:?}");
            let one = &found.shown[0];
            assert_eq!((one.hosts, one.findings, one.descriptors), (1, 1, 3));
        }
    }
    let tables = client
        .run("SHOW TABLES FROM fdwatch FORMAT TabSeparated", &[])
        .await
        .unwrap();
    for gone in ["hourly", "daily"] {
        assert!(!tables.contains(gone), "{tables}");
    }
}

#[test]
fn setup_deletes_only_expired_rows() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = ClickHouse::start(Engine::Debian, directory.path()) else {
        return;
    };
    runtime().block_on(async {
        let client = client(&server.url());
        let wanted = SchemaOptions {
            days: 30,
            rollup_days: 400,
            ..wanted()
        };
        setup::init(&client, &wanted).await.unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = u32::try_from(now.unwrap().as_secs()).unwrap();
        let mut lines = Vec::new();
        for (number, days) in [(1, 0), (2, 29), (3, 32), (4, 450)] {
            let row = FindingRow {
                time: now - days * 86_400,
                host: "web-1".into(),
                number,
                ..FindingRow::default()
            };
            add_line(&mut lines, &row).unwrap();
        }
        client.insert(Table::Findings, &lines).await.unwrap();
        let done = setup::init(&client, &wanted).await.unwrap();
        // Two days of findings; the expired day has an hourly, a daily and a host rollup.
        assert_eq!(done.deleted, 2 + 4);
        let left = |table: &str| {
            let query = format!("SELECT count() FROM fdwatch.{table}");
            server.query(&query).trim().parse::<u32>().unwrap()
        };
        assert_eq!(left("findings"), 2);
        for table in [
            "signature_hours",
            "host_hours",
            "signature_days",
            "host_days",
        ] {
            assert_eq!(left(table), 3, "{table}");
        }
        assert_eq!(setup::init(&client, &wanted).await.unwrap().deleted, 0);
    });
}
