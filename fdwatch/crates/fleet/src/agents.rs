//! A handful of agents, asked themselves: what they have now, as the rows that a server would have.
//!
//! What they answer is not trusted more than any other: it is bounded, and what cannot be understood
//! is told as an error of that agent.

use std::{collections::HashSet, net::IpAddr, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    local_query::Rows,
    rows::{ExampleRow, FindingRow, HeartbeatRow, SharedFileRow, process_of},
    signature::{MAX_FRAMES, Parts, Signature, frame},
    store::{StoreError, http, read, unreachable},
};

/// Files that one agent is asked for: more than it tells of.
const MAX_FILES: usize = 10_000;

/// How the agents are spoken to.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token they want to see.
    pub token: Option<String>,
    /// Certificates to trust besides the system's, PEM.
    pub ca: Option<Vec<u8>>,
}

/// What agents are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// How they are, and what they have found.
    Findings,
    /// Which files of network file systems are open for writing.
    Files,
}

/// Asks all of them at once: by `host:port`, by URL, or by the path of a unix socket. One that does
/// not answer is told in [`Rows::errors`].
///
/// # Errors
///
/// If a client cannot be made.
pub async fn ask(
    agents: &[String],
    access: &Access,
    what: What,
    now: u32,
) -> Result<Rows, StoreError> {
    let mut asked = tokio::task::JoinSet::new();
    for agent in agents {
        let (agent, client) = (agent.clone(), client(agent, access)?);
        let token = access.token.clone();
        asked.spawn(async move {
            let answers = answers(&agent, &client, token.as_deref(), what).await;
            (agent, answers)
        });
    }
    let mut rows = Rows::default();
    let mut seen = HashSet::new();
    let mut all = asked.join_all().await;
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (agent, answers) in all {
        match answers.and_then(|answers| add(&mut rows, answers, now)) {
            // Asked twice, by two of its names: counted once.
            Ok(host) if !seen.insert(host.clone()) => {
                rows.errors
                    .push((agent, format!("is the same host as another: {host}")));
            }
            Ok(_) => {}
            Err(error) => rows.errors.push((agent, error.to_string())),
        }
    }
    rows.findings.sort_by(|one, other| {
        (&one.host, one.key, one.time).cmp(&(&other.host, other.key, other.time))
    });
    rows.findings.dedup();
    Ok(rows)
}

fn client(agent: &str, access: &Access) -> Result<reqwest::Client, StoreError> {
    let builder = http(access.ca.as_deref())?;
    let builder = if agent.starts_with('/') {
        builder.unix_socket(Path::new(agent))
    } else {
        builder
    };
    builder
        .build()
        .map_err(|error| StoreError::Setting(error.to_string()))
}

/// What an agent said.
enum Answers {
    Findings { findings: String, health: Health },
    Files(Files),
}

async fn answers(
    agent: &str,
    client: &reqwest::Client,
    token: Option<&str>,
    what: What,
) -> Result<Answers, StoreError> {
    let base = if agent.starts_with('/') {
        "http://agent".to_owned()
    } else if agent.contains("://") {
        agent.trim_end_matches('/').to_owned()
    } else if is_loopback(agent) {
        format!("http://{agent}")
    } else {
        // Beyond loopback agents speak TLS alone.
        format!("https://{agent}")
    };
    let get = async |path: &str| {
        let mut request = client.get(format!("{base}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = read(response).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        Err(StoreError::Refused {
            status: status.as_u16(),
            code: None,
            message: fdwatch_render::escaped(&text.as_bytes()[..text.len().min(500)]),
        })
    };
    if what == What::Files {
        let path = format!("/v1/written?limit={MAX_FILES}");
        return Ok(Answers::Files(parse(&get(&path).await?)?));
    }
    let health = get("/v1/health").await?;
    let health = parse(&health)?;
    let findings = get("/v1/findings?format=lines&limit=10000").await?;
    Ok(Answers::Findings { findings, health })
}

/// Whether `host:port` is of this host.
fn is_loopback(agent: &str) -> bool {
    let host = agent.rsplit_once(':').map_or(agent, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|it| it.is_loopback())
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Odd(error.to_string()))
}

fn of<T: DeserializeOwned>(value: &Value) -> Result<T, StoreError> {
    T::deserialize(value).map_err(|error| StoreError::Odd(error.to_string()))
}

/// What is used of an agent's health. Fields that are not there are not known.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Health {
    host: String,
    labels: String,
    time: Option<String>,
    version: String,
    kernel: String,
    events: u64,
    lost: Value,
    drift: Value,
    not_followed: u32,
    budget: Budget,
    rss_bytes: u64,
}

/// An agent's answer about files of network file systems.
#[derive(Deserialize)]
struct Files {
    host: String,
    left_out: u64,
    more: u64,
    files: Vec<WrittenFile>,
}

#[derive(Deserialize)]
struct WrittenFile {
    network: String,
    ino: u64,
    program: String,
    path: Option<String>,
    writers: u32,
}

/// What an agent uses of a processor, in percent, and what it leaves undone for that.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Budget {
    cpu: f64,
    sheds: String,
}

/// A number, or the total of an object.
fn total(value: &Value) -> u64 {
    let value = value.get("total").unwrap_or(value);
    value.as_u64().unwrap_or_default()
}

#[derive(Deserialize)]
struct Told {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    key: String,
    since: Option<String>,
    time: Option<String>,
}

#[derive(Deserialize)]
struct Finding {
    process: Process,
    file: File,
    fds: Vec<Fd>,
    cause: String,
    severity: String,
    #[serde(default)]
    network: String,
}

#[derive(Deserialize)]
struct Process {
    pid: u32,
    start_time: Option<String>,
    comm: String,
    exe: Option<String>,
    unit: Option<String>,
    container: Option<Value>,
    supervisor: Option<Supervisor>,
}

#[derive(Deserialize)]
struct Supervisor {
    group: String,
}

#[derive(Deserialize)]
struct File {
    path: Option<String>,
    process_path: Option<String>,
    ino: u64,
}

#[derive(Deserialize)]
struct Fd {
    access: String,
    #[serde(default)]
    stack: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    symbol: Option<String>,
    module: Option<String>,
}

/// Adds what an agent said, and gives its host.
fn add(rows: &mut Rows, answers: Answers, now: u32) -> Result<String, StoreError> {
    match answers {
        Answers::Findings { findings, health } => add_findings(rows, &findings, &health, now),
        Answers::Files(files) => Ok(add_files(rows, files, now)),
    }
}

fn add_files(rows: &mut Rows, files: Files, now: u32) -> String {
    let Files {
        host,
        left_out,
        more,
        files,
    } = files;
    rows.files
        .extend(files.into_iter().map(|file| SharedFileRow {
            time: now,
            network: file.network,
            ino: file.ino,
            host: host.clone(),
            program: file.program,
            file: file.path.unwrap_or_default(),
            writers: file.writers,
        }));
    rows.heartbeats.push(HeartbeatRow {
        time: now,
        host: host.clone(),
        files_left_out: left_out.saturating_add(more),
        ..HeartbeatRow::default()
    });
    host
}

fn add_findings(
    rows: &mut Rows,
    findings: &str,
    health: &Health,
    now: u32,
) -> Result<String, StoreError> {
    let text = findings.trim();
    // An array, or an object on each line.
    let told: Vec<Value> = if text.starts_with('[') {
        parse(text)?
    } else {
        text.lines().map(parse).collect::<Result<_, _>>()?
    };
    let mut host = health.host.clone();
    let mut count = 0;
    for one in &told {
        let head: Told = of(one)?;
        if head.kind != "finding" {
            continue;
        }
        count += 1;
        if host.is_empty() {
            host.clone_from(&head.host);
        }
        let finding: Finding = of(one)?;
        let signature = signature(&finding, &head.host);
        let row = FindingRow {
            labels: health.labels.clone(),
            ..row(&finding, &head, &signature)
        };
        let since = seconds(head.since.as_ref().or(head.time.as_ref())).unwrap_or(now);
        // It came then, and is there now.
        for (time, change) in [(since, 1), (now, 4)] {
            rows.findings.push(FindingRow {
                time,
                change,
                ..row.clone()
            });
        }
        rows.examples.push(ExampleRow {
            time: now,
            host: head.host,
            signature: signature.id,
            frames: signature.frames.join("\n"),
            finding: one.to_string(),
        });
    }
    rows.heartbeats.push(HeartbeatRow {
        time: seconds(health.time.as_ref()).unwrap_or(now),
        host: host.clone(),
        labels: health.labels.clone(),
        run: 0,
        version: health.version.clone(),
        kernel: health.kernel.clone(),
        mode: health.budget.sheds.clone(),
        events: health.events,
        lost: total(&health.lost),
        drift: total(&health.drift),
        not_followed: health.not_followed,
        cpu: health.budget.cpu,
        memory: health.rss_bytes,
        findings: count,
        ..HeartbeatRow::default()
    });
    Ok(host)
}

fn seconds(time: Option<&String>) -> Option<u32> {
    let time: Timestamp = time?.parse().ok()?;
    u32::try_from(time.as_second()).ok()
}

fn signature(finding: &Finding, host: &str) -> Signature {
    let (process, file) = (&finding.process, &finding.file);
    let path = file.process_path.as_deref().or(file.path.as_deref());
    let parts = Parts {
        supervisor: process.supervisor.as_ref().map(|it| &it.group[..]),
        unit: process.unit.as_deref(),
        is_contained: process.container.is_some(),
        exe: process.exe.as_deref().map(str::as_bytes),
        comm: process.comm.as_bytes(),
        cause: &finding.cause,
        path: path.map(str::as_bytes),
    };
    let mut stacks = finding.fds.iter().rev().map(|fd| &fd.stack[..]);
    let stack = stacks.find(|stack| stack.iter().any(|it| it.symbol.is_some()));
    let places = stack.unwrap_or_default().iter().filter_map(|it| {
        let symbol = it.symbol.as_deref()?;
        Some(frame(it.module.as_deref(), symbol))
    });
    Signature {
        frames: places.take(MAX_FRAMES).collect(),
        ..Signature::made(&parts, host)
    }
}

fn row(finding: &Finding, head: &Told, signature: &Signature) -> FindingRow {
    let process = &finding.process;
    let key = u128::from_str_radix(&head.key, 16).map(fdwatch_events::event::Key);
    let writers = finding.fds.iter().filter(|fd| fd.access != "r").count();
    FindingRow {
        host: head.host.clone(),
        key: key.map_or(0, super::rows::half),
        process: process_of(
            process.pid,
            process.start_time.as_deref().unwrap_or_default(),
        ),
        signature: signature.id.clone(),
        program: signature.program.to_string(),
        cause: signature.cause.clone(),
        path: signature.path.clone(),
        severity: match &finding.severity[..] {
            "critical" => 3,
            "warning" => 2,
            _ => 1,
        },
        fds: u32::try_from(finding.fds.len()).unwrap_or(u32::MAX),
        pid: process.pid,
        comm: process.comm.clone(),
        file: finding.file.path.clone().unwrap_or_default(),
        ino: if finding.network.is_empty() {
            0
        } else {
            finding.file.ino
        },
        network: finding.network.clone(),
        writers: u32::try_from(writers).unwrap_or(u32::MAX),
        ..FindingRow::default()
    }
}
