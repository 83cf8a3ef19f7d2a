//! The configuration's types and their defaults.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use globset::GlobSet;

use crate::stop::STOP_FILE;
use fdwatch_core::diagnose::{Cause, Severity};
use fdwatch_events::event::Measure;
use fdwatch_http::Endpoint;
use fdwatch_options::Detail;
use fdwatch_tracker::priority::DEFAULT_NICE;

/// The whole configuration. The default equals an empty file.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[watch]`
    pub watch: Watch,
    /// `[[ignore]]`: findings that match any of these are not reported.
    pub ignore: Vec<Rule>,
    /// `[[severity]]`: the first rule that matches sets the severity of a finding.
    pub severity: Vec<(Rule, Severity)>,
    /// `[[threshold]]`, in the order of the file.
    pub thresholds: Vec<Threshold>,
    /// `[api]`
    pub api: Api,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[history]`; `None` if `enabled = false`.
    pub history: Option<History>,
    /// `[alerts]`
    pub alerts: Alerts,
    /// `[otlp]`; `None` without such a section.
    pub otlp: Option<Otlp>,
    /// `[fleet]`; `None` without such a section.
    pub fleet: Option<Fleet>,
}

/// What to watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Minimum severity of reported findings.
    pub severity: Severity,
    /// Whether to watch files of all types, not only regular ones.
    pub all_types: bool,
    /// Size of the ring: bytes. By default 1 MiB per processor.
    pub ring_bytes: Option<u32>,
    /// CPU budget of fdwatch: percent of one processor.
    pub max_cpu: f64,
    /// Nice value of the event loop.
    pub nice: i32,
    /// Processes for which stacks and requested paths are collected.
    pub detail: Detail,
    /// The kill switch: the agent does not run while root has a file here.
    pub stop_file: PathBuf,
}

/// The findings that a rule applies to: all given terms must match.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The path of the file.
    pub path: Option<GlobSet>,
    /// The path of the program.
    pub exe: Option<GlobSet>,
    /// The name of the process.
    pub comm: Option<GlobSet>,
    /// The systemd unit.
    pub unit: Option<GlobSet>,
    /// The causes.
    pub cause: Vec<Cause>,
}

/// A limit on a process.
#[derive(Clone, Debug)]
pub struct Threshold {
    /// The measure.
    pub of: Measure,
    /// The highest value that is not reported.
    pub above: f64,
    /// The severity of a report.
    pub severity: Severity,
    /// The processes it applies to. Path and cause are used only with `duplicates-per-file`.
    pub rule: Rule,
}

/// The sockets of the API and the access to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// The unix socket, if any.
    pub socket: Option<PathBuf>,
    /// Permissions of the unix socket.
    pub socket_mode: u32,
    /// TCP addresses.
    pub listen: Vec<SocketAddr>,
    /// A file with the token that TCP clients must send. Required outside loopback; on loopback, root needs none.
    pub token_file: Option<PathBuf>,
    /// Certificate chain and key, PEM. Required outside loopback.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Settings of the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Processes with series of their own. The others are folded into one.
    pub most_processes: usize,
}

/// Settings of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The database.
    pub file: PathBuf,
    /// Age at which entries are deleted.
    pub most_age: Duration,
    /// Size limit, above which the oldest entries are deleted: bytes.
    pub most_bytes: u64,
}

/// Settings of alerts and their receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// Minimum severity.
    pub severity: Severity,
    /// Limit of alerts per minute to each receiver.
    pub most_per_minute: u32,
    /// `[[alerts.webhook]]`
    pub webhooks: Vec<Endpoint>,
    /// `[[alerts.alertmanager]]`: URLs, to which `/api/v2/alerts` is appended.
    pub alertmanagers: Vec<Endpoint>,
    /// `[[alerts.command]]`: the program and its arguments, without a shell.
    pub commands: Vec<Vec<String>>,
    /// `journald = true`
    pub journald: bool,
    /// The file that records sent alerts.
    pub state_file: PathBuf,
}

/// Settings of the OTLP export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The collector, to whose URL `/v1/logs` and `/v1/metrics` are appended.
    pub endpoint: Endpoint,
    /// Interval of metrics.
    pub interval: Duration,
    /// Limit of findings in the queue.
    pub queue: usize,
}

/// Settings of the export to the fleet's ClickHouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The URL of its HTTP interface.
    pub url: String,
    /// The database.
    pub database: String,
    /// The user.
    pub user: Option<String>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// A PEM file with certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// The directory for rows that are not written yet.
    pub spool: PathBuf,
    /// Size limit of that directory: bytes.
    pub most_spool_bytes: u64,
    /// Longest time between requests.
    pub interval: Duration,
    /// Labels of this host, such as `env = prod-eu`, added to its rows.
    pub labels: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            watch: Watch::default(),
            ignore: Vec::new(),
            severity: Vec::new(),
            thresholds: Vec::new(),
            api: Api::default(),
            metrics: Metrics::default(),
            history: Some(History::default()),
            alerts: Alerts::default(),
            otlp: None,
            fleet: None,
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            severity: Severity::Warning,
            all_types: false,
            ring_bytes: None,
            max_cpu: 1.0,
            nice: DEFAULT_NICE,
            detail: Detail::Suspects,
            stop_file: PathBuf::from(STOP_FILE),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            socket: Some(PathBuf::from(SOCKET)),
            socket_mode: 0o600,
            listen: Vec::new(),
            token_file: None,
            tls: None,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { most_processes: 20 }
    }
}

impl Default for History {
    fn default() -> Self {
        Self {
            file: PathBuf::from(HISTORY),
            most_age: Duration::from_secs(30 * 24 * 3600),
            most_bytes: 256 << 20,
        }
    }
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            severity: Severity::Warning,
            most_per_minute: 30,
            webhooks: Vec::new(),
            alertmanagers: Vec::new(),
            commands: Vec::new(),
            journald: false,
            state_file: PathBuf::from(ALERTS),
        }
    }
}

impl Otlp {
    /// Creates the default settings for a collector.
    #[must_use]
    pub const fn to(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            interval: Duration::from_secs(60),
            queue: 2048,
        }
    }
}

impl Fleet {
    /// Creates the default settings for the ClickHouse at `url`.
    #[must_use]
    pub fn to(url: String) -> Self {
        Self {
            url,
            database: "fdwatch".to_owned(),
            user: None,
            password_file: None,
            ca_file: None,
            spool: PathBuf::from(SPOOL),
            most_spool_bytes: 256 << 20,
            interval: Duration::from_secs(5),
            labels: Vec::new(),
        }
    }
}

/// The example configuration: every key, with its default.
pub const EXAMPLE: &str = include_str!("example.toml");

/// The default path of the configuration.
pub const FILE: &str = "/etc/fdwatch/agent.toml";

/// The default path of the API's socket.
pub use fdwatch_options::paths::SOCKET;

/// The default path of the history.
pub use fdwatch_options::paths::HISTORY;

/// The default path of the record of sent alerts.
pub const ALERTS: &str = "/var/lib/fdwatch/alerts.json";

/// The default directory of the spool.
pub const SPOOL: &str = "/var/lib/fdwatch/spool";
