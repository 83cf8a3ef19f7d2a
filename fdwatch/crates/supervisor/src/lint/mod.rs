//! What is wrong with a configuration of supervisord, as named rules. Each is true of supervisord
//! 4.2.5, tried or read. Pure: the host is handed in.

mod files;
mod rotation;
mod shared;
mod spelling;

use std::collections::BTreeMap;

use super::{
    config::Config,
    host::{FileKind, Found, Host, normalized},
    ini::Place,
    logrotate::Rotations,
    programs::{Process, Stream, Target},
};
use fdwatch_core::{diagnose::Severity, plural::counted};

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// supervisord does not start with it.
    Refused,
    /// A directory that a log is to be in is not there: supervisord does not start.
    MissingDirectory,
    /// A log cannot be opened: the process does not start, and each attempt leaves pipes open.
    UnwritableLog,
    /// A log cannot be renamed: after its first rotation all that is written is lost.
    UnrotatableLog,
    /// Two streams have one log.
    SharedLog,
    /// A process has supervisord's own log.
    OwnLog,
    /// A pipe or a terminal is to be rotated.
    UnseekableLog,
    /// supervisord and logrotate rotate one log.
    RotatedTwice,
    /// logrotate renames a log, and supervisord is not told.
    NotReopened,
    /// A log lies wherever supervisord is started.
    RelativeLog,
    /// A section that supervisord passes over.
    UnknownSection,
    /// A key that supervisord passes over.
    UnknownKey,
    /// Files that are not included though they were meant.
    NotIncluded,
    /// A pattern of files to include, that none matches yet.
    NothingIncluded,
    /// Two groups or processes of one name: supervisord starts one of them.
    SameName,
    /// A setting that is of no effect, or is to be put otherwise.
    NoEffect,
}

impl Rule {
    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::MissingDirectory => "missing-directory",
            Self::UnwritableLog => "unwritable-log",
            Self::UnrotatableLog => "unrotatable-log",
            Self::SharedLog => "shared-log",
            Self::OwnLog => "own-log",
            Self::UnseekableLog => "unseekable-log",
            Self::RotatedTwice => "rotated-twice",
            Self::NotReopened => "not-reopened",
            Self::RelativeLog => "relative-log",
            Self::UnknownSection => "unknown-section",
            Self::UnknownKey => "unknown-key",
            Self::NotIncluded => "not-included",
            Self::NothingIncluded => "nothing-included",
            Self::SameName => "same-name",
            Self::NoEffect => "no-effect",
        }
    }

    /// How much it matters.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::Refused | Self::MissingDirectory | Self::UnwritableLog => Severity::Critical,
            Self::UnrotatableLog
            | Self::SharedLog
            | Self::OwnLog
            | Self::UnseekableLog
            | Self::RotatedTwice
            | Self::NotReopened
            | Self::NotIncluded
            | Self::SameName => Severity::Warning,
            Self::NothingIncluded
            | Self::RelativeLog
            | Self::UnknownSection
            | Self::UnknownKey
            | Self::NoEffect => Severity::Info,
        }
    }

    /// The cause of the duplicates that come of it, in fdwatch's words, if any do.
    #[must_use]
    pub const fn cause(self) -> Option<&'static str> {
        match self {
            Self::SharedLog | Self::OwnLog => Some("shared-config"),
            Self::RotatedTwice | Self::NotReopened => Some("rotated"),
            _ => None,
        }
    }
}

/// A place in a file, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which rule says so.
    pub rule: Rule,
    /// Where.
    pub at: Spot,
    /// What is wrong.
    pub message: String,
    /// What to change; empty if the message says it.
    pub advice: String,
    /// The file it is about, if it is about one.
    pub path: Option<String>,
    /// What else has to do with it, and where that is.
    pub related: Vec<(Spot, String)>,
}

/// All that is wrong, in the order of the files and their lines.
#[must_use]
pub fn lint(config: &Config, rotations: &Rotations, host: &dyn Host) -> Vec<Problem> {
    let mut linter = Linter {
        config,
        rotations,
        host,
        problems: Vec::new(),
    };
    spelling::check(&mut linter);
    let logs = linter.logs();
    files::check(&mut linter, &logs);
    shared::check(&mut linter, &logs);
    rotation::check(&mut linter, &logs);
    let mut problems = linter.problems;
    let order: BTreeMap<_, _> = config.files.iter().zip(0..).collect();
    problems.sort_by_key(|problem| {
        (
            order.get(&problem.at.file).copied(),
            problem.at.line,
            problem.rule,
        )
    });
    problems
}

struct Linter<'a> {
    config: &'a Config,
    rotations: &'a Rotations,
    host: &'a dyn Host,
    problems: Vec<Problem>,
}

/// Who writes a log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner<'a> {
    Daemon,
    Process(&'a Process, Stream),
}

/// A file that someone writes as a log.
struct Writer<'a> {
    by: Owner<'a>,
    /// As the configuration has it, from the root.
    path: &'a str,
    /// Size at which it is rotated, in bytes; 0 if never.
    maxbytes: i64,
    backups: i64,
    /// Where the file is said; the section, if it is supervisord's default.
    at: Place,
    /// Where its rotation is said, if that is.
    maxbytes_at: Option<Place>,
}

impl Writer<'_> {
    fn name(&self) -> String {
        match self.by {
            Owner::Daemon => "supervisord itself".to_owned(),
            Owner::Process(process, stream) => {
                format!("{} of {}", stream.name(), process.full_name())
            }
        }
    }

    fn section(&self) -> &str {
        match self.by {
            Owner::Daemon => "supervisord",
            Owner::Process(process, _) => &process.section,
        }
    }

    /// The key that names the file.
    const fn key(&self) -> &'static str {
        match self.by {
            Owner::Daemon => "logfile",
            Owner::Process(_, Stream::Stdout) => "stdout_logfile",
            Owner::Process(_, Stream::Stderr) => "stderr_logfile",
        }
    }
}

/// A file, and all who write it.
struct LogFile<'a> {
    found: Found,
    writers: Vec<Writer<'a>>,
}

impl LogFile<'_> {
    fn path(&self) -> &str {
        self.writers.first().map_or("", |writer| writer.path)
    }

    /// Its paths in the configuration, each once.
    fn paths(&self) -> Vec<&str> {
        let mut paths: Vec<_> = self.writers.iter().map(|writer| writer.path).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

/// What makes two logs one: the inode, the path it would have, or if there is no directory the path
/// that is written.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Inode(u64, u64),
    Path(String),
}

impl<'a> Linter<'a> {
    fn spot(&self, at: Place) -> Spot {
        Spot {
            file: self.config.files.get(at.file).cloned().unwrap_or_default(),
            line: at.line,
        }
    }

    /// `file:line`, for advice.
    fn place(&self, at: Place) -> String {
        let spot = self.spot(at);
        format!("{}:{}", spot.file, spot.line)
    }

    fn tell(&mut self, rule: Rule, at: Place, message: String, advice: String) {
        self.tell_of(None, rule, at, message, advice);
    }

    fn tell_of(
        &mut self,
        path: Option<&str>,
        rule: Rule,
        at: Place,
        message: String,
        advice: String,
    ) {
        self.problems.push(Problem {
            rule,
            at: self.spot(at),
            message,
            advice,
            path: path.map(str::to_owned),
            related: Vec::new(),
        });
    }

    fn user(&self) -> Option<&'a str> {
        let user = self.config.daemon.user.as_ref();
        user.map(|user| user.value.as_str())
    }

    /// The logs that the configuration names, each file once.
    fn logs(&self) -> Vec<LogFile<'a>> {
        let mut by_path: BTreeMap<&str, Found> = BTreeMap::new();
        let mut logs: Vec<LogFile<'a>> = Vec::new();
        let mut by_key: BTreeMap<Key, usize> = BTreeMap::new();
        for writer in self.writers() {
            let found = by_path
                .entry(writer.path)
                .or_insert_with(|| self.look(writer.path));
            let key = match (found.identity, &found.resolved) {
                // Whatever is no file of its own is not shared by having one path.
                _ if is_of_the_reader(writer.path) => Key::Path(writer.path.to_owned()),
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
        if is_of_the_reader(path) {
            // Of supervisord's own descriptors nothing is known from here.
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
                    by: Owner::Daemon,
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
                    by: Owner::Process(process, stream),
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

/// Whether a path is another file for each process that opens it.
fn is_of_the_reader(path: &str) -> bool {
    matches!(
        path,
        "/dev/stdin" | "/dev/stdout" | "/dev/stderr" | "/dev/tty"
    ) || ["/dev/fd/", "/proc/self/"]
        .iter()
        .any(|own| path.starts_with(own))
}

/// A size as people write it.
fn size(bytes: i64) -> String {
    match bytes {
        _ if bytes % (1 << 20) == 0 => format!("{}MB", bytes >> 20),
        _ if bytes % (1 << 10) == 0 => format!("{}KB", bytes >> 10),
        _ => counted(bytes, "byte"),
    }
}

/// Some of many: the first, and how many more.
fn some_of(all: &[String]) -> String {
    const MAX: usize = 4;
    match all.len() {
        0 => String::new(),
        1..=MAX => all.join(", "),
        many => format!("{} and {} more", all[..MAX - 1].join(", "), many - MAX + 1),
    }
}
