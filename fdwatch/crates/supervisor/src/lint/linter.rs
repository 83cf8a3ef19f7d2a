//! State that all rules share: the logs by file, their writers, and the list of problems.

use std::collections::BTreeMap;

use fdwatch_core::plural::counted;

use super::{
    problem::{FileLine, Problem},
    rule::Rule,
};
use crate::{
    config::{Config, Process, Stream, Target},
    host::{FileKind, Found, Host, normalized},
    ini::Location,
    logrotate::Rotations,
};

/// The input of the rules, and the problems found so far.
pub(super) struct Linter<'a> {
    pub(super) config: &'a Config,
    pub(super) rotations: &'a Rotations,
    pub(super) host: &'a dyn Host,
    pub(super) problems: Vec<Problem>,
}

/// The source of the lines in a log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LogSource<'a> {
    Daemon,
    Process(&'a Process, Stream),
}

/// A writer of a log, with its settings for it.
pub(super) struct Writer<'a> {
    pub(super) source: LogSource<'a>,
    /// The absolute path, as configured.
    pub(super) path: &'a str,
    /// Size at which the log is rotated, in bytes; 0 for never.
    pub(super) maxbytes: i64,
    pub(super) backups: i64,
    /// Line that sets the file; that of the section for supervisord's default.
    pub(super) at: Location,
    /// Line that sets `maxbytes`, if any.
    pub(super) maxbytes_at: Option<Location>,
}

impl Writer<'_> {
    pub(super) fn name(&self) -> String {
        match self.source {
            LogSource::Daemon => "supervisord itself".to_owned(),
            LogSource::Process(process, stream) => {
                format!("{} of {}", stream.name(), process.full_name())
            }
        }
    }

    pub(super) fn section(&self) -> &str {
        match self.source {
            LogSource::Daemon => "supervisord",
            LogSource::Process(process, _) => &process.section,
        }
    }

    /// Returns the key that sets the file.
    pub(super) const fn key(&self) -> &'static str {
        match self.source {
            LogSource::Daemon => "logfile",
            LogSource::Process(_, Stream::Stdout) => "stdout_logfile",
            LogSource::Process(_, Stream::Stderr) => "stderr_logfile",
        }
    }
}

/// A log file with all of its writers.
pub(super) struct LogFile<'a> {
    pub(super) found: Found,
    pub(super) writers: Vec<Writer<'a>>,
}

impl LogFile<'_> {
    pub(super) fn path(&self) -> &str {
        self.writers.first().map_or("", |writer| writer.path)
    }

    /// Returns its different paths in the configuration.
    pub(super) fn paths(&self) -> Vec<&str> {
        let mut paths: Vec<_> = self.writers.iter().map(|writer| writer.path).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

/// The identity of a log: its inode, or for a missing file its resolved path, or without a directory
/// its configured path.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Inode(u64, u64),
    Path(String),
}

impl<'a> Linter<'a> {
    pub(super) fn new(config: &'a Config, rotations: &'a Rotations, host: &'a dyn Host) -> Self {
        Self {
            config,
            rotations,
            host,
            problems: Vec::new(),
        }
    }

    pub(super) fn file_line(&self, at: Location) -> FileLine {
        FileLine {
            file: self.config.files.get(at.file).cloned().unwrap_or_default(),
            line: at.line,
        }
    }

    /// Formats a location as `file:line`.
    pub(super) fn place(&self, at: Location) -> String {
        let FileLine { file, line } = self.file_line(at);
        format!("{file}:{line}")
    }

    pub(super) fn report(&mut self, rule: Rule, at: Location, message: String, advice: String) {
        self.report_path(None, rule, at, message, advice);
    }

    pub(super) fn report_path(
        &mut self,
        path: Option<&str>,
        rule: Rule,
        at: Location,
        message: String,
        advice: String,
    ) {
        self.problems.push(Problem {
            rule,
            at: self.file_line(at),
            message,
            advice,
            path: path.map(str::to_owned),
            related: Vec::new(),
        });
    }

    /// Returns the user that supervisord is configured to run as.
    pub(super) fn user(&self) -> Option<&'a str> {
        let user = self.config.daemon.user.as_ref();
        user.map(|user| user.value.as_str())
    }

    /// Groups the writers by log file.
    pub(super) fn logs(&self) -> Vec<LogFile<'a>> {
        let mut by_path: BTreeMap<&str, Found> = BTreeMap::new();
        let mut logs: Vec<LogFile<'a>> = Vec::new();
        let mut by_key: BTreeMap<Key, usize> = BTreeMap::new();
        for writer in self.writers() {
            let found = by_path
                .entry(writer.path)
                .or_insert_with(|| self.look(writer.path));
            let key = match (found.identity, &found.resolved) {
                // The same path is a different file for each process.
                _ if is_per_process(writer.path) => Key::Path(writer.path.to_owned()),
                (Some((device, inode)), _) => Key::Inode(device, inode),
                (None, Some(resolved)) => Key::Path(resolved.clone()),
                (None, None) => Key::Path(normalized(writer.path)),
            };
            let index = *by_key.entry(key).or_insert(logs.len());
            if index == logs.len() {
                logs.push(LogFile {
                    found: found.clone(),
                    writers: Vec::new(),
                });
            }
            if let Some(log) = logs.get_mut(index) {
                log.writers.push(writer);
            }
        }
        logs
    }

    fn look(&self, path: &str) -> Found {
        if is_per_process(path) {
            // The descriptors of supervisord are unknown: it may not be running.
            return Found {
                kind: Some(FileKind::Other),
                ..Found::default()
            };
        }
        self.host.look(path)
    }

    fn writers(&self) -> Vec<Writer<'a>> {
        let config = self.config;
        let daemon = &config.daemon;
        let section = config.document.section("supervisord");
        let own = daemon
            .logfile
            .as_deref()
            .zip(section)
            .map(|(path, section)| {
                let maxbytes = daemon.logfile_maxbytes;
                Writer {
                    source: LogSource::Daemon,
                    path,
                    maxbytes: maxbytes.map_or(0, |setting| setting.value),
                    backups: daemon.logfile_backups,
                    at: daemon.logfile_at.unwrap_or(section.at),
                    maxbytes_at: maxbytes.and_then(|setting| setting.at),
                }
            });
        let streams = config.processes.iter().flat_map(|process| {
            Stream::ALL.into_iter().filter_map(move |stream| {
                let log = process.log(stream);
                let Target::Path { absolute, .. } = &log.target else {
                    return None;
                };
                Some(Writer {
                    source: LogSource::Process(process, stream),
                    path: absolute,
                    maxbytes: log.maxbytes.value,
                    backups: log.backups.value,
                    at: log.at.unwrap_or(process.at),
                    maxbytes_at: log.maxbytes.at,
                })
            })
        });
        own.into_iter().chain(streams).collect()
    }
}

/// Returns whether a path refers to a different file in each process.
pub(super) fn is_per_process(path: &str) -> bool {
    matches!(
        path,
        "/dev/stdin" | "/dev/stdout" | "/dev/stderr" | "/dev/tty"
    ) || ["/dev/fd/", "/proc/self/"]
        .iter()
        .any(|own| path.starts_with(own))
}

/// Formats a size in the units of supervisord.
pub(super) fn size(bytes: i64) -> String {
    match bytes {
        _ if bytes % (1 << 20) == 0 => format!("{}MB", bytes >> 20),
        _ if bytes % (1 << 10) == 0 => format!("{}KB", bytes >> 10),
        _ => counted(bytes, "byte"),
    }
}

/// Lists the first items, and the number of the others.
pub(super) fn abbreviated(all: &[String]) -> String {
    const MAX: usize = 4;
    match all.len() {
        0 => String::new(),
        1..=MAX => all.join(", "),
        many => format!("{} and {} more", all[..MAX - 1].join(", "), many - MAX + 1),
    }
}
