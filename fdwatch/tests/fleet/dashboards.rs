//! Dashboards: the host dashboard queries only the selected hosts, and both ClickHouse engines execute the queries of
//! the fleet dashboard. `agent/metrics.rs` tests the host dashboard with Prometheus.

use std::{fs, path::Path};

use fdwatch_fleet::{
    rows::{FindingRow, HeartbeatRow, SharedFileRow, Table, add_line},
    setup,
    store::Client,
};
use fdwatch_test_support::parse;
use serde_json::Value;

use crate::clickhouse::{ClickHouse, ENGINES};
use crate::rows::{NOW, client, runtime, wanted};

fn dashboard(name: &str) -> Value {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(here.join("../packaging/grafana").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Returns panel titles with their queries.
fn queries(dashboard: &Value, field: &str) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (&panel["title"], &target[field]))
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all: Vec<_> = targets
        .map(|(title, query)| (text(title), text(query)))
        .collect();
    assert!(!all.is_empty());
    all
}

/// Returns the metric selectors in an expression.
fn selectors(expression: &str) -> Vec<&str> {
    let names = ["fdwatch_", "up{"].into_iter();
    let starts = names.flat_map(|name| expression.match_indices(name).map(|(at, _)| at));
    let starts = starts.filter(|&at| {
        let before = expression[..at].chars().next_back();
        !before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == '"')
    });
    let end = |at: usize| {
        let rest = &expression[at..];
        let name = rest.find(|it: char| !it.is_alphanumeric() && it != '_');
        let name = name.unwrap_or(rest.len());
        match rest[name..].strip_prefix('{').and_then(|it| it.find('}')) {
            Some(length) => &rest[..name + length + 2],
            None => &rest[..name],
        }
    };
    starts.map(end).collect()
}

#[test]
fn host_dashboard_selects_chosen_hosts() {
    let of_chosen = |it: &&str| it.contains("instance=~\"$host\"") && it.contains("job=~\"$job\"");
    let mut count = 0;
    for (title, expression) in queries(&dashboard("fdwatch-host.json"), "expr") {
        let selectors = selectors(&expression);
        assert!(!selectors.is_empty(), "{title}: {expression}");
        assert!(selectors.iter().all(of_chosen), "{title}: {expression}");
        count += selectors.len();
    }
    assert!(count > 50, "{count}");
    // The check detects a selector without host.
    let half = selectors("fdwatch_a{job=~\"$job\",instance=~\"$host\"} / on(x) fdwatch_b[5m]");
    assert_eq!(half.len(), 2);
    assert_eq!(half.iter().filter(|it| of_chosen(it)).count(), 1);
}

async fn fill(client: &Client) {
    let mut lines = [Vec::new(), Vec::new(), Vec::new()];
    for (number, host) in [(1, "web-1"), (2, "web-2")] {
        let finding = FindingRow {
            time: NOW - 600,
            host: host.into(),
            number,
            key: number,
            process: number,
            signature: "v1:ab".into(),
            program: "app.service".into(),
            cause: "reopened".into(),
            path: "/var/log/{n}.log".into(),
            severity: 2,
            fds: 3,
            ..FindingRow::default()
        };
        let heartbeat = HeartbeatRow {
            time: NOW - 60,
            host: host.into(),
            lost: number - 1,
            ..HeartbeatRow::default()
        };
        let file = SharedFileRow {
            time: NOW - 60,
            network: "nas:/x".into(),
            ino: 7,
            host: host.into(),
            file: "/x/log".into(),
            ..SharedFileRow::default()
        };
        add_line(&mut lines[0], &finding).unwrap();
        add_line(&mut lines[1], &heartbeat).unwrap();
        add_line(&mut lines[2], &file).unwrap();
    }
    let tables = [Table::Findings, Table::Heartbeats, Table::SharedFiles];
    for (table, lines) in tables.into_iter().zip(&lines) {
        client.insert(table, lines).await.unwrap();
    }
}

/// Parses a number, with quotes or without.
fn number(value: &Value) -> u64 {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    text.parse()
        .unwrap_or_else(|_| panic!("not a number: {value}"))
}

#[test]
fn fleet_dashboard_runs_on_both_engines() {
    let runtime = runtime();
    for engine in ENGINES {
        let directory = tempfile::tempdir().unwrap();
        let Some(server) = ClickHouse::start(engine, directory.path()) else {
            continue;
        };
        let client = client(&server.url());
        runtime.block_on(setup::init(&client, &wanted())).unwrap();
        runtime.block_on(fill(&client));
        for (title, query) in queries(&dashboard("fdwatch-fleet.json"), "rawSql") {
            // As the plugin grafana-clickhouse-datasource expands them.
            let query = query
                .replace("$__fromTime", &format!("toDateTime({})", NOW - 86_400))
                .replace("$__toTime", &format!("toDateTime({NOW})"));
            assert!(!query.contains('$'), "{title}: {query}");
            let answer = runtime.block_on(client.run(&format!("{query} FORMAT JSONEachRow"), &[]));
            let answer = answer.unwrap_or_else(|error| panic!("{engine:?}: {title}: {error}"));
            let rows: Vec<Value> = answer.lines().map(parse).collect();
            let first = rows
                .first()
                .unwrap_or_else(|| panic!("{engine:?}: {title}: nothing"));
            let expected: &[(&str, u64)] = match &title[..] {
                "Hosts with findings" => &[("hosts", 2)],
                "Bugs" => &[("bugs", 1)],
                "Silent hosts" => &[("silent", 2)],
                "Hosts that lose events" => &[("lose", 1)],
                "Findings by hour and severity" => &[("findings", 2)],
                "Bugs by hosts" => &[("hosts", 2), ("processes", 2), ("descriptors", 6)],
                "Hosts" => &[("dropped", 0)],
                "Files on network file systems that several hosts write" => {
                    &[("hosts", 2), ("ino", 7)]
                }
                _ => panic!("no check for panel {title}"),
            };
            for (column, value) in expected {
                assert_eq!(
                    number(&first[*column]),
                    *value,
                    "{engine:?}: {title}: {rows:?}"
                );
            }
        }
    }
}
