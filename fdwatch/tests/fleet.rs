//! The fleet's tables and questions, on real engines: what is asked gets the same answers from each,
//! and from rows in memory; and nothing is lost, and nothing counted twice, whatever breaks.

#![allow(clippy::unwrap_used, reason = "what helps tests may fail as these do")]

mod common;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use fdwatch::{
    agent::{
        config::Fleet,
        event::{Event, Key, Told},
        outlet::Counts,
        shared::Shared,
    },
    diagnose::{Cause, FileInfo, Finding, ProcessInfo, Severity},
    duplicates::Change,
    fleet::{
        memory::Rows,
        questions::{Asked, By, Found, Source},
        rows::{ExampleRow, FindingRow, HeartbeatRow, Table, add_line},
        schema::Wanted,
        setup,
        signature::{Signature, id},
        store::{Address, Client},
        writer,
    },
    model::{FileType, Moment},
    who::Who,
};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
};

use common::clickhouse::{ClickHouse, ENGINES, Engine, free_port};

/// Names that break what is not careful.
const HOSTILE: [&str; 5] = [
    "x'; DROP TABLE findings; --",
    "\"\\\r\n--fdwatch-asked-4d1f9c6a7e--\r\n",
    "\u{0}{signature}%s$(reboot)",
    "ä\u{202e}\u{1f600}",
    "{\"host\":\"other\"}\\",
];

const NOW: u32 = 1_790_000_000;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("there can be a runtime")
}

fn wanted() -> Wanted {
    Wanted {
        database: "fdwatch".into(),
        cluster: None,
        days: 3650,
        rollup_days: 3650,
    }
}

fn client(url: &str) -> Client {
    let address = Address {
        url: url.into(),
        database: "fdwatch".into(),
        ..Address::default()
    };
    Client::new(address).expect("the address is one")
}

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

/// A day of some hosts, also of such with hostile names.
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
        // What a deployment brought.
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
            .expect("rows can be written");
    }
}

#[test]
fn all_engines_and_memory_give_the_same_answers() {
    runtime().block_on(async {
        for engine in ENGINES {
            let directory = tempfile::tempdir().unwrap();
            let Some(server) = ClickHouse::start(engine, directory.path()) else {
                continue;
            };
            let client = client(&server.url());
            let done = setup::init(&client, &wanted())
                .await
                .expect("it can be set up");
            assert_eq!(done.from, 0);
            let again = setup::init(&client, &wanted()).await.expect("and again");
            assert_eq!(again.from, fdwatch::fleet::schema::VERSION);
            let rows = rows();
            // As after a connection that was cut before the answer: it counts once.
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

async fn same_answers(server: &Source, memory: &Source) {
    let day = Asked::since(NOW - 86_400, NOW, 1);
    for by in [By::Signature, By::Service, By::Host, By::Path] {
        for asked in [day.clone(), Asked::since(NOW - 7200, NOW, 3)] {
            let expected = memory.duplicates(&asked, by).await.unwrap();
            assert!(!expected.is_empty());
            let got = server.duplicates(&asked, by).await.unwrap();
            assert_eq!(got, expected, "{by:?} {asked:?}");
        }
    }
    let new = Asked::new_since(NOW - 3600, 86_400, NOW, 1);
    let found = server.duplicates(&new, By::Signature).await.unwrap();
    assert_eq!(found, memory.duplicates(&new, By::Signature).await.unwrap());
    assert_eq!(found.len(), 1);
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
        .duplicates(&day, By::Signature)
        .await
        .unwrap()
        .remove(0);
    for name in [&one.signature[..], &one.signature[..12]] {
        let asked = day.clone().of(name);
        let Found::One(got) = server.show(&asked).await.unwrap() else {
            panic!("{name} is not found");
        };
        let Found::One(expected) = memory.show(&asked).await.unwrap() else {
            panic!("{name} is not found in memory");
        };
        assert_eq!(got.all, expected.all);
        assert_eq!(got.hosts, expected.hosts);
        assert_eq!(got.example, expected.example);
    }
    // What is asked for is never a part of a statement.
    for name in HOSTILE {
        let found = server.show(&day.clone().of(name)).await.unwrap();
        assert!(matches!(found, Found::None));
    }
    let several = server.show(&day.clone().of("v1:")).await.unwrap();
    assert!(matches!(several, Found::Several(names) if names.len() == 4));
}

#[test]
fn who_may_only_read_can_ask_and_not_write() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = ClickHouse::start(Engine::Debian, directory.path()) else {
        return;
    };
    runtime().block_on(async {
        setup::init(&client(&server.url()), &wanted())
            .await
            .unwrap();
        let address = |password: &str| Address {
            url: server.url(),
            database: "fdwatch".into(),
            user: Some("reader".into()),
            password: Some(password.into()),
            ca: None,
        };
        let reader = Client::new(address("secret")).unwrap();
        let error = reader.insert(Table::Heartbeats, b"{}\n").await.unwrap_err();
        assert!(error.to_string().contains("readonly"), "{error}");
        let asked = Asked::since(NOW - 100, NOW, 1);
        let all = Source::Server(reader).duplicates(&asked, By::Host).await;
        assert_eq!(all.unwrap(), []);
        let wrong = Source::Server(Client::new(address("wrong")).unwrap());
        assert!(wrong.hosts(&asked).await.is_err());
    });
}

/// Lets connections through to a port, and cuts each after a while: one in the middle of a request, the
/// next when the server has answered and before that is passed on.
fn cutting_proxy(to: u16, cuts: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, from) in listener.incoming().flatten().enumerate() {
            let cuts = Arc::clone(&cuts);
            thread::spawn(move || pass(from, to, number, &cuts));
        }
    });
    port
}

fn pass(mut from: TcpStream, to: u16, number: usize, cuts: &AtomicUsize) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else {
        return;
    };
    let wait = Some(Duration::from_millis(20));
    let _ = (from.set_read_timeout(wait), server.set_read_timeout(wait));
    let mut buffer = [0; 4096];
    let (mut asked, mut answers, mut idle) = (0, 0, 0);
    loop {
        if let Ok(length) = from.read(&mut buffer) {
            asked += length;
            // In the middle of what is sent.
            if length == 0 || (number.is_multiple_of(2) && asked > 20_000) {
                cuts.fetch_add(usize::from(length > 0), Ordering::Relaxed);
                return;
            }
            if server.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
        match server.read(&mut buffer) {
            // The server has it, and no one is told.
            Ok(length) if length > 0 && !number.is_multiple_of(2) && answers == 3 => {
                cuts.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(0) => return,
            Ok(length) if from.write_all(&buffer[..length]).is_err() => return,
            Ok(_) => (answers, idle) = (answers + 1, 0),
            Err(_) => idle += 1,
        }
        if idle > 3000 {
            return;
        }
    }
}

fn config(port: u16, spool: &Path) -> Fleet {
    Fleet {
        url: format!("http://127.0.0.1:{port}"),
        database: "fdwatch".into(),
        user: None,
        password_file: None,
        ca_file: None,
        spool: spool.to_owned(),
        most_spool_bytes: 64 << 20,
        interval: Duration::from_millis(100),
        labels: vec![("env".into(), "test".into())],
    }
}

fn event(number: u64) -> Event {
    let finding = Finding {
        id: number,
        change: Change::Found,
        process: ProcessInfo {
            pid: 7,
            start_time: 5,
            comm: b"app".to_vec(),
            who: Who::of("/system.slice/app.service"),
            ..ProcessInfo::default()
        },
        file: FileInfo {
            path: Some(format!("/var/log/{number}.log\u{0}'\"\\\n").into_bytes()),
            dev: 1,
            ino: 2,
            file_type: FileType::Regular,
            deleted: false,
            pinned: None,
            process_path: None,
            host_path: None,
        },
        fds: Vec::new(),
        closed: Vec::new(),
        more_closed: 0,
        lifetime: None,
        times: 1,
        cause: Cause::Reopened,
        severity: Severity::Warning,
        advice: "",
        others: Vec::new(),
        closed_again: None,
        shared_by: Vec::new(),
    };
    Event {
        number,
        at: Moment(number),
        wall_time: u64::from(NOW) * 1_000_000_000,
        told: Told::Finding(Box::new(finding)),
        json: format!("{{\"number\":{number}}}"),
        key: Some(Key(u128::from(number))),
    }
}

/// An agent's writer, in a thread of its own.
struct Writer {
    sender: mpsc::Sender<Arc<Event>>,
    stop: watch::Sender<bool>,
    counts: Arc<Counts>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    fn start(config: Fleet, host: &str) -> Self {
        let (sender, receiver) = mpsc::channel(100_000);
        let (stop, stopped) = watch::channel(false);
        let counts = Arc::new(Counts::default());
        let (shared, _) = Shared::new();
        let (kept, host) = (Arc::clone(&counts), host.to_owned());
        let thread = thread::spawn(move || {
            runtime().block_on(writer::run(config, host, receiver, kept, shared, stopped));
        });
        Self {
            sender,
            stop,
            counts,
            thread,
        }
    }

    fn tell(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let event = Arc::new(event(number));
            self.sender.blocking_send(event).expect("there is a writer");
        }
    }

    fn wait_for(&self, delivered: u64) {
        common::eventually("all rows to be with the server", || {
            (self.counts.now()[2] >= delivered).then_some(())
        });
    }

    fn end(self) {
        self.stop.send(true).expect("there is a writer");
        self.thread.join().expect("the writer panicked");
    }
}

/// How many there are as the questions count, and as rows that are different.
fn counted(server: &ClickHouse) -> (u64, u64) {
    let asked = Asked::since(NOW - 3600, NOW, 1);
    let all = runtime().block_on(async {
        let source = Source::Server(client(&server.url()));
        source.duplicates(&asked, By::Service).await.unwrap()
    });
    let rows = server.query("SELECT uniqExact(host, run, number, time) FROM fdwatch.findings");
    let findings = all.iter().map(|one| one.findings).sum();
    (findings, rows.trim().parse().unwrap())
}

#[test]
fn nothing_is_lost_or_counted_twice_though_servers_die_and_connections_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut server) = ClickHouse::start(Engine::Debian, directory.path()) else {
        return;
    };
    runtime()
        .block_on(setup::init(&client(&server.url()), &wanted()))
        .unwrap();
    let cuts = Arc::new(AtomicUsize::new(0));
    let port = cutting_proxy(server.port, Arc::clone(&cuts));
    let spool = directory.path().join("spool");
    let writer = Writer::start(config(port, &spool), "web-1");
    for part in 0..20 {
        writer.tell(part * 500..(part + 1) * 500);
        thread::sleep(Duration::from_millis(150));
        if part == 7 {
            server.kill();
        }
        if part == 14 {
            server.restart();
        }
    }
    writer.wait_for(10_000);
    assert_eq!(writer.counts.now()[3], 0);
    writer.end();
    assert!(cuts.load(Ordering::Relaxed) > 0, "nothing was cut");
    assert_eq!(counted(&server), (10_000, 10_000));
}

#[test]
fn an_agent_that_is_killed_goes_on_where_its_spool_ends() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = ClickHouse::start(Engine::Debian, directory.path()) else {
        return;
    };
    runtime()
        .block_on(setup::init(&client(&server.url()), &wanted()))
        .unwrap();
    let spool = directory.path().join("spool");
    // Nobody is there to take anything.
    let writer = Writer::start(config(free_port(), &spool), "web-1");
    writer.tell(0..1000);
    let bytes = || {
        let entries = std::fs::read_dir(&spool).into_iter().flatten().flatten();
        entries
            .map(|it| it.metadata().map_or(0, |it| it.len()))
            .sum::<u64>()
    };
    common::eventually("rows in the spool", || (bytes() > 300_000).then_some(()));
    writer.end();
    // As if it was killed in the middle of a frame: half of one more.
    let mut segments: Vec<_> = std::fs::read_dir(&spool)
        .unwrap()
        .flatten()
        .map(|it| it.path())
        .collect();
    segments.sort();
    let last = segments
        .iter()
        .rfind(|it| it.extension().is_some())
        .unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(last).unwrap();
    file.write_all(b"#fdwatch-spool 1 findings 5000 01234567 9\n{\"time\":17")
        .unwrap();
    drop(file);
    let writer = Writer::start(config(server.port, &spool), "web-1");
    writer.tell(1000..1500);
    writer.wait_for(1500);
    writer.end();
    assert_eq!(counted(&server), (1500, 1500));
    assert_eq!(bytes(), 0);
}

#[test]
fn a_full_disk_keeps_nothing_from_the_server() {
    if !common::is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = ClickHouse::start(Engine::Debian, directory.path()) else {
        return;
    };
    runtime()
        .block_on(setup::init(&client(&server.url()), &wanted()))
        .unwrap();
    let small = directory.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mount = |arguments: &[&str], program: &str| {
        let mut command = std::process::Command::new(program);
        let done = command.args(arguments).arg(&small).status();
        assert!(done.is_ok_and(|it| it.success()), "{program}");
    };
    mount(&["-t", "tmpfs", "-o", "size=256k", "none"], "/bin/mount");
    let writer = Writer::start(config(server.port, &small.join("spool")), "web-1");
    writer.tell(0..5000);
    writer.wait_for(5000);
    let failed = writer.counts.now()[3];
    writer.end();
    mount(&[], "/bin/umount");
    assert_eq!(failed, 0);
    assert_eq!(counted(&server), (5000, 5000));
}

#[test]
fn signatures_are_the_same_from_findings_and_from_what_agents_tell() {
    let Told::Finding(finding) = event(5).told else {
        panic!("it is a finding");
    };
    let one = Signature::of(&finding, "web-1");
    assert_eq!(one.program.to_string(), "app.service");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = listener.local_addr().unwrap().to_string();
    let path = String::from_utf8(finding.file.path.clone().unwrap()).unwrap();
    let told = serde_json::json!([{
        "schema": 1, "type": "finding", "host": "web-1", "key": format!("{:032x}", 5),
        "since": "2026-09-21T13:00:00Z", "time": "2026-09-21T14:00:00Z", "change": "found", "id": 1,
        "process": {"pid": 7, "start_time": null, "ppid": 1, "comm": "app", "exe": null,
            "cmdline": null, "uid": 0, "cgroup": null, "unit": "app.service"},
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
                told.to_string()
            };
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let list = format!("{agent},127.0.0.1:1");
    let ask = |what: &[&str]| {
        let mut all = vec!["fleet"];
        all.extend(what);
        all.extend(["--agents", &list, "--json"]);
        common::run(common::fdwatch(all))
    };
    let found = ask(&["duplicates", "--since", "2026-09-21T12:00:00Z"]);
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    assert!(
        found.stderr.contains("127.0.0.1:1: cannot speak to"),
        "{}",
        found.stderr
    );
    let lines = found.json();
    assert_eq!(lines[0]["signature"], one.id);
    assert_eq!(lines[0]["hosts"], 1);
    assert_eq!(lines[0]["first"], "2026-09-21T13:00:00Z");
    let shown = ask(&["show", &one.id, "--since", "2026-09-21T12:00:00Z"]);
    assert_eq!(shown.json()[0]["example"]["frames"], "libx!f");
    let hosts = ask(&["hosts"]);
    let states: Vec<_> = hosts.json().iter().map(|it| it["state"].clone()).collect();
    assert_eq!(states, ["loses", "unreachable"]);
}
