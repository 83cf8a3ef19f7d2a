//! Reading a configuration: the files and what they include, and `[supervisord]`.

use std::io;

use rustc_hash::FxHashSet;

use crate::{
    config::{Config, Daemon, Setting, WarningKind},
    expand::{Names, Value},
    host::{Host, directory_of, expand_user, join, normalized},
    ini::{Document, Entry, Location, Section},
    programs,
    reader::Reader,
    values,
};

/// Error that prevents a configuration from being read at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
pub struct ReadError {
    /// The path of the file.
    pub path: String,
    /// The reason.
    pub source: io::Error,
}

/// Reads the configuration that begins with the file at `path`.
///
/// Errors in the configuration are in [`Config::faults`]; the rest is filled in as far as possible.
///
/// # Errors
///
/// If the file cannot be read.
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
        warnings: Vec::new(),
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
    if reader.read_file(path, &bytes) && reader.include() {
        reader.resolve();
    }
    let mut config = reader.config;
    config.faults = once(config.faults);
    config.warnings = once(config.warnings);
    Ok(config)
}

/// Removes duplicates: all processes of a program have the same faults.
fn once<T: Clone + Eq + std::hash::Hash>(all: Vec<T>) -> Vec<T> {
    let mut seen = FxHashSet::default();
    all.into_iter()
        .filter(|one| seen.insert(one.clone()))
        .collect()
}

impl Reader<'_> {
    /// Reads one file; returns whether reading can continue.
    fn read_file(&mut self, path: &str, bytes: &[u8]) -> bool {
        let file = self.config.files.len();
        self.config.files.push(path.to_owned());
        let text = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
                self.fault(Location { file, line }, "invalid UTF-8".to_owned());
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

    /// Reads the files that `[include]` names; returns whether reading can continue.
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
            self.fault(section_at, "[include]: missing key files".to_owned());
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
                self.warn(files.at, WarningKind::NothingIncluded(pattern));
            }
            paths.sort_unstable();
            for path in paths {
                let bytes = match self.host.read(&path) {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        let kind = WarningKind::NotIncluded(path, error.to_string());
                        self.warn(files.at, kind);
                        continue;
                    }
                };
                if !self.read_file(&path, &bytes) {
                    return false;
                }
                let included = normalized(&join(&self.host.current_directory(), &path));
                self.config.document.expand_here(directory_of(&included));
                self.check_nested_include();
            }
        }
        true
    }

    fn check_nested_include(&mut self) {
        let section = self.config.document.section("include");
        let entry = section.and_then(|section| section.entries.get("files"));
        if let Some(at) = entry.map(|entry| entry.at).filter(|at| at.file != 0) {
            self.warn(at, WarningKind::NestedInclude);
        }
    }

    fn resolve(&mut self) {
        let Some(section) = self.config.document.section("supervisord").cloned() else {
            let at = Location { file: 0, line: 1 };
            self.fault(at, "no [supervisord] section".to_owned());
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
        // Unused here, but supervisord rejects invalid values.
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
        // supervisord resolves this path before it changes to its directory.
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
        // supervisord expands this twice: first without host_node_name, then with it.
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
