//! Queries a few agents directly, and converts their responses to the rows that a server stores.
//!
//! Responses are not trusted: their length is limited, and one that cannot be parsed becomes an error
//! of that agent.

use std::{collections::HashSet, net::IpAddr, path::Path};

use fdwatch_events::wire::{Event, Finding, Health, Line, Written};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    local_query::Rows,
    rows::{ExampleRow, FindingRow, HeartbeatRow, SharedFileRow, process_of},
    signature::{MAX_FRAMES, Signature, SignatureInput, frame},
    store::{StoreError, http, read, unreachable},
};

/// Maximum number of files requested from an agent: more than an agent reports.
const MAX_FILES: usize = 10_000;

/// Credentials for agents.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Bearer token.
    pub token: Option<String>,
    /// PEM certificates to trust in addition to the system's.
    pub ca: Option<Vec<u8>>,
}

/// Resource to request from agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Health and findings.
    Findings,
    /// Files of network file systems that are open for writing.
    Files,
}

/// Queries agents concurrently, each given as `host:port`, URL or path of a unix socket. Failures are
/// in [`Rows::errors`].
///
/// # Errors
///
/// If a client cannot be created.
pub async fn query(
    agents: &[String],
    access: &Access,
    resource: Resource,
    now: u32,
) -> Result<Rows, StoreError> {
    let mut requests = tokio::task::JoinSet::new();
    for agent in agents {
        let (agent, client) = (agent.clone(), client(agent, access)?);
        let token = access.token.clone();
        requests.spawn(async move {
            let answers = answers(&agent, &client, token.as_deref(), resource).await;
            (agent, answers)
        });
    }
    let mut rows = Rows::default();
    let mut seen = HashSet::new();
    let mut all = requests.join_all().await;
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (agent, answers) in all {
        match answers.and_then(|answers| add(&mut rows, answers, now)) {
            // The same host under two names is counted once.
            Ok(host) if !seen.insert(host.clone()) => {
                rows.errors
                    .push((agent, format!("duplicate of host {host}")));
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

/// Response of an agent.
enum Answers {
    Findings {
        findings: String,
        health: Box<Line<Health>>,
    },
    Files(Line<Written>),
}

async fn answers(
    agent: &str,
    client: &reqwest::Client,
    token: Option<&str>,
    resource: Resource,
) -> Result<Answers, StoreError> {
    let base = if agent.starts_with('/') {
        "http://agent".to_owned()
    } else if agent.contains("://") {
        agent.trim_end_matches('/').to_owned()
    } else if is_loopback(agent) {
        format!("http://{agent}")
    } else {
        // Agents require TLS, except on loopback.
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
    if resource == Resource::Files {
        let path = format!("/v1/written?limit={MAX_FILES}");
        return Ok(Answers::Files(parse(&get(&path).await?)?));
    }
    let health = get("/v1/health").await?;
    let health = parse(&health)?;
    let findings = get("/v1/findings?format=lines&limit=10000").await?;
    Ok(Answers::Findings { findings, health })
}

/// Returns whether `host:port` is on this host.
fn is_loopback(agent: &str) -> bool {
    let host = agent.rsplit_once(':').map_or(agent, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|it| it.is_loopback())
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::InvalidResponse(error.to_string()))
}

/// Adds a response, and returns the agent's host.
fn add(rows: &mut Rows, answers: Answers, now: u32) -> Result<String, StoreError> {
    match answers {
        Answers::Findings { findings, health } => add_findings(rows, &findings, &health, now),
        Answers::Files(files) => Ok(add_files(rows, files, now)),
    }
}

fn add_files(rows: &mut Rows, files: Line<Written>, now: u32) -> String {
    let Line { host, body, .. } = files;
    let files = body.files.into_iter();
    rows.files.extend(files.map(|file| SharedFileRow {
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
        files_left_out: body.left_out.saturating_add(body.more as u64),
        ..HeartbeatRow::default()
    });
    host
}

fn add_findings(
    rows: &mut Rows,
    findings: &str,
    health: &Line<Health>,
    now: u32,
) -> Result<String, StoreError> {
    let text = findings.trim();
    // A JSON array, or one object per line.
    let lines: Vec<&RawValue> = if text.starts_with('[') {
        parse(text)?
    } else {
        text.lines().map(parse).collect::<Result<_, _>>()?
    };
    let mut host = health.host.clone();
    let mut count = 0;
    for line in lines {
        let Event::Finding(finding) = parse(line.get())? else {
            continue;
        };
        let Line {
            time,
            host: of,
            body: finding,
            ..
        } = *finding;
        if finding.process.pid == 0 || finding.cause.is_empty() {
            let reason = "a finding has no process or no cause";
            return Err(StoreError::InvalidResponse(reason.to_owned()));
        }
        count += 1;
        if host.is_empty() {
            host.clone_from(&of);
        }
        let signature = signature(&finding, &of);
        let row = FindingRow {
            labels: health.body.labels.clone(),
            ..row(&finding, &of, &signature)
        };
        let since = finding.since.unwrap_or(time).seconds().unwrap_or(now);
        // It appeared at that time, and still exists.
        for (time, change) in [(since, 1), (now, 4)] {
            rows.findings.push(FindingRow {
                time,
                change,
                ..row.clone()
            });
        }
        rows.examples.push(ExampleRow {
            time: now,
            host: of,
            signature: signature.id,
            frames: signature.frames.join("\n"),
            finding: line.get().to_owned(),
        });
    }
    let Health {
        ref labels,
        ref version,
        ref kernel,
        ref budget,
        ..
    } = health.body;
    rows.heartbeats.push(HeartbeatRow {
        time: health.time.seconds().unwrap_or(now),
        host: host.clone(),
        labels: labels.clone(),
        run: 0,
        version: version.to_string(),
        kernel: kernel.clone(),
        mode: budget.sheds.to_string(),
        events: health.body.events,
        lost: health.body.lost,
        drift: health.body.drift,
        cpu: budget.cpu,
        memory: health.body.rss_bytes,
        findings: count,
        ..HeartbeatRow::default()
    });
    Ok(host)
}

fn signature(finding: &Finding, host: &str) -> Signature {
    let (process, file) = (&finding.process, &finding.file);
    let path = file.process_path.as_deref().or(file.path.as_deref());
    let parts = SignatureInput {
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
        ..Signature::of_input(&parts, host)
    }
}

fn row(finding: &Finding, host: &str, signature: &Signature) -> FindingRow {
    let process = &finding.process;
    let writers = finding.fds.iter().filter(|fd| &*fd.access != "r").count();
    FindingRow {
        host: host.to_owned(),
        key: finding.key.map_or(0, super::rows::half),
        process: process_of(
            process.pid,
            process.start_time.as_deref().unwrap_or_default(),
        ),
        signature: signature.id.clone(),
        program: signature.program.to_string(),
        cause: signature.cause.clone(),
        path: signature.path.clone(),
        severity: finding.severity.known().map_or(1, |it| it as u8 + 1),
        fds: u32::try_from(finding.open()).unwrap_or(u32::MAX),
        pid: process.pid,
        comm: process.comm.clone(),
        file: finding.file.path.clone().unwrap_or_default(),
        writers: u32::try_from(writers).unwrap_or(u32::MAX),
        ..FindingRow::default()
    }
}
