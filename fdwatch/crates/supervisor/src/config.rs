//! A configuration as supervisord sees it: its files, its processes and their logs.

use crate::ini::{Document, Fault, Location};

/// Maximum number of processes created from one configuration.
pub const MAX_PROCESSES: usize = 20_000;

/// A value, and where it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Line that sets it; `None` for supervisord's default.
    pub at: Option<Location>,
}

/// A configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The files read, in this order; [`Location::file`] is an index into it.
    pub files: Vec<String>,
    /// The directory of the first file: `%(here)s`.
    pub here: String,
    /// supervisord itself.
    pub daemon: Daemon,
    /// The processes it starts, in the order of their sections; groups first, as in supervisord.
    pub processes: Vec<Process>,
    /// The errors that prevent supervisord from starting. supervisord reports only the first.
    pub faults: Vec<Fault>,
    /// Settings that supervisord ignores or warns about.
    pub warnings: Vec<Warning>,
    /// The sections as read.
    pub document: Document,
}

/// The settings of `[supervisord]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Daemon {
    /// Absolute path of supervisord's own log; `None` for syslog.
    pub logfile: Option<String>,
    /// Line that sets `logfile`.
    pub logfile_at: Option<Location>,
    /// Size at which the log is rotated, in bytes; 0 for never.
    pub logfile_maxbytes: Option<Setting<i64>>,
    /// Number of rotated logs that are retained.
    pub logfile_backups: i64,
    /// The directory supervisord changes to when it becomes a daemon.
    pub directory: Option<Setting<String>>,
    /// The directory of logs with generated names.
    pub childlogdir: Option<Setting<String>>,
    /// The user that supervisord runs as; `None` for the user who starts it.
    pub user: Option<Setting<String>>,
    /// The part of generated log names that identifies this supervisord.
    pub identifier: String,
    /// The directory that relative log paths start from.
    pub working_directory: String,
}

/// Something that supervisord accepts but ignores or warns about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Warning {
    /// Line of the setting.
    pub at: Location,
    /// Kind of the warning.
    pub kind: WarningKind,
}

/// The kind of a [`Warning`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WarningKind {
    /// A pattern of `files` that no file matches.
    NothingIncluded(String),
    /// A matching file that cannot be read, and the reason. supervisord skips it silently.
    NotIncluded(String, String),
    /// An `[include]` in an included file, which supervisord ignores.
    NestedInclude,
    /// `stderr_logfile` together with `redirect_stderr`.
    StderrIgnored,
    /// `syslog` as the name of a log; the key to use instead.
    SyslogAsName(&'static str),
    /// A log of this stream with a generated name and without a size limit.
    AutoWithoutRotation(&'static str),
}

/// A process that supervisord starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Name of its program: the part of its section's name after the colon.
    pub program: String,
    /// Its group: the program's name, unless a `[group:x]` lists the program.
    pub group: String,
    /// First line of the section that creates the group.
    pub group_at: Location,
    /// Its own name.
    pub name: String,
    /// `process_num`.
    pub number: i64,
    /// Number of processes of its program.
    pub numprocs: Setting<i64>,
    /// Name of its section.
    pub section: String,
    /// First line of its section.
    pub at: Location,
    /// Whether stderr goes to the log of stdout.
    pub redirect_stderr: bool,
    /// The log of its stdout.
    pub stdout: Log,
    /// The log of its stderr.
    pub stderr: Log,
}

impl Process {
    /// Returns the name that supervisorctl shows.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.group == self.name {
            self.name.clone()
        } else {
            format!("{}:{}", self.group, self.name)
        }
    }

    /// Returns the log of a stream.
    #[must_use]
    pub const fn log(&self, stream: Stream) -> &Log {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }
}

/// An output stream of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// Both streams.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// Returns the name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The log of a stream, with its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The file.
    pub target: Target,
    /// Line that sets the file; `None` for supervisord's default.
    pub at: Option<Location>,
    /// Whether lines also go to syslog.
    pub syslog: bool,
    /// Size at which the log is rotated, in bytes; 0 for never.
    pub maxbytes: Setting<i64>,
    /// Number of rotated logs that are retained.
    pub backups: Setting<i64>,
    /// Size of the buffer for output between capture tags, in bytes; 0 disables capturing.
    pub capture_maxbytes: Setting<i64>,
}

/// The file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// No file.
    None,
    /// A file with a generated name: this prefix, eight characters of `a-z0-9_`, and `.log`.
    Auto(String),
    /// A file that the configuration names.
    Path {
        /// The path as supervisord reports it.
        reported: String,
        /// The absolute path.
        absolute: String,
    },
}
