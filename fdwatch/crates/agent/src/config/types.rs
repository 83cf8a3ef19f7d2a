//! The configuration's types and their defaults.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use globset::GlobSet;

use crate::stop::STOP_FILE;
use fdwatch_core::diagnose::{Cause, Severity};
use fdwatch_events::event::Measure;
use fdwatch_http::Endpoint;
use fdwatch_options::Detail;

/// All of it. The default is what an empty file says.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[watch]`
    pub watch: Watch,
    /// `[[ignore]]`: a finding that any of these is about is not told.
    pub ignore: Vec<Rule>,
    /// `[[severity]]`: the first of these that a finding is about says how much it matters.
    pub severity: Vec<(Rule, Severity)>,
    /// `[[threshold]]`, in the order of the file.
    pub thresholds: Vec<Threshold>,
    /// `[api]`
    pub api: Api,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[history]`; none, if `enabled = false`.
    pub history: Option<History>,
    /// `[alerts]`
    pub alerts: Alerts,
    /// `[otlp]`; none, where there is no such section.
    pub otlp: Option<Otlp>,
    /// `[fleet]`; none, where there is no such section.
    pub fleet: Option<Fleet>,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Least severity that is told.
    pub severity: Severity,
    /// Files of all types, not only regular ones.
    pub all_types: bool,
    /// Size of the ring in bytes; by default one MiB for each processor.
    pub ring_bytes: Option<u32>,
    /// What fdwatch itself may use, in percent of one processor.
    pub max_cpu: f64,
    /// Of whom stacks and asked-for paths are wanted.
    pub detail: Detail,
    /// The kill switch: as long as root has a file here, the agent does not run.
    pub stop_file: PathBuf,
}

/// What findings a rule is about: all terms that are there must match.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The file's path.
    pub path: Option<GlobSet>,
    /// The program's path.
    pub exe: Option<GlobSet>,
    /// The process's name.
    pub comm: Option<GlobSet>,
    /// The unit of systemd.
    pub unit: Option<GlobSet>,
    /// The causes.
    pub cause: Vec<Cause>,
}

/// What a process may not be beyond.
#[derive(Clone, Debug)]
pub struct Threshold {
    /// What it is of.
    pub of: Measure,
    /// How much it may be.
    pub above: f64,
    /// How much it matters.
    pub severity: Severity,
    /// Of which processes; path and cause do not matter but with `duplicates-per-file`.
    pub rule: Rule,
}

/// Where and to whom the API is.
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// The unix socket; none, if that is not wanted.
    pub socket: Option<PathBuf>,
    /// Its permissions.
    pub socket_mode: u32,
    /// Addresses of TCP.
    pub listen: Vec<SocketAddr>,
    /// A file with the token that clients of TCP must show. Needed beyond loopback; there, processes
    /// of root need none.
    pub token_file: Option<PathBuf>,
    /// Certificate chain and key, PEM. Needed beyond loopback.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// What Prometheus is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Processes that are told of one by one: the others are folded into one.
    pub most_processes: usize,
}

/// Where the history is, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The database.
    pub file: PathBuf,
    /// Older ones are deleted.
    pub most_age: Duration,
    /// The oldest are deleted beyond this: bytes.
    pub most_bytes: u64,
}

/// Who is told of what comes and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// Least severity.
    pub severity: Severity,
    /// Alerts of each kind below that are sent in a minute, at most.
    pub most_per_minute: u32,
    /// `[[alerts.webhook]]`
    pub webhooks: Vec<Endpoint>,
    /// `[[alerts.alertmanager]]`: the URL up to where `/api/v2/alerts` follows.
    pub alertmanagers: Vec<Endpoint>,
    /// `[[alerts.command]]`: the program and its arguments, without a shell.
    pub commands: Vec<Vec<String>>,
    /// `journald = true`
    pub journald: bool,
    /// Keeps what was sent.
    pub state_file: PathBuf,
}

/// Where OTLP goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The collector; `/v1/logs` and `/v1/metrics` follow.
    pub endpoint: Endpoint,
    /// How often metrics are sent.
    pub interval: Duration,
    /// Findings that may wait.
    pub queue: usize,
}

/// The fleet's ClickHouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Its HTTP interface.
    pub url: String,
    /// The database.
    pub database: String,
    /// The user.
    pub user: Option<String>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// Certificates to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Where what could not be written yet is kept.
    pub spool: PathBuf,
    /// How much of that: bytes.
    pub most_spool_bytes: u64,
    /// How often rows are sent, at the latest.
    pub interval: Duration,
    /// Says what this host is for, such as `prod-eu`: a label of its rows.
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
    /// To a collector, with what holds if nothing else is said.
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
    /// To the ClickHouse at `url`, with what holds if nothing else is said.
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

/// A configuration that has every key, with what holds if nothing else is said.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Where the configuration is, if nothing else is said.
pub const FILE: &str = "/etc/fdwatch/agent.toml";

/// Where the API's socket is, if nothing else is said.
pub use fdwatch_options::paths::SOCKET;

/// Where the history is, if nothing else is said.
pub use fdwatch_options::paths::HISTORY;

/// Where what alerts were sent is kept, if nothing else is said.
pub const ALERTS: &str = "/var/lib/fdwatch/alerts.json";

/// Where what the fleet could not be sent yet is, if nothing else is said.
pub const SPOOL: &str = "/var/lib/fdwatch/spool";
