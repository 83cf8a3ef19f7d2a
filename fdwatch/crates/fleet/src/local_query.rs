//! The questions, answered from rows in memory: those of a handful of agents.
//!
//! What is counted is what a server counts, exactly.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    questions::{
        Asked, By, Duplicates, Example, HOUR, Host, HostOf, MAX_ROWS, SharedFile, TREND, sort,
    },
    rows::{ExampleRow, FindingRow, HeartbeatRow, SharedFileRow},
};

/// Descriptors of one finding that are counted one by one.
const MAX_DESCRIPTORS: u32 = 256;

/// Names that are told of a shared file.
const MAX_NAMES: usize = 20;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Findings, in any order.
    pub findings: Vec<FindingRow>,
    /// Examples.
    pub examples: Vec<ExampleRow>,
    /// Heartbeats.
    pub heartbeats: Vec<HeartbeatRow>,
    /// Files of network file systems that are open for writing.
    pub files: Vec<SharedFileRow>,
    /// Agents that could not be asked, and why.
    pub errors: Vec<(String, String)>,
}

/// What is counted of what belongs together.
#[derive(Default)]
struct Group<'a> {
    hosts: BTreeSet<&'a str>,
    signatures: BTreeSet<&'a str>,
    processes: BTreeSet<(&'a str, u64)>,
    /// The most descriptors of each.
    findings: BTreeMap<(&'a str, u64), u32>,
    parts: BTreeMap<usize, BTreeSet<(&'a str, u64)>>,
    severity: u8,
    first: u32,
    last: u32,
}

/// Who writes a file of a network file system, and when.
struct Writes<'a> {
    time: u32,
    host: &'a str,
    program: &'a str,
    file: &'a str,
}

/// Processes, findings, the first and last time, and the file of that.
type OfHost<'a> = (BTreeSet<u64>, BTreeSet<u64>, u32, u32, &'a str);

impl Rows {
    fn wanted<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = &'a FindingRow> {
        self.findings.iter().filter(move |row| {
            row.time - row.time % HOUR >= asked.begin
                && row.severity >= asked.severity
                && (asked.signature.is_empty() || row.signature == asked.signature)
        })
    }

    /// See [`super::questions::Source::duplicates`].
    #[must_use]
    pub fn duplicates(&self, asked: &Asked, by: By) -> Vec<Duplicates> {
        let mut groups: BTreeMap<[&str; 5], Group<'_>> = BTreeMap::new();
        for row in self.wanted(asked) {
            let name = match by {
                By::Signature => [&row.signature, &row.program, &row.cause, &row.path, ""],
                By::Service => ["", &row.program, "", "", ""],
                By::Path => ["", "", "", &row.path, ""],
                By::Host => ["", "", "", "", &row.host[..]],
            };
            let group = groups.entry(name).or_default();
            let finding = (&row.host[..], row.key);
            group.hosts.insert(&row.host);
            group.signatures.insert(&row.signature);
            group.processes.insert((&row.host, row.process));
            let most = group.findings.entry(finding).or_default();
            *most = (*most).max(row.fds.min(MAX_DESCRIPTORS));
            let part = (row.time - row.time % HOUR).saturating_sub(asked.since) / asked.width;
            group
                .parts
                .entry(part as usize)
                .or_default()
                .insert(finding);
            group.severity = group.severity.max(row.severity);
            group.last = group.last.max(row.time);
            group.first = match group.first {
                0 => row.time,
                first => first.min(row.time),
            };
        }
        let mut all: Vec<_> = groups
            .into_iter()
            .filter(|(_, group)| group.first >= asked.first)
            .map(
                |([signature, program, cause, path, host], group)| Duplicates {
                    signature: signature.into(),
                    program: program.into(),
                    cause: cause.into(),
                    path: path.into(),
                    host: host.into(),
                    hosts: group.hosts.len() as u64,
                    signatures: group.signatures.len() as u64,
                    processes: group.processes.len() as u64,
                    findings: group.findings.len() as u64,
                    descriptors: group.findings.values().map(|&fds| u64::from(fds)).sum(),
                    severity: group.severity,
                    first: group.first,
                    last: group.last,
                    trend: (0..TREND as usize)
                        .map(|part| group.parts.get(&part).map_or(0, |it| it.len() as u64))
                        .collect(),
                },
            )
            .collect();
        sort(&mut all);
        all.truncate(MAX_ROWS + 1);
        all
    }

    /// Signatures that begin as what is asked for.
    pub(super) fn signatures(&self, asked: &Asked) -> Vec<String> {
        let begin = &asked.signature[..];
        let rows = self.findings.iter();
        let rows = rows.filter(|row| row.time >= asked.begin && row.signature.starts_with(begin));
        let names: BTreeSet<_> = rows.map(|row| &row.signature).collect();
        names.into_iter().cloned().collect()
    }

    pub(super) fn hosts_of(&self, asked: &Asked) -> Vec<HostOf> {
        let mut hosts: BTreeMap<&str, OfHost<'_>> = BTreeMap::new();
        for row in self
            .findings
            .iter()
            .filter(|row| row.signature == asked.signature && row.time >= asked.begin)
        {
            let host = hosts.entry(&row.host).or_default();
            host.0.insert(row.process);
            host.1.insert(row.key);
            if host.2 == 0 || row.time < host.2 {
                host.2 = row.time;
            }
            if row.time > host.3 {
                (host.3, host.4) = (row.time, &row.file);
            }
        }
        let mut all: Vec<_> = hosts
            .into_iter()
            .map(|(host, (processes, findings, first, last, file))| HostOf {
                host: host.into(),
                processes: processes.len() as u64,
                findings: findings.len() as u64,
                first,
                last,
                file: file.into(),
            })
            .collect();
        all.sort_by_key(|host| std::cmp::Reverse(host.last));
        all
    }

    pub(super) fn example(&self, asked: &Asked) -> Option<Example> {
        let examples = self.examples.iter();
        let of = examples.filter(|example| example.signature == asked.signature);
        let best = of.max_by_key(|example| {
            let host = std::cmp::Reverse(&example.host);
            (!example.frames.is_empty(), example.time, host)
        })?;
        Some(Example {
            host: best.host.clone(),
            time: best.time,
            frames: best.frames.clone(),
            finding: best.finding.clone(),
        })
    }

    pub(super) fn hosts(&self, asked: &Asked) -> Vec<Host> {
        let mut latest: BTreeMap<&str, &HeartbeatRow> = BTreeMap::new();
        for row in self.heartbeats.iter().filter(|row| row.time >= asked.begin) {
            let known = latest.entry(&row.host).or_insert(row);
            if row.time >= known.time {
                *known = row;
            }
        }
        let told = latest.into_values().map(|row| Host {
            host: row.host.clone(),
            labels: row.labels.clone(),
            last: row.time,
            version: row.version.clone(),
            kernel: row.kernel.clone(),
            mode: row.mode.clone(),
            lost: row.lost,
            drift: row.drift,
            cpu: row.cpu,
            memory: row.memory,
            findings: row.findings,
            spooled: row.spooled,
            dropped: row.dropped,
            files_left_out: row.files_left_out,
            error: String::new(),
        });
        let errors = self.errors.iter().map(|(host, error)| Host {
            host: host.clone(),
            error: error.clone(),
            ..Host::default()
        });
        told.chain(errors).collect()
    }

    pub(super) fn shared(&self, asked: &Asked) -> Vec<SharedFile> {
        let mut files: BTreeMap<(&str, u64), Vec<Writes<'_>>> = BTreeMap::new();
        let found = self
            .findings
            .iter()
            .filter(|row| !row.network.is_empty() && row.writers > 0);
        let found = found.map(|row| {
            let of = (&row.host, &row.program, &row.file);
            (&row.network[..], row.ino, row.time, of)
        });
        let open = self.files.iter().map(|row| {
            let of = (&row.host, &row.program, &row.file);
            (&row.network[..], row.ino, row.time, of)
        });
        for (network, ino, time, (host, program, file)) in found.chain(open) {
            if time >= asked.begin {
                let writes = Writes {
                    time,
                    host,
                    program,
                    file,
                };
                files.entry((network, ino)).or_default().push(writes);
            }
        }
        let some = |names: &BTreeSet<&str>| {
            names
                .iter()
                .take(MAX_NAMES)
                .map(ToString::to_string)
                .collect()
        };
        let mut all: Vec<_> = files
            .into_iter()
            .filter_map(|((network, ino), rows)| {
                let hosts: BTreeSet<_> = rows.iter().map(|row| row.host).collect();
                let programs: BTreeSet<_> = rows.iter().map(|row| row.program).collect();
                let last = rows.iter().max_by_key(|row| row.time)?;
                (hosts.len() >= 2).then(|| SharedFile {
                    network: network.into(),
                    ino,
                    file: last.file.to_owned(),
                    hosts: hosts.len() as u64,
                    names: some(&hosts),
                    programs: some(&programs),
                    last: last.time,
                })
            })
            .collect();
        all.sort_by_key(|file| std::cmp::Reverse(file.hosts));
        all
    }
}
