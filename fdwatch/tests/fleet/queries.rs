//! The fleet's tables and queries on real engines: each engine, and rows in memory, give the same results.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use fdwatch_events::event::EventKind;
use fdwatch_fleet::{
    local_query::Rows,
    rows::{ExampleRow, FindingRow, HeartbeatRow, Table, add_line},
    schema::SchemaOptions,
    setup,
    signature::{Signature, id},
    source::{GroupBy, Query, SignatureMatch, Source},
    store::Client,
};
use fdwatch_test_support::{fdwatch, run};

use crate::clickhouse::{ClickHouse, ENGINES, Engine};
use crate::rows::{NOW, PROGRAM, client, event, runtime, wanted};

/// Names that break careless quoting.
const HOSTILE: [&str; 5] = [
    "x'; DROP TABLE findings; --",
    "\"\\\r\n--fdwatch-asked-4d1f9c6a7e--\r\n",
    "\u{0}{signature}%s$(reboot)",
    "ä\u{202e}\u{1f600}",
    "{\"host\":\"other\"}\\",
];

fn finding(host: &str, program: &str, number: u64, time: u32) -> FindingRow {
    let path = format!("/var/log/{program}/{{n}}.log");
    FindingRow {
        time,
        host: host.into(),
        labels: "env=prod".into(),
        run: u64::MAX,
        number,
        key: number % 7,
        process: number % 5,
        signature: id(program, "reopened", &path),
        program: program.into(),
        cause: "reopened".into(),
        path,
        severity: if number.is_multiple_of(3) { 3 } else { 2 },
        change: 1,
        fds: 2 + u32::try_from(number % 4).unwrap(),
        pid: 7,
        comm: program.into(),
        file: format!("/var/log/{program}/{number}.log"),
        network: if number.is_multiple_of(2) {
            "nas:/x"
        } else {
            ""
        }
        .into(),
        ino: number % 3,
        writers: 1,
    }
}

/// Returns a day's rows of some hosts, also with hostile names.
fn rows() -> Rows {
    let mut rows = Rows::default();
    let hosts = ["web-1", "web-2", "db-1"].into_iter().chain(HOSTILE);
    for (at, host) in hosts.enumerate() {
        let at = at as u64;
        for number in 0..40_u64 {
            let program = ["nginx.service", "supervisor:web", HOSTILE[1]][(number % 3) as usize];
            let time = NOW - 80_000 + u32::try_from(number * 2000 + at).unwrap();
            rows.findings.push(finding(host, program, number, time));
        }
        // Findings after a deployment.
        if at < 3 {
            rows.findings
                .push(finding(host, "new.service", 1000 + at, NOW - 600));
        }
        let frames = if at == 1 { "libapp!open_log\nmain" } else { "" };
        rows.examples.push(ExampleRow {
            time: NOW - 100 - u32::try_from(at).unwrap(),
            host: host.into(),
            signature: rows.findings[0].signature.clone(),
            frames: frames.into(),
            finding: format!("{{\"host\":{:?}}}", "h"),
        });
        for before in [120, 60] {
            rows.heartbeats.push(HeartbeatRow {
                time: NOW - before - u32::try_from(at * 100).unwrap(),
                host: host.into(),
                version: "0.1.0".into(),
                kernel: "6.1".into(),
                mode: "all".into(),
                lost: at,
                events: u64::MAX,
                cpu: 0.25,
                run: 5,
                ..HeartbeatRow::default()
            });
        }
    }
    rows
}

async fn insert(client: &Client, rows: &Rows) {
    let mut lines = [Vec::new(), Vec::new(), Vec::new()];
    for row in &rows.findings {
        add_line(&mut lines[0], row).unwrap();
    }
    for row in &rows.examples {
        add_line(&mut lines[1], row).unwrap();
    }
    for row in &rows.heartbeats {
        add_line(&mut lines[2], row).unwrap();
    }
    for (table, lines) in Table::ALL.into_iter().zip(lines) {
        client
            .insert(table, &lines)
            .await
            .expect("cannot write rows");
    }
}

#[test]
fn engines_and_memory_give_same_results() {
    runtime().block_on(async {
        for engine in ENGINES {
            let directory = tempfile::tempdir().unwrap();
            let Some(server) = ClickHouse::start(engine, directory.path()) else {
                continue;
            };
            let client = client(&server.url());
            let done = setup::init(&client, &wanted())
                .await
                .expect("cannot set up");
            assert_eq!(done.from, 0);
            let again = setup::init(&client, &wanted())
                .await
                .expect("no second response");
            assert_eq!(again.from, fdwatch_fleet::schema::VERSION);
            let rows = rows();
            // The same rows again, as after a connection that was cut before the response: they count once.
            insert(&client, &rows).await;
            insert(&client, &rows).await;
            same_answers(&Source::Server(client), &Source::Agents(rows)).await;
            assert_eq!(
                server.query("SELECT count() FROM fdwatch.schema_version"),
                "1\n"
            );
        }
    });
}

#[test]
fn setup_deletes_only_expired_partitions() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = ClickHouse::start(Engine::Debian, directory.path()) else {
        return;
    };
    runtime().block_on(async {
        let client = client(&server.url());
        setup::init(&client, &wanted()).await.unwrap();
        let day = 24 * 3600;
        let now = u32::try_from(fdwatch_host::proc::wall_time() / 1_000_000_000).unwrap();
        let mut rows = Rows::default();
        for (number, days) in [0, 1, 29, 31, 32, 399, 440].into_iter().enumerate() {
            let time = now - days * day;
            rows.findings
                .push(finding("web-1", "app", number as u64, time));
        }
        insert(&client, &rows).await;
        let wanted = SchemaOptions {
            days: 30,
            rollup_days: 400,
            ..wanted()
        };
        let done = setup::init(&client, &wanted).await.unwrap();
        assert!(done.deleted > 0);
        // Tables by day, and shared files, which are partitioned by month.
        for (table, left) in [("findings", 3), ("signature_hours", 6), ("host_hours", 6)] {
            let count = server.query(&format!("SELECT count() FROM fdwatch.{table}"));
            assert_eq!(count.trim(), left.to_string(), "{table}");
        }
        let again = setup::init(&client, &wanted).await.unwrap();
        assert_eq!(again.deleted, 0);
    });
}

async fn same_answers(server: &Source, memory: &Source) {
    let day = Query::since(NOW - 86_400, NOW, 1);
    for by in [
        GroupBy::Signature,
        GroupBy::Service,
        GroupBy::Host,
        GroupBy::Path,
    ] {
        for query in [day.clone(), Query::since(NOW - 7200, NOW, 3)] {
            // With all rows, and with a limit.
            for max in [100, 2] {
                let expected = memory.duplicates(&query, by, max).await.unwrap();
                assert!(!expected.shown.is_empty());
                let got = server.duplicates(&query, by, max).await.unwrap();
                assert_eq!(got, expected, "{by:?} {query:?}");
            }
        }
    }
    let new = Query::new_since(NOW - 3600, 86_400, NOW, 1);
    let found = server
        .duplicates(&new, GroupBy::Signature, 9)
        .await
        .unwrap();
    let expected = memory
        .duplicates(&new, GroupBy::Signature, 9)
        .await
        .unwrap();
    assert_eq!(found, expected);
    assert_eq!(found.count, 1);
    let found = found.shown;
    assert_eq!((&found[0].program[..], found[0].hosts), ("new.service", 3));
    let hosts = server.hosts(&day).await.unwrap();
    let mut expected = memory.hosts(&day).await.unwrap();
    expected.sort_by(|one, other| one.host.cmp(&other.host));
    assert_eq!(hosts, expected);
    assert_eq!(hosts.len(), 3 + HOSTILE.len());
    let shared = server.shared(&day).await.unwrap();
    assert_eq!(shared, memory.shared(&day).await.unwrap());
    assert_eq!(shared.len(), 3);
    let one = memory
        .duplicates(&day, GroupBy::Signature, 1)
        .await
        .unwrap()
        .shown
        .remove(0);
    for name in [&one.signature[..], &one.signature[..12]] {
        let query = day.clone().of(name);
        let SignatureMatch::One(got) = server.show(&query).await.unwrap() else {
            panic!("{name} not found");
        };
        let SignatureMatch::One(expected) = memory.show(&query).await.unwrap() else {
            panic!("{name} not found in memory");
        };
        assert_eq!(got.all, expected.all);
        assert_eq!(got.hosts, expected.hosts);
        assert_eq!(got.example, expected.example);
    }
    // No value becomes part of a statement.
    for name in HOSTILE {
        let found = server.show(&day.clone().of(name)).await.unwrap();
        assert!(matches!(found, SignatureMatch::None));
    }
    let several = server.show(&day.clone().of("v1:")).await.unwrap();
    assert!(matches!(several, SignatureMatch::Several(names) if names.len() == 4));
}

#[test]
fn signatures_match_between_agent_and_server() {
    let EventKind::Finding(finding) = event(5).kind else {
        panic!("not a finding");
    };
    let one = Signature::of(&finding, "web-1");
    assert_eq!(one.program.to_string(), PROGRAM);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = listener.local_addr().unwrap().to_string();
    let path = String::from_utf8(finding.file.path.clone().unwrap()).unwrap();
    let reported = serde_json::json!([{
        "schema": 1, "type": "finding", "host": "web-1", "key": format!("{:032x}", 5),
        "since": "2026-09-21T13:00:00Z", "time": "2026-09-21T14:00:00Z", "change": "found", "id": 1,
        "process": {"pid": 7, "start_time": null, "ppid": 1, "comm": "app", "exe": null,
            "cmdline": null, "uid": 0, "cgroup": null, "unit": PROGRAM},
        "file": {"path": path, "dev": "8:1", "ino": 2, "type": "regular", "deleted": false},
        "fds": [{"fd": 3, "access": "w", "append": false, "cloexec": true,
            "description": "00000000000000aa", "origin": "openat", "opened_at": null, "tid": null,
            "stack": [{"address": "1f", "symbol": "f", "module": "/lib/libx.so.1"}]}],
        "closed": [], "more_closed": 0, "lifetime": null, "times": 1,
        "cause": "reopened", "severity": "warning", "advice": "",
    }]);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap_or(0);
            let is_health = buffer[..length].starts_with(b"GET /v1/health");
            let body = if is_health {
                r#"{"host":"web-1","version":"0.1.0","lost":3}"#.to_owned()
            } else {
                reported.to_string()
            };
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let list = format!("{agent},127.0.0.1:1");
    let query = |arguments: &[&str]| {
        let mut all = vec!["fleet"];
        all.extend(arguments);
        all.extend(["--agents", &list, "--json"]);
        run(fdwatch(all))
    };
    let found = query(&["duplicates", "--since", "2026-09-21T12:00:00Z"]);
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    assert!(
        found.stderr.contains("127.0.0.1:1: connection to"),
        "{}",
        found.stderr
    );
    let lines = found.json();
    assert_eq!(lines[0]["signature"], one.id);
    assert_eq!(lines[0]["hosts"], 1);
    assert_eq!(lines[0]["first"], "2026-09-21T13:00:00Z");
    let shown = query(&["show", &one.id, "--since", "2026-09-21T12:00:00Z"]);
    assert_eq!(shown.json()[0]["example"]["frames"], "libx!f");
    let hosts = query(&["hosts"]);
    let states: Vec<_> = hosts.json().iter().map(|it| it["state"].clone()).collect();
    assert_eq!(states, ["loses", "unreachable"]);
}
