//! Alerts to Alertmanager, webhooks, commands and the journal: delivered once, whatever fails, and with
//! hostile names escaped.
mod alertmanager;
mod hook;
mod journal;
mod kills;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Duration,
};

use fdwatch_agent::{
    alerts::{self, Pace, Setup},
    config::{Alerts, Endpoint},
    sink::{Sink, SinkStats},
    state::AgentState,
};
use fdwatch_core::{
    diagnose::{ProcessInfo, Severity},
    duplicates::Change,
    model::Moment,
};
use fdwatch_events::{
    event::{Event, EventKind, Key, Measure, ThresholdReport},
    time::rfc3339,
    wire::Time,
};
use fdwatch_host::proc;
use fdwatch_test_support::{eventually, parse};
use serde_json::{Value, json};
use tokio::sync::watch;

use self::hook::{HANGS, Hook};

/// A hostile name.
const HOSTILE: &[u8] = b"a\"},\n\x1b[2J\xff{}=<0>\\";

const BOOT: u64 = 1_700_000_000_000_000_000;

/// Alerts running in a thread.
struct Running {
    outlet: Option<Sink>,
    counts: Arc<SinkStats>,
    known: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    fn start(setup: Setup) -> Self {
        Self::start_with(setup, 4096)
    }

    fn start_with(setup: Setup, room: usize) -> Self {
        let counts = Arc::new(SinkStats::default());
        let (outlet, events) = Sink::new("alerts", room, Arc::clone(&counts));
        let (known, is_known) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let own = Arc::clone(&counts);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(alerts::run(setup, events, own, is_known, stopped))
        });
        Self {
            outlet: Some(outlet),
            counts,
            known,
            stop,
            thread: Some(thread),
        }
    }

    fn offer(&self, key: u128, change: Change, severity: Severity, comm: &[u8]) {
        let process = ProcessInfo {
            pid: 4242,
            comm: comm.to_vec(),
            ..ProcessInfo::default()
        };
        self.offer_of(key, change, severity, process);
    }

    fn offer_of(&self, key: u128, change: Change, severity: Severity, process: ProcessInfo) {
        let event = event(key, change, severity, process);
        self.outlet.as_ref().unwrap().offer(&Arc::new(event));
    }

    fn found(&self, key: u128) {
        self.offer(key, Change::Found, Severity::Warning, b"cat");
    }

    fn gone(&self, key: u128) {
        self.offer(key, Change::Gone, Severity::Warning, b"cat");
    }

    fn end(mut self) -> [u64; 4] {
        self.stop.send(true).unwrap();
        self.thread.take().unwrap().join().unwrap().unwrap();
        self.counts.now()
    }
}

fn event(key: u128, change: Change, severity: Severity, process: ProcessInfo) -> Event {
    let report = ThresholdReport {
        change,
        process,
        of: Measure::Descriptors,
        value: 812.0,
        threshold: 500.0,
        severity,
    };
    Event {
        number: 1,
        at: Moment(1),
        wall_time: BOOT,
        kind: EventKind::Threshold(Box::new(report)),
        json: json!({"schema": 1, "type": "threshold", "key": key.to_string()}).to_string(),
        key: Some(Key(key)),
    }
}

fn setup(directory: &Path, config: Alerts) -> Setup {
    Setup {
        state: directory.join("alerts.json"),
        journal: directory.join("journal"),
        pace: Pace {
            first_wait: Duration::from_millis(20),
            max_wait: Duration::from_millis(100),
            tries: 3,
            rest: Duration::from_millis(200),
            remind: Duration::from_millis(300),
            command: Duration::from_secs(10),
            settle: Duration::from_millis(100),
            settle_growth: Duration::from_millis(100),
            leave: Duration::from_secs(3),
        },
        ..Setup::new(config, "host-1".to_owned())
    }
}

fn endpoint(url: String) -> Endpoint {
    Endpoint {
        url,
        token_file: None,
        ca_file: None,
    }
}

fn to_webhook(hook: &Hook) -> Alerts {
    Alerts {
        webhooks: vec![endpoint(hook.url.clone())],
        ..Alerts::default()
    }
}

fn key(key: u128) -> String {
    Key(key).to_string()
}

fn pair(status: &str, of: u128) -> (String, String) {
    (status.to_owned(), key(of))
}

#[test]
fn webhook_gets_alert_and_resolution_once() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start(200);
    let config = to_webhook(&hook);
    let running = Running::start(setup(directory.path(), config));
    running.offer(1, Change::Found, Severity::Info, b"too little");
    running.offer(2, Change::Found, Severity::Warning, HOSTILE);
    hook.wait_for(1);
    running.offer(2, Change::Changed, Severity::Critical, HOSTILE);
    running.gone(1);
    running.gone(2);
    let got = hook.wait_for(2);
    let [taken, dropped, delivered, failed] = running.end();
    assert_eq!((taken, dropped, delivered, failed), (5, 0, 2, 0));
    assert_eq!(hook.statuses(), [pair("firing", 2), pair("resolved", 2)]);
    let first = &got[0];
    assert_eq!(first["severity"], "warning");
    assert_eq!(first["host"], "host-1");
    assert_eq!(first["since"], rfc3339(BOOT));
    assert_eq!(first["comm"], "a\"},\\n\\x1b[2J\\xff{}=<0>\\\\");
    assert_eq!(
        first["event"],
        json!({"schema": 1, "type": "threshold", "key": "2"})
    );
    let summary = first["summary"].as_str().unwrap();
    assert!(summary.ends_with("(pid 4242): has 812 descriptors, above the threshold of 500"));
    assert!(got[1]["ended"].is_string());
}

#[test]
fn hanging_webhook_delays_no_other_target() {
    let directory = tempfile::tempdir().unwrap();
    let (good, hanging, failing) = (Hook::start(200), Hook::start(HANGS), Hook::start(500));
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = Alerts {
        webhooks: vec![
            endpoint(hanging.url.clone()),
            endpoint(failing.url.clone()),
            endpoint(format!("http://{nobody}/hook")),
            endpoint(good.url.clone()),
        ],
        ..Alerts::default()
    };
    let running = Running::start(setup(directory.path(), config));
    for key in 1..=10 {
        running.found(key);
    }
    good.wait_for(10);
    assert!(hanging.got.lock().unwrap().is_empty());
    // A failed delivery is retried and succeeds once.
    eventually("a retry", || {
        (failing.requests.load(Relaxed) > 12).then_some(())
    });
    failing.status.store(200, Relaxed);
    failing.wait_for(10);
    running.gone(3);
    good.wait_for(11);
    failing.wait_for(11);
    let counts = running.end();
    assert!(counts[3] > 0, "no failure: {counts:?}");
    for hook in [&good, &failing] {
        let mut statuses = hook.statuses();
        assert_eq!(statuses.pop().unwrap(), pair("resolved", 3));
        statuses.sort();
        let expected: Vec<_> = (1..=10).map(|key| pair("firing", key)).collect();
        assert_eq!(statuses, expected);
    }
}

#[test]
fn refused_alert_is_not_retried() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start(400);
    let config = to_webhook(&hook);
    let running = Running::start(setup(directory.path(), config));
    running.found(1);
    let counts = Arc::clone(&running.counts);
    eventually("a refusal", || (counts.now()[3] == 1).then_some(()));
    hook.status.store(200, Relaxed);
    running.gone(1);
    running.found(2);
    hook.wait_for(1);
    running.end();
    assert_eq!(hook.statuses(), [pair("firing", 2)]);
}

#[test]
fn flood_is_folded_into_one_alert() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start(200);
    let config = Alerts {
        most_per_minute: 5,
        ..to_webhook(&hook)
    };
    let running = Running::start(setup(directory.path(), config));
    for key in 1..=1000 {
        running.found(key);
    }
    let counts = Arc::clone(&running.counts);
    let got = hook.wait_for(3);
    // Two have fired, and 25 wait, or had to.
    eventually("all counts", || {
        (973..=975).contains(&counts.now()[1]).then_some(())
    });
    running.end();
    let firing = got.iter().filter(|value| value["kind"] == "threshold");
    assert_eq!(firing.count(), 2);
    let summary = got
        .iter()
        .find(|value| value["kind"] == "held-back")
        .unwrap();
    let words = summary["summary"].as_str().unwrap();
    assert!(words.contains("held back in this minute. Highest severity: warning: cat"));
    assert_eq!(summary["event"], Value::Null);
}

#[test]
fn restart_repeats_nothing_and_resolves_gone() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start(200);
    let config = to_webhook(&hook);
    let setup = setup(directory.path(), config);
    let running = Running::start(setup.clone());
    running.found(1);
    running.found(2);
    hook.wait_for(2);
    running.end();

    let running = Running::start(setup.clone());
    running.found(1);
    running.found(3);
    running.known.send(true).unwrap();
    let got = hook.wait_for(4);
    running.end();
    let mut statuses = hook.statuses().split_off(2);
    statuses.sort();
    assert_eq!(statuses, [pair("firing", 3), pair("resolved", 2)]);
    // The resolution has the fields of the alert as sent.
    let resolved = got
        .iter()
        .find(|value| value["status"] == "resolved")
        .unwrap();
    assert_eq!(
        (&resolved["comm"], &resolved["event"]),
        (&json!("cat"), &Value::Null)
    );

    // An unusable state file stops nothing.
    fs::write(&setup.state, "{\"version\":1,\"reported\":{\"webho").unwrap();
    let running = Running::start(setup);
    running.found(1);
    hook.wait_for(5);
    running.end();
    assert!(directory.path().join("alerts.json.unusable").exists());
}

#[test]
fn reload_keeps_active_alerts() {
    let directory = tempfile::tempdir().unwrap();
    let hook = Hook::start(200);
    let mut setup = setup(directory.path(), to_webhook(&hook));
    let running = Running::start(setup.clone());
    running.found(1);
    hook.wait_for(1);
    running.end();
    let hour_ago = Moment(proc::boottime().saturating_sub(3_600_000_000_000));
    let (shared, _requests) = AgentState::new();
    for of in [1, 2] {
        shared.publish(Event {
            at: hour_ago,
            ..event(
                of,
                Change::Changed,
                Severity::Warning,
                ProcessInfo::default(),
            )
        });
    }
    setup.shared = Some(shared);
    let running = Running::start(setup);
    running.known.send(true).unwrap();
    let got = hook.wait_for(2);
    let since: Time = serde_json::from_value(got[1]["since"].clone()).unwrap();
    let expected = proc::booted() + hour_ago.0;
    let difference = since.nanoseconds().unwrap().abs_diff(expected);
    assert!(difference < 1_000_000_000, "{since:?}");
    running.gone(1);
    running.gone(2);
    hook.wait_for(4);
    running.end();
    let mut statuses = hook.statuses();
    statuses[2..].sort();
    assert_eq!(
        statuses,
        [
            pair("firing", 1),
            pair("firing", 2),
            pair("resolved", 1),
            pair("resolved", 2)
        ]
    );
}

#[test]
fn command_gets_alert_and_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("reported.sh");
    let path = directory.path().display();
    // It floods its output as long as anyone reads, and prints JSON and names unmodified.
    fs::write(
        &script,
        format!(
            "cat > '{path}/in.'$FDWATCH_STATUS\n\
             printf %s \"$FDWATCH_COMM\" > '{path}/comm'\n\
             env > '{path}/env'\n\
             head -c 3000000 /dev/zero\n\
             head -c 3000000 /dev/zero >&2\n\
             exit 0\n"
        ),
    )
    .unwrap();
    // A child of the shell is killed too.
    let hangs = format!("sleep 987 & echo $! >> '{path}/pids'; echo why >&2; wait");
    let command = |arguments: &[&str]| arguments.iter().map(|&it| it.to_owned()).collect();
    let config = Alerts {
        commands: vec![
            command(&["/bin/sh", "-c", &hangs]),
            command(&["/nonexistent/program"]),
            command(&["/bin/sh", script.to_str().unwrap()]),
        ],
        ..Alerts::default()
    };
    let mut setup = setup(directory.path(), config);
    setup.pace.tries = 1;
    setup.pace.rest = Duration::from_secs(600);
    let running = Running::start(setup);
    running.offer(1, Change::Found, Severity::Critical, HOSTILE);
    let counts = Arc::clone(&running.counts);
    eventually("the failing command", || {
        (counts.now()[3] == 2).then_some(())
    });
    eventually("the working command", || {
        (counts.now()[2] == 1).then_some(())
    });
    running.gone(1);
    eventually("the resolution", || (counts.now()[2] == 2).then_some(()));
    running.end();
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let firing: Value = parse(&read("in.firing"));
    assert_eq!(
        (&firing["severity"], &firing["key"]),
        (&json!("critical"), &json!(key(1)))
    );
    assert_eq!(read("comm"), "a\"},\\n\\x1b[2J\\xff{}=<0>\\\\");
    assert_eq!(parse(&read("in.resolved"))["status"], "resolved");
    let environment = read("env");
    assert!(environment.contains("FDWATCH_SEVERITY=critical\n"));
    assert!(!environment.contains("CARGO"), "{environment}");
    for pid in read("pids").lines() {
        eventually("the end of the command's child", || {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (!command.starts_with(b"sleep")).then_some(())
        });
    }
}
