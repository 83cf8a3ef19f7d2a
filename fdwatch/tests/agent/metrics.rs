//! Metrics in Prometheus: `promtool` and a scraping server accept the text; alert rules, dashboard and documents use
//! existing names.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use axum::{Router, http::header, routing::get};
use fdwatch_agent::{
    config,
    metrics::{self, Format, encode_as, families},
    sink::{Sink, SinkStats},
    snapshot::Snapshot,
    state::AgentState,
};
use fdwatch_core::model::Moment;
use fdwatch_events::ProcessRow;
use fdwatch_test_support::{Agent, DEADLINE, Puppet, agent::free_port, bpf, eventually, program};
use serde_json::Value;

const PROMETHEUS: &str = "/usr/bin/prometheus";
const PROMTOOL: &str = "/usr/bin/promtool";

/// Returns the path of a file of the project.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Builds the state of an agent in which every metric has a value.
fn shared() -> Arc<AgentState> {
    let (shared, _questions) = AgentState::new();
    let names = [&b"nginx"[..], b"a\"} 1\nup 0 #", b"\xff\\", b"{}=,"];
    let rows = (1_u32..).zip(names).map(|(pid, comm)| ProcessRow {
        pid,
        comm: comm.to_vec(),
        unit: Some("x.service".to_owned()),
        descriptors: pid as usize * 100,
        limit: Some(1024),
        duplicate_files: 1,
        duplicate_descriptors: 2,
        ..ProcessRow::default()
    });
    let mut view = Snapshot {
        at: Moment(1),
        wall_time: 1_700_000_000_000_000_000,
        processes: rows.collect(),
        more_processes: 7,
        more_descriptors: 70,
        ..Snapshot::default()
    };
    view.stats.found = 3;
    shared.set_view(view);
    let sinks = ["history", "alerts", "otlp", "fleet"];
    let sinks = sinks.map(|name| Sink::new(name, 1, Arc::new(SinkStats::default())).0);
    shared.set_sinks(sinks.into());
    shared
}

/// Returns all metric names, as Prometheus sees them.
fn names() -> BTreeSet<String> {
    let families = families(&shared(), &config::Metrics::default());
    families.iter().map(metrics::Family::full_name).collect()
}

/// Returns the metric names in a text: words with the prefix `fdwatch_`, not preceded by a character of a
/// name. Wildcards such as `fdwatch_*` are skipped.
fn mentioned(text: &str) -> BTreeSet<String> {
    let in_name = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == ':';
    let words = text.split(|it: char| !in_name(it));
    let words = words.filter(|word| word.starts_with("fdwatch_") && !word.ends_with('_'));
    words.map(str::to_owned).collect()
}

fn promtool(arguments: &[&str], directory: &Path, input: &str) -> (bool, String) {
    let mut child = Command::new(PROMTOOL)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let message = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(message).unwrap())
}

#[test]
fn promtool_accepts_metrics() {
    if !program(PROMTOOL) {
        return;
    }
    let text = encode_as(Format::Text, &shared(), &config::Metrics::default());
    let check = |text: &str| promtool(&["check", "metrics"], Path::new("/"), text);
    assert_eq!(check(&text), (true, String::new()));
    // promtool detects a fault in a wrong text.
    let (is_well, message) = check("# TYPE fdwatch_a counter\nfdwatch_a 1\n");
    assert!(!is_well && message.contains("fdwatch_a"), "{message}");
}

#[test]
fn alert_rules_pass_their_tests() {
    if !program(PROMTOOL) {
        return;
    }
    let directory = file("packaging/prometheus");
    for arguments in [
        ["check", "rules", "fdwatch.rules.yml"],
        ["test", "rules", "fdwatch.rules.test.yml"],
    ] {
        let (is_well, message) = promtool(&arguments, &directory, "");
        assert!(is_well, "{message}");
    }
    // Each rule has a test in which it fires.
    let tests = read("packaging/prometheus/fdwatch.rules.test.yml");
    let rules = read("packaging/prometheus/fdwatch.rules.yml");
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() >= 10);
    for alert in alerts {
        let fires = format!("alertname: {alert}\n        exp_alerts:\n");
        assert!(tests.contains(&fires), "no test in which {alert} fires");
    }
}

#[test]
fn used_and_documented_metrics_exist() {
    let names = names();
    let rules = mentioned(&read("packaging/prometheus/fdwatch.rules.yml"));
    let tests = mentioned(&read("packaging/prometheus/fdwatch.rules.test.yml"));
    let dashboard = mentioned(&read("packaging/grafana/fdwatch-host.json"));
    let documentation = mentioned(&read("docs/metrics.md"));
    for (what, used) in [
        ("rules", &rules),
        ("tests", &tests),
        ("dashboard", &dashboard),
        ("docs", &documentation),
    ] {
        let unknown: Vec<_> = used.difference(&names).collect();
        assert!(
            !used.is_empty() && unknown.is_empty(),
            "{what}: {unknown:?}"
        );
    }
    for (what, used) in [("dashboard", &dashboard), ("docs", &documentation)] {
        let missing: Vec<_> = names.difference(used).collect();
        assert!(missing.is_empty(), "{what}: unknown metrics {missing:?}");
    }
    // The check detects an unknown name.
    let wrong = mentioned("sum(rate(fdwatch_no_such_total[5m])) and fdwatch_*");
    assert_eq!(
        wrong.into_iter().collect::<Vec<_>>(),
        ["fdwatch_no_such_total"]
    );
}

#[test]
fn dashboard_is_valid_for_grafana() {
    let dashboard: Value =
        serde_json::from_str(&read("packaging/grafana/fdwatch-host.json")).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let of = |it: &Value| {
        (
            it["name"].as_str().unwrap().to_owned(),
            it["type"].as_str().unwrap().to_owned(),
        )
    };
    let variables: Vec<_> = variables.iter().map(of).collect();
    assert!(variables.contains(&("datasource".into(), "datasource".into())));
    assert!(variables.contains(&("host".into(), "query".into())));
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = &panel["gridPos"];
        let place = |key: &str| place[key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24 && place("h") > 0);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(
                    places.insert((x, y)),
                    "{} overlaps another panel",
                    panel["title"]
                );
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            assert!(expression.contains("instance=~\"$host\""), "{expression}");
        }
    }
}

/// Returns every expression of the dashboard, with variables replaced.
fn dashboard_expressions() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&read("packaging/grafana/fdwatch-host.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    let replaced = expressions.map(|it| {
        it.replace("$__rate_interval", "5s")
            .replace("$job", "fdwatch")
            .replace("$host", ".*")
    });
    replaced.collect()
}

/// A process that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A real Prometheus that scrapes one target and has the alert rules.
struct Prometheus {
    address: SocketAddr,
    _process: Running,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `/metrics` of this address once a second.
    fn scrape(target: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rules = file("packaging/prometheus/fdwatch.rules.yml");
        let rules = rules.canonicalize().unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n- {{job_name: fdwatch, static_configs: [{{targets: ['{target}']}}]}}\n",
            rules.display()
        );
        let config_file = directory.path().join("prometheus.yml");
        fs::write(&config_file, config).unwrap();
        let address = free_address();
        let process = Command::new(PROMETHEUS)
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            address,
            _process: Running(process),
            _directory: directory,
        }
    }

    /// Waits until an expression has samples.
    fn samples(&self, expression: &str) -> Vec<Value> {
        eventually(expression, || {
            let samples = self.query(expression)?;
            (!samples.is_empty()).then_some(samples)
        })
    }

    /// Returns the current samples of an expression; none if Prometheus does not answer yet.
    fn query(&self, expression: &str) -> Option<Vec<Value>> {
        let answer = self.get(&format!("/api/v1/query?query={}", percent(expression)))?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = &answer["data"]["result"];
        Some(result.as_array().unwrap().clone())
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let is_ready = !head.starts_with("HTTP/1.0 503");
        is_ready
            .then(|| serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn value(sample: &Value) -> f64 {
    sample["value"][1].as_str().unwrap().parse().unwrap()
}

/// Asserts the result of scraping this address.
fn assert_is_scraped(target: SocketAddr) {
    let prometheus = Prometheus::scrape(target);
    let up = prometheus.samples("up == 1");
    assert_eq!(up.len(), 1);
    let got: BTreeSet<_> = prometheus
        .samples("{__name__=~\"fdwatch_.+\"}")
        .iter()
        .map(|sample| sample["metric"]["__name__"].as_str().unwrap().to_owned())
        .collect();
    let expected = names();
    let unknown: Vec<_> = got.difference(&expected).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for name in [
        "fdwatch_build_info",
        "fdwatch_events_total",
        "fdwatch_process_descriptors",
        "fdwatch_findings",
    ] {
        assert!(got.contains(name), "{name} of {got:?}");
    }
    // Type and help come from the text.
    let about = prometheus
        .get("/api/v1/targets/metadata?metric=fdwatch_cpu_seconds")
        .unwrap();
    assert_eq!(about["data"][0]["type"], "counter");
    assert_eq!(about["data"][0]["unit"], "seconds");
    for expression in dashboard_expressions() {
        assert!(prometheus.query(&expression).is_some(), "{expression}");
    }
    let rules = prometheus.get("/api/v1/rules").unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    for rule in groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
    {
        assert_ne!(rule["health"], "err", "{rule}");
    }
}

#[test]
fn prometheus_scrapes_metrics() {
    if !program(PROMETHEUS) {
        return;
    }
    let shared = shared();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let scraped = Arc::clone(&shared);
    // Ends with the test process.
    thread::spawn(move || {
        let answer = move |headers: axum::http::HeaderMap| async move {
            let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
            let format = Format::accepted(accept);
            let text = encode_as(format, &scraped, &config::Metrics::default());
            ([(header::CONTENT_TYPE, format.content_type())], text)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, Router::new().route("/metrics", get(answer)))
                .await
                .unwrap();
        });
    });
    assert_is_scraped(address);

    // Hostile names stay within their label.
    let prometheus = Prometheus::scrape(address);
    let reported = prometheus.samples("fdwatch_process_descriptors");
    let mut reported: Vec<_> = reported
        .iter()
        .map(|sample| (value(sample), sample["metric"]["comm"].as_str().unwrap()))
        .collect();
    reported.sort_by(|one, other| one.0.total_cmp(&other.0));
    let expected = [
        (70.0, "(others)"),
        (100.0, "nginx"),
        (200.0, "a\"} 1\\nup 0 #"),
        (300.0, "\\xff\\\\"),
        (400.0, "{}=,"),
    ];
    assert_eq!(reported, expected);
    assert_eq!(prometheus.samples("up").len(), 1);
}

#[test]
fn prometheus_scrapes_an_agent() {
    if !program(PROMETHEUS) || !bpf() {
        return;
    }
    let port = free_port();
    // Prometheus runs as root here, which needs no token on loopback.
    let _agent = Agent::start(&format!("listen = [\"127.0.0.1:{port}\"]\n"));
    assert_is_scraped(SocketAddr::from(([127, 0, 0, 1], port)));
}

#[test]
fn changed_process_name_is_followed() {
    if !bpf() {
        return;
    }
    let agent = Agent::start("");
    let mut puppet = Puppet::start();
    // Enough to be among the processes that are shown.
    puppet.exec("held = [os.open('/dev/null', os.O_RDONLY) for _ in range(900)]");
    let pid = puppet.pid();
    let name = || {
        let answer = agent.get("/v1/processes").ok()?.json();
        let mut rows = answer["processes"].as_array()?.iter();
        let row = rows.find(|row| row["pid"] == pid)?;
        row["comm"].as_str().map(str::to_owned)
    };
    eventually("its row", name);
    puppet.exec("libc.prctl(15, b'renamed', 0, 0, 0)");
    let is_renamed = || (name()? == "renamed").then_some(());
    eventually("its new name", is_renamed);
    let series = format!("fdwatch_process_descriptors{{pid=\"{pid}\",comm=\"renamed\"");
    eventually("its series", || {
        let metrics = agent.get("/metrics").ok()?.text();
        metrics.contains(&series).then_some(())
    });
}
