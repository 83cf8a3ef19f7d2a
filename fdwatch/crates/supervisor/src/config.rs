//! A configuration as a whole: its files, what `[supervisord]` says, and what becomes of the rest.

use std::io;

use rustc_hash::FxHashSet;

use super::{
    expand::{Names, Value, expand},
    host::{Host, directory_of, expand_user, join, normalized},
    ini::{Document, Entry, Fault, Place, Section},
    keys::SectionKind,
    programs::{self, Process},
    values::{self, Kind},
};

/// Why there is nothing to say of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
pub struct ReadError {
    /// The file.
    pub path: String,
    /// Why.
    pub source: io::Error,
}

/// A value, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where; none if it is supervisord's default.
    pub at: Option<Place>,
}

/// A configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The files that were read, in that order: what [`Place::file`] is an index of.
    pub files: Vec<String>,
    /// The directory of the first: `%(here)s`.
    pub here: String,
    /// supervisord itself.
    pub daemon: Daemon,
    /// The processes it starts, in the order of their sections; groups first, as in supervisord.
    pub processes: Vec<Process>,
    /// What supervisord refuses to start for. It tells the first only.
    pub faults: Vec<Fault>,
    /// What it goes on without, or warns of.
    pub remarks: Vec<Remark>,
    /// The sections as they were read.
    pub document: Document,
}

/// What `[supervisord]` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Daemon {
    /// Its own log, absolute; none if that is syslog.
    pub logfile: Option<String>,
    /// Where that is said.
    pub logfile_at: Option<Place>,
    /// Size at which that is rotated, in bytes; 0 if never.
    pub logfile_maxbytes: Option<Setting<i64>>,
    /// How many rotated ones are kept.
    pub logfile_backups: i64,
    /// The directory it goes to when it becomes a daemon.
    pub directory: Option<Setting<String>>,
    /// The directory of logs that have no name in the configuration.
    pub childlogdir: Option<Setting<String>>,
    /// Whom it runs as; none for whoever starts it.
    pub user: Option<Setting<String>>,
    /// Its name in these logs' names.
    pub identifier: String,
    /// The directory that relative logs are in.
    pub working_directory: String,
}

/// Something that supervisord does not refuse, and perhaps warns of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remark {
    /// Where.
    pub at: Place,
    /// What.
    pub kind: RemarkKind,
}

/// See [`Remark`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RemarkKind {
    /// A pattern of `files` that no file matches.
    NothingIncluded(String),
    /// A file that matches but cannot be read: it is passed over in silence.
    NotIncluded(String, String),
    /// An `[include]` in an included file, which is not followed.
    NestedInclude,
    /// `stderr_logfile` beside `redirect_stderr`.
    StderrIgnored,
    /// `syslog` as the name of a log; the key that is to be used instead.
    SyslogAsName(&'static str),
    /// A log without a name in the configuration, and without a limit.
    AutoWithoutRotation(&'static str),
}

/// Reads the configuration that begins with the file at `path`.
///
/// What is wrong in it is in [`Config::faults`], and what can be said in spite of that is said.
///
/// # Errors
///
/// If that file cannot be read.
pub fn read(path: &str, host: &dyn Host) -> Result<Config, ReadError> {
    let absolute = normalized(&join(&host.current_directory(), path));
    let here = directory_of(&absolute).to_owned();
    let bytes = host.read(path).map_err(|source| ReadError {
        path: path.to_owned(),
        source,
    })?;
    let config = Config {
        files: Vec::new(),
        here: here.clone(),
        daemon: Daemon::default(),
        processes: Vec::new(),
        faults: Vec::new(),
        remarks: Vec::new(),
        document: Document::default(),
    };
    let mut environment = Names::new();
    for (name, value) in host.environment() {
        environment.insert(format!("ENV_{name}"), Value::Text(value));
    }
    let mut reader = Reader {
        config,
        host,
        environment,
    };
    if reader.take_in(path, &bytes) && reader.include() {
        reader.resolve();
    }
    let mut config = reader.config;
    config.faults = once(config.faults);
    config.remarks = once(config.remarks);
    Ok(config)
}

/// What is said of each process of a program is said once.
fn once<T: Clone + Eq + std::hash::Hash>(told: Vec<T>) -> Vec<T> {
    let mut seen = FxHashSet::default();
    told.into_iter()
        .filter(|one| seen.insert(one.clone()))
        .collect()
}

/// A configuration that is being read.
pub(super) struct Reader<'a> {
    pub(super) config: Config,
    pub(super) host: &'a dyn Host,
    /// `ENV_X` for each X: of supervisord's environment, then also of that which it sets.
    pub(super) environment: Names,
}

impl Reader<'_> {
    /// Reads one file; whether there is any sense in going on.
    fn take_in(&mut self, path: &str, bytes: &[u8]) -> bool {
        let file = self.config.files.len();
        self.config.files.push(path.to_owned());
        let text = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
                self.fault(Place { file, line }, "not UTF-8".to_owned());
                return false;
            }
        };
        match self.config.document.read(text, file) {
            Ok(()) => true,
            Err(faults) => {
                self.config.faults.extend(faults);
                false
            }
        }
    }

    pub(super) fn fault(&mut self, at: Place, reason: String) {
        self.config.faults.push(Fault { at, reason });
    }

    pub(super) fn remark(&mut self, at: Place, kind: RemarkKind) {
        self.config.remarks.push(Remark { at, kind });
    }

    /// The names that are known everywhere.
    pub(super) fn names(&self) -> Names {
        let mut names = self.environment.clone();
        let here = Value::Text(self.config.here.clone());
        names.insert("here".to_owned(), here);
        names
    }

    /// Follows `[include]`; whether there is any sense in going on.
    fn include(&mut self) -> bool {
        let here = self.config.here.clone();
        let Some(section) = self.config.document.section("include") else {
            return true;
        };
        let section_at = section.at;
        self.config.document.expand_here(&here);
        let document = &self.config.document;
        let section = document.section("include");
        let Some(files) = section.and_then(|section| document.get(section, "files")) else {
            self.fault(section_at, "[include] without files".to_owned());
            return false;
        };
        let files = files.clone();
        let mut names = self.names();
        let node = Value::Text(self.host.node_name());
        names.insert("host_node_name".to_owned(), node);
        let Some(patterns) = self.expanded("files", &files, &names) else {
            return false;
        };
        for pattern in values::words(&patterns) {
            let pattern = join(&here, pattern);
            let mut paths = self.host.glob(&pattern);
            if paths.is_empty() {
                self.remark(files.at, RemarkKind::NothingIncluded(pattern));
            }
            paths.sort_unstable();
            for path in paths {
                let bytes = match self.host.read(&path) {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        let kind = RemarkKind::NotIncluded(path, error.to_string());
                        self.remark(files.at, kind);
                        continue;
                    }
                };
                if !self.take_in(&path, &bytes) {
                    return false;
                }
                let included = normalized(&join(&self.host.current_directory(), &path));
                self.config.document.expand_here(directory_of(&included));
                self.look_for_nested_include();
            }
        }
        true
    }

    fn look_for_nested_include(&mut self) {
        let section = self.config.document.section("include");
        let entry = section.and_then(|section| section.entries.get("files"));
        if let Some(at) = entry.map(|entry| entry.at).filter(|at| at.file != 0) {
            self.remark(at, RemarkKind::NestedInclude);
        }
    }

    /// A value with its expansions made; none if that cannot be done, which is told.
    pub(super) fn expanded(&mut self, key: &str, entry: &Entry, names: &Names) -> Option<String> {
        match expand(&entry.value, names) {
            Ok(text) => Some(text),
            Err(error) => {
                let hint = if matches!(&error, super::ExpandError::Unknown(name) if name.starts_with("ENV_"))
                {
                    " (it is not in the environment of fdwatch, which is taken for supervisord's)"
                } else {
                    ""
                };
                self.fault(entry.at, format!("{key}: {error}{hint}"));
                None
            }
        }
    }

    /// A key's value with its expansions made, and checked; none if the key is not there, or is wrong,
    /// which is told.
    pub(super) fn get(
        &mut self,
        section: &Section,
        key: &str,
        names: &Names,
    ) -> Option<Setting<String>> {
        let entry = self.config.document.get(section, key)?.clone();
        let value = self.expanded(key, &entry, names)?;
        let kinds = SectionKind::of(&section.name).keys();
        let kind = kinds.and_then(|mut kinds| kinds.find(|&(known, _)| known == key));
        if let Err(error) = values::check(kind.map_or(Kind::Text, |kind| kind.1), &value) {
            self.fault(entry.at, format!("{key}: {error}"));
            return None;
        }
        let at = Some(entry.at);
        Some(Setting { value, at })
    }

    /// As [`Self::get`], for numbers, sizes and truth; `default` where there is none.
    pub(super) fn get_as<T, E>(
        &mut self,
        (section, key): (&Section, &str),
        names: &Names,
        convert: impl Fn(&str) -> Result<T, E>,
        default: T,
    ) -> Setting<T> {
        let setting = self.get(section, key, names);
        // What cannot be converted was told of.
        let converted = setting.and_then(|setting| {
            let value = convert(&setting.value).ok()?;
            let at = setting.at;
            Some(Setting { value, at })
        });
        converted.unwrap_or(Setting {
            value: default,
            at: None,
        })
    }

    fn resolve(&mut self) {
        let Some(section) = self.config.document.section("supervisord").cloned() else {
            let at = Place { file: 0, line: 1 };
            self.fault(at, "there is no [supervisord] section".to_owned());
            return;
        };
        self.daemon(&section);
        programs::resolve(self);
    }

    fn daemon(&mut self, section: &Section) {
        let names = self.names();
        let user_path = |host: &dyn Host, setting: Setting<String>| Setting {
            value: expand_user(host, &setting.value),
            ..setting
        };
        // Those that are of no use here are looked at as well: supervisord does.
        for key in [
            "loglevel",
            "minfds",
            "minprocs",
            "nocleanup",
            "silent",
            "strip_ansi",
            "umask",
            "pidfile",
        ] {
            let _ = self.get(section, key, &names);
        }
        let host = self.host;
        let start = host.current_directory();
        let directory = self.get(section, "directory", &names);
        let directory = directory.map(|setting| user_path(host, setting));
        let nodaemon = self.get_as((section, "nodaemon"), &names, values::boolean, false);
        let working_directory = match &directory {
            Some(directory) if !nodaemon.value => join(&start, &directory.value),
            _ => start.clone(),
        };
        let logfile = self.get(section, "logfile", &names);
        let logfile_at = logfile.as_ref().and_then(|logfile| logfile.at);
        let logfile = logfile.map_or_else(|| "supervisord.log".to_owned(), |logfile| logfile.value);
        // Resolved before it goes to its directory.
        let logfile =
            (logfile != "syslog").then(|| normalized(&join(&start, &expand_user(host, &logfile))));
        let maxbytes = (section, "logfile_maxbytes");
        let logfile_maxbytes = self.get_as(maxbytes, &names, values::bytes, 50 << 20);
        let backups = (section, "logfile_backups");
        let logfile_backups = self.get_as(backups, &names, values::integer, 10).value;
        let identifier = self.get(section, "identifier", &names);
        let childlogdir = self.get(section, "childlogdir", &names);
        let user = self.get(section, "user", &names);
        self.config.daemon = Daemon {
            logfile,
            logfile_at,
            logfile_maxbytes: Some(logfile_maxbytes),
            logfile_backups,
            directory,
            childlogdir: childlogdir.map(|setting| user_path(host, setting)),
            user,
            identifier: identifier.map_or_else(|| "supervisor".to_owned(), |name| name.value),
            working_directory,
        };
        // Expanded twice: first without host_node_name, then with it.
        let Some(first) = self.get(section, "environment", &names) else {
            return;
        };
        let at = first.at.unwrap_or(section.at);
        let mut names = names;
        let node = Value::Text(self.host.node_name());
        names.insert("host_node_name".to_owned(), node);
        let entry = Entry {
            value: first.value,
            at,
        };
        let Some(text) = self.expanded("environment", &entry, &names) else {
            return;
        };
        match values::pairs(&text) {
            Ok(pairs) => {
                for (name, value) in pairs {
                    let name = format!("ENV_{name}");
                    self.environment.insert(name, Value::Text(value));
                }
            }
            Err(error) => self.fault(at, format!("environment: {error}")),
        }
    }
}
