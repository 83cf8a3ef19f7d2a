//! Alerts in Debian's Alertmanager.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use fdwatch_agent::config::Alerts;
use fdwatch_core::{diagnose::Severity, duplicates::Change};
use fdwatch_test_support::{Guard, eventually, program};
use serde_json::{Value, json};

use super::{HOSTILE, Running, endpoint, key, setup};

const ALERTMANAGER: &str = "/usr/bin/prometheus-alertmanager";

const AMTOOL_RECEIVER: &str = "route: {receiver: none}\nreceivers: [{name: none}]\n";

/// A running Alertmanager with its own directory.
struct Alertmanager {
    process: Guard,
    url: String,
}

impl Alertmanager {
    fn start(directory: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let config = directory.join("alertmanager.yml");
        fs::write(&config, AMTOOL_RECEIVER).unwrap();
        let mut command = Command::new(ALERTMANAGER);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", directory.join("am").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let manager = Self {
            process: Guard::spawn(&mut command),
            url: format!("http://{address}"),
        };
        eventually("Alertmanager", || manager.alerts().map(drop));
        manager
    }

    /// Returns its active alerts; `None` if it does not respond.
    fn alerts(&self) -> Option<Vec<Value>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        runtime.block_on(async {
            let client = reqwest::Client::builder()
                .tls_certs_only([])
                .build()
                .unwrap();
            let url = format!("{}/api/v2/alerts", self.url);
            let response = client.get(url).send().await.ok()?;
            response.json().await.ok()
        })
    }

    fn wait_for(&self, what: &str, is: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        eventually(what, || {
            let alerts = self.alerts()?;
            is(&alerts).then_some(alerts)
        })
    }
}

#[test]
fn alertmanager_has_active_alerts() {
    if !program(ALERTMANAGER) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut manager = Alertmanager::start(directory.path());
    let config = Alerts {
        alertmanagers: vec![endpoint(format!("{}/", manager.url))],
        ..Alerts::default()
    };
    let running = Running::start(setup(directory.path(), config));
    running.offer(1, Change::Found, Severity::Warning, HOSTILE);
    running.offer(2, Change::Found, Severity::Warning, &[b'x'; 4096]);
    let alerts = manager.wait_for("two alerts", |alerts| alerts.len() == 2);
    let of = |alerts: &[Value], of: u128| {
        let found = alerts.iter().filter(|it| it["labels"]["key"] == key(of));
        found.cloned().collect::<Vec<_>>()
    };
    let first = &of(&alerts, 1)[0];
    assert_eq!(
        first["labels"],
        json!({
            "alertname": "FdwatchThreshold", "severity": "warning", "cause": "descriptors",
            "host": "host-1", "key": key(1), "comm": "a\"},\\n\\x1b[2J\\xff{}=<0>\\\\",
        })
    );
    assert!(
        first["annotations"]["summary"]
            .as_str()
            .unwrap()
            .contains("812")
    );
    let long = of(&alerts, 2)[0]["labels"]["comm"].as_str().unwrap().len();
    assert!(long <= 128, "{long}");

    // A higher severity replaces the earlier alert.
    running.offer(1, Change::Changed, Severity::Critical, HOSTILE);
    manager.wait_for("the critical alert to replace the warning", |alerts| {
        let first = of(alerts, 1);
        first.len() == 1 && first[0]["labels"]["severity"] == "critical"
    });
    // The alert is repeated, so that it does not resolve by itself.
    let updated = |alerts: &[Value]| of(alerts, 2)[0]["updatedAt"].as_str().unwrap().to_owned();
    let before = updated(&alerts);
    manager.wait_for("a reminder", |alerts| updated(alerts) != before);

    running.gone(1);
    let left = manager.wait_for("one remaining alert", |alerts| alerts.len() == 1);
    assert_eq!(of(&left, 2).len(), 1);
    running.gone(2);
    manager.wait_for("nothing left", <[Value]>::is_empty);
    running.end();
    manager.process.kill();
}
