//! The sections and keys that supervisord knows, and the kinds of their values (supervisor/options.py
//! of 4.2.5; 4.3.0 has the same).

use crate::values::ValueKind;
use fdwatch_core::suggest::nearest;

/// The keys of a section, with the kinds of their values.
pub(super) type Keys = &'static [(&'static str, ValueKind)];

const SUPERVISORD: Keys = &[
    ("childlogdir", ValueKind::Text),
    ("directory", ValueKind::Text),
    ("environment", ValueKind::Text),
    ("identifier", ValueKind::Text),
    ("logfile", ValueKind::Text),
    ("logfile_backups", ValueKind::Integer),
    ("logfile_maxbytes", ValueKind::Bytes),
    ("loglevel", ValueKind::Level),
    ("minfds", ValueKind::Integer),
    ("minprocs", ValueKind::Integer),
    ("nocleanup", ValueKind::Boolean),
    ("nodaemon", ValueKind::Boolean),
    ("pidfile", ValueKind::Text),
    ("silent", ValueKind::Boolean),
    ("strip_ansi", ValueKind::Boolean),
    ("umask", ValueKind::Octal),
    ("user", ValueKind::Text),
];

const PROGRAM: Keys = &[
    ("autorestart", ValueKind::Restart),
    ("autostart", ValueKind::Boolean),
    ("command", ValueKind::Text),
    ("directory", ValueKind::Text),
    ("environment", ValueKind::Text),
    ("exitcodes", ValueKind::ExitCodes),
    ("killasgroup", ValueKind::Boolean),
    ("numprocs", ValueKind::Integer),
    ("numprocs_start", ValueKind::Integer),
    ("priority", ValueKind::Integer),
    ("process_name", ValueKind::Text),
    ("redirect_stderr", ValueKind::Boolean),
    ("serverurl", ValueKind::Text),
    ("startretries", ValueKind::Integer),
    ("startsecs", ValueKind::Integer),
    ("stderr_capture_maxbytes", ValueKind::Bytes),
    ("stderr_events_enabled", ValueKind::Boolean),
    ("stderr_logfile", ValueKind::Text),
    ("stderr_logfile_backups", ValueKind::Integer),
    ("stderr_logfile_maxbytes", ValueKind::Bytes),
    ("stderr_syslog", ValueKind::Boolean),
    ("stdout_capture_maxbytes", ValueKind::Bytes),
    ("stdout_events_enabled", ValueKind::Boolean),
    ("stdout_logfile", ValueKind::Text),
    ("stdout_logfile_backups", ValueKind::Integer),
    ("stdout_logfile_maxbytes", ValueKind::Bytes),
    ("stdout_syslog", ValueKind::Boolean),
    ("stopasgroup", ValueKind::Boolean),
    ("stopsignal", ValueKind::Signal),
    ("stopwaitsecs", ValueKind::Integer),
    ("umask", ValueKind::Octal),
    ("user", ValueKind::Text),
];

const LISTENER: Keys = &[
    ("buffer_size", ValueKind::Integer),
    ("events", ValueKind::Text),
    ("result_handler", ValueKind::Text),
];

const FCGI: Keys = &[
    ("socket", ValueKind::Text),
    ("socket_backlog", ValueKind::Integer),
    ("socket_mode", ValueKind::Octal),
    ("socket_owner", ValueKind::Text),
];

const GROUP: Keys = &[
    ("priority", ValueKind::Integer),
    ("programs", ValueKind::Text),
];

const INCLUDE: Keys = &[("files", ValueKind::Text)];

const UNIX_SERVER: Keys = &[
    ("chmod", ValueKind::Octal),
    ("chown", ValueKind::Text),
    ("file", ValueKind::Text),
    ("password", ValueKind::Text),
    ("username", ValueKind::Text),
];

const INET_SERVER: Keys = &[
    ("password", ValueKind::Text),
    ("port", ValueKind::Text),
    ("username", ValueKind::Text),
];

const CONTROL: Keys = &[
    ("history_file", ValueKind::Text),
    ("password", ValueKind::Text),
    ("prompt", ValueKind::Text),
    ("serverurl", ValueKind::Text),
    ("username", ValueKind::Text),
];

/// The kind of a section, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectionKind {
    /// A section with these keys; both lists together.
    Known(Keys, Keys),
    /// A section of a plugin, which may have any key.
    Any,
    /// A section that supervisord ignores.
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

    /// Returns the keys, if they are known.
    pub(super) fn keys(self) -> Option<impl Iterator<Item = (&'static str, ValueKind)>> {
        match self {
            Self::Known(keys, more) => Some(keys.iter().chain(more).copied()),
            Self::Any | Self::Unknown => None,
        }
    }
}

/// The known sections; the names of those with a colon continue after it.
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

/// Returns the known key of a section that is most similar to `key`, if any is similar.
pub(super) fn nearest_key(section: SectionKind, key: &str) -> Option<&'static str> {
    nearest(section.keys()?.map(|(known, _)| (known, known)), key)
}

/// Returns the entry of [`SECTIONS`] that is most similar to `name`, if any is similar.
pub(super) fn nearest_section(name: &str) -> Option<&'static str> {
    let (kind, has_name) = match name.split_once(':') {
        Some((kind, _)) => (kind, true),
        None => (name, false),
    };
    // `[program]` lacks only its name.
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

/// The events a listener can subscribe to.
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
    fn misspelt_names_have_suggestions() {
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
    fn keys_are_unique() {
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
