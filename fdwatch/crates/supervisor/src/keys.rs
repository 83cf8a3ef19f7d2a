//! The sections and keys that supervisord knows, and what it takes as their values
//! (supervisor/options.py of 4.2.5; 4.3.0 has the same).

use super::values::Kind;
use fdwatch_core::suggest::nearest;

/// A section's keys, each with what its value must be.
pub(super) type Keys = &'static [(&'static str, Kind)];

const SUPERVISORD: Keys = &[
    ("childlogdir", Kind::Text),
    ("directory", Kind::Text),
    ("environment", Kind::Text),
    ("identifier", Kind::Text),
    ("logfile", Kind::Text),
    ("logfile_backups", Kind::Integer),
    ("logfile_maxbytes", Kind::Bytes),
    ("loglevel", Kind::Level),
    ("minfds", Kind::Integer),
    ("minprocs", Kind::Integer),
    ("nocleanup", Kind::Boolean),
    ("nodaemon", Kind::Boolean),
    ("pidfile", Kind::Text),
    ("silent", Kind::Boolean),
    ("strip_ansi", Kind::Boolean),
    ("umask", Kind::Octal),
    ("user", Kind::Text),
];

const PROGRAM: Keys = &[
    ("autorestart", Kind::Restart),
    ("autostart", Kind::Boolean),
    ("command", Kind::Text),
    ("directory", Kind::Text),
    ("environment", Kind::Text),
    ("exitcodes", Kind::ExitCodes),
    ("killasgroup", Kind::Boolean),
    ("numprocs", Kind::Integer),
    ("numprocs_start", Kind::Integer),
    ("priority", Kind::Integer),
    ("process_name", Kind::Text),
    ("redirect_stderr", Kind::Boolean),
    ("serverurl", Kind::Text),
    ("startretries", Kind::Integer),
    ("startsecs", Kind::Integer),
    ("stderr_capture_maxbytes", Kind::Bytes),
    ("stderr_events_enabled", Kind::Boolean),
    ("stderr_logfile", Kind::Text),
    ("stderr_logfile_backups", Kind::Integer),
    ("stderr_logfile_maxbytes", Kind::Bytes),
    ("stderr_syslog", Kind::Boolean),
    ("stdout_capture_maxbytes", Kind::Bytes),
    ("stdout_events_enabled", Kind::Boolean),
    ("stdout_logfile", Kind::Text),
    ("stdout_logfile_backups", Kind::Integer),
    ("stdout_logfile_maxbytes", Kind::Bytes),
    ("stdout_syslog", Kind::Boolean),
    ("stopasgroup", Kind::Boolean),
    ("stopsignal", Kind::Signal),
    ("stopwaitsecs", Kind::Integer),
    ("umask", Kind::Octal),
    ("user", Kind::Text),
];

const LISTENER: Keys = &[
    ("buffer_size", Kind::Integer),
    ("events", Kind::Text),
    ("result_handler", Kind::Text),
];

const FCGI: Keys = &[
    ("socket", Kind::Text),
    ("socket_backlog", Kind::Integer),
    ("socket_mode", Kind::Octal),
    ("socket_owner", Kind::Text),
];

const GROUP: Keys = &[("priority", Kind::Integer), ("programs", Kind::Text)];

const INCLUDE: Keys = &[("files", Kind::Text)];

const UNIX_SERVER: Keys = &[
    ("chmod", Kind::Octal),
    ("chown", Kind::Text),
    ("file", Kind::Text),
    ("password", Kind::Text),
    ("username", Kind::Text),
];

const INET_SERVER: Keys = &[
    ("password", Kind::Text),
    ("port", Kind::Text),
    ("username", Kind::Text),
];

const CONTROL: Keys = &[
    ("history_file", Kind::Text),
    ("password", Kind::Text),
    ("prompt", Kind::Text),
    ("serverurl", Kind::Text),
    ("username", Kind::Text),
];

/// What a section is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectionKind {
    /// Its keys are these.
    Known(Keys, Keys),
    /// A plugin's: any key may be in it.
    Any,
    /// supervisord passes over it.
    Unknown,
}

impl SectionKind {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "supervisord" => Self::Known(SUPERVISORD, &[]),
            "supervisorctl" => Self::Known(CONTROL, &[]),
            "include" => Self::Known(INCLUDE, &[]),
            _ if name.starts_with("program:") => Self::Known(PROGRAM, &[]),
            _ if name.starts_with("eventlistener:") => Self::Known(PROGRAM, LISTENER),
            _ if name.starts_with("fcgi-program:") => Self::Known(PROGRAM, FCGI),
            _ if name.starts_with("group:") => Self::Known(GROUP, &[]),
            _ if name.starts_with("unix_http_server") => Self::Known(UNIX_SERVER, &[]),
            _ if name.starts_with("inet_http_server") => Self::Known(INET_SERVER, &[]),
            _ if name.starts_with("rpcinterface:") || name.starts_with("ctlplugin:") => Self::Any,
            _ => Self::Unknown,
        }
    }

    /// The keys, if they are known.
    pub(super) fn keys(self) -> Option<impl Iterator<Item = (&'static str, Kind)>> {
        match self {
            Self::Known(keys, more) => Some(keys.iter().chain(more).copied()),
            Self::Any | Self::Unknown => None,
        }
    }
}

/// The known sections, or what they begin with.
const SECTIONS: &[&str] = &[
    "ctlplugin:",
    "eventlistener:",
    "fcgi-program:",
    "group:",
    "include",
    "inet_http_server",
    "program:",
    "rpcinterface:",
    "supervisorctl",
    "supervisord",
    "unix_http_server",
];

/// The known key of a section that is most like `key`, if any is like it.
pub(super) fn nearest_key(section: SectionKind, key: &str) -> Option<&'static str> {
    nearest(section.keys()?.map(|(known, _)| (known, known)), key)
}

/// The known section, or its beginning, that is most like that of this name.
pub(super) fn nearest_section(name: &str) -> Option<&'static str> {
    let (kind, has_name) = match name.split_once(':') {
        Some((kind, _)) => (kind, true),
        None => (name, false),
    };
    // A program without a name is one too.
    if let Some(known) = SECTIONS
        .iter()
        .find(|known| known.trim_end_matches(':') == kind.trim())
    {
        return Some(known);
    }
    let sections = SECTIONS.iter().copied();
    nearest(
        sections
            .filter(|known| !has_name || known.ends_with(':'))
            .map(|known| (known.trim_end_matches(':'), known)),
        kind,
    )
}

/// The events a listener can ask for.
pub(super) const EVENTS: &[&str] = &[
    "EVENT",
    "PROCESS_STATE",
    "PROCESS_STATE_STOPPED",
    "PROCESS_STATE_EXITED",
    "PROCESS_STATE_STARTING",
    "PROCESS_STATE_STOPPING",
    "PROCESS_STATE_BACKOFF",
    "PROCESS_STATE_FATAL",
    "PROCESS_STATE_RUNNING",
    "PROCESS_STATE_UNKNOWN",
    "PROCESS_COMMUNICATION",
    "PROCESS_COMMUNICATION_STDOUT",
    "PROCESS_COMMUNICATION_STDERR",
    "PROCESS_LOG",
    "PROCESS_LOG_STDOUT",
    "PROCESS_LOG_STDERR",
    "REMOTE_COMMUNICATION",
    "SUPERVISOR_STATE_CHANGE",
    "SUPERVISOR_STATE_CHANGE_RUNNING",
    "SUPERVISOR_STATE_CHANGE_STOPPING",
    "TICK",
    "TICK_5",
    "TICK_60",
    "TICK_3600",
    "PROCESS_GROUP",
    "PROCESS_GROUP_ADDED",
    "PROCESS_GROUP_REMOVED",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_misspelt_is_known() {
        let program = SectionKind::of("program:x");
        for (key, known) in [
            ("stdout_logfiles", Some("stdout_logfile")),
            ("stdout-logfile", Some("stdout_logfile")),
            ("stdout_log_maxbytes", Some("stdout_logfile_maxbytes")),
            ("redirect_stdrr", Some("redirect_stderr")),
            ("numproc", Some("numprocs")),
            ("colour", None),
        ] {
            assert_eq!(nearest_key(program, key), known, "{key}");
        }
        for (name, known) in [
            ("programs:x", Some("program:")),
            ("program", Some("program:")),
            ("Program:x", Some("program:")),
            ("supervisor", Some("supervisord")),
            ("includes", Some("include")),
            ("weather", None),
        ] {
            assert_eq!(nearest_section(name), known, "{name}");
        }
    }

    #[test]
    fn no_key_is_there_twice() {
        for name in [
            "supervisord",
            "eventlistener:x",
            "fcgi-program:x",
            "group:x",
        ] {
            let mut keys: Vec<_> = SectionKind::of(name).keys().unwrap().map(|k| k.0).collect();
            let count = keys.len();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), count, "{name}");
        }
    }
}
