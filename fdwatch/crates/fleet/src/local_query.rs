//! Runs queries on rows in memory, with the same counts as a server.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    query::{
        AffectedHost, Duplicates, Example, GroupBy, HOUR, Host, MAX_ROWS, Query, SharedFile, TREND,
        sort,
    },
    rows::{ExampleRow, FindingRow, HeartbeatRow, SharedFileRow},
};

/// Maximum number of descriptors counted per finding.
const MAX_DESCRIPTORS: u32 = 256;

/// Maximum number of hosts and of programs listed for a shared file.
const MAX_NAMES: usize = 20;

/// Rows of a few agents.
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
    /// Agents that could not be queried, each with the error.
    pub errors: Vec<(String, String)>,
}

/// Counters of a group of duplicates.
#[derive(Default)]
struct Group<'a> {
    hosts: BTreeSet<&'a str>,
    signatures: BTreeSet<&'a str>,
    processes: BTreeSet<(&'a str, u64)>,
    /// Maximum number of descriptors of each finding.
    findings: BTreeMap<(&'a str, u64), u32>,
    /// Findings in each part of the trend.
    parts: BTreeMap<usize, BTreeSet<(&'a str, u64)>>,
    severity: u8,
    first: u32,
    last: u32,
}

/// A use of a file of a network file system.
struct FileUse<'a> {
    time: u32,
    host: &'a str,
    program: &'a str,
    file: &'a str,
}

/// Counters of a host that has a signature.
#[derive(Default)]
struct HostCounters<'a> {
    processes: BTreeSet<u64>,
    findings: BTreeSet<u64>,
    first: u32,
    last: u32,
    /// Path of the file of the latest finding.
    file: &'a str,
}

impl Rows {
    fn selected<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = &'a FindingRow> {
        self.findings.iter().filter(move |row| {
            row.time - row.time % HOUR >= query.begin
                && row.severity >= query.severity
                && (query.signature.is_empty() || row.signature == query.signature)
        })
    }

    /// Returns groups of duplicates, at most [`MAX_ROWS`] + 1.
    #[must_use]
    pub fn duplicates(&self, query: &Query, by: GroupBy) -> Vec<Duplicates> {
        let mut groups: BTreeMap<[&str; 5], Group<'_>> = BTreeMap::new();
        for row in self.selected(query) {
            let name = match by {
                GroupBy::Signature => [&row.signature, &row.program, &row.cause, &row.path, ""],
                GroupBy::Service => ["", &row.program, "", "", ""],
                GroupBy::Path => ["", "", "", &row.path, ""],
                GroupBy::Host => ["", "", "", "", &row.host[..]],
            };
            let group = groups.entry(name).or_default();
            let finding = (&row.host[..], row.key);
            group.hosts.insert(&row.host);
            group.signatures.insert(&row.signature);
            group.processes.insert((&row.host, row.process));
            let descriptors = group.findings.entry(finding).or_default();
            *descriptors = (*descriptors).max(row.fds.min(MAX_DESCRIPTORS));
            let part = (row.time - row.time % HOUR).saturating_sub(query.since) / query.width;
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
            .filter(|(_, group)| group.first >= query.first)
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

    /// Returns the signatures that start with the query's.
    pub(super) fn signatures(&self, query: &Query) -> Vec<String> {
        let prefix = &query.signature[..];
        let rows = self.findings.iter();
        let rows = rows.filter(|row| row.time >= query.begin && row.signature.starts_with(prefix));
        let names: BTreeSet<_> = rows.map(|row| &row.signature).collect();
        names.into_iter().cloned().collect()
    }

    pub(super) fn hosts_of(&self, query: &Query) -> Vec<AffectedHost> {
        let mut hosts: BTreeMap<&str, HostCounters<'_>> = BTreeMap::new();
        for row in self
            .findings
            .iter()
            .filter(|row| row.signature == query.signature && row.time >= query.begin)
        {
            let host = hosts.entry(&row.host).or_default();
            host.processes.insert(row.process);
            host.findings.insert(row.key);
            if host.first == 0 || row.time < host.first {
                host.first = row.time;
            }
            if row.time > host.last {
                (host.last, host.file) = (row.time, &row.file);
            }
        }
        let mut all: Vec<_> = hosts
            .into_iter()
            .map(|(host, counters)| AffectedHost {
                host: host.into(),
                processes: counters.processes.len() as u64,
                findings: counters.findings.len() as u64,
                first: counters.first,
                last: counters.last,
                file: counters.file.into(),
            })
            .collect();
        all.sort_by_key(|host| std::cmp::Reverse(host.last));
        all
    }

    pub(super) fn example(&self, query: &Query) -> Option<Example> {
        let examples = self.examples.iter();
        let matching = examples.filter(|example| example.signature == query.signature);
        let best = matching.max_by_key(|example| {
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

    pub(super) fn hosts(&self, query: &Query) -> Vec<Host> {
        let mut latest: BTreeMap<&str, &HeartbeatRow> = BTreeMap::new();
        for row in self.heartbeats.iter().filter(|row| row.time >= query.begin) {
            let newest = latest.entry(&row.host).or_insert(row);
            if row.time >= newest.time {
                *newest = row;
            }
        }
        let reached = latest.into_values().map(|row| Host {
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
        reached.chain(errors).collect()
    }

    pub(super) fn shared(&self, query: &Query) -> Vec<SharedFile> {
        let mut files: BTreeMap<(&str, u64), Vec<FileUse<'_>>> = BTreeMap::new();
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
            if time >= query.begin {
                let used = FileUse {
                    time,
                    host,
                    program,
                    file,
                };
                files.entry((network, ino)).or_default().push(used);
            }
        }
        let listed = |names: &BTreeSet<&str>| {
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
                    names: listed(&hosts),
                    programs: listed(&programs),
                    last: last.time,
                })
            })
            .collect();
        all.sort_by_key(|file| std::cmp::Reverse(file.hosts));
        all
    }
}
