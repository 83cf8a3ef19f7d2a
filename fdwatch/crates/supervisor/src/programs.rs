//! Programs, groups and event listeners: creates the processes that supervisord would start.

use crate::{
    config::{Log, MAX_PROCESSES, Process, Setting, Stream, Target, WarningKind},
    expand::{Names, Value, expand},
    host::{expand_user, join},
    ini::{Entry, Location, Section, trim},
    keys::EVENTS,
    reader::Reader,
    values,
};

/// Creates the processes of all sections.
pub(super) fn resolve(reader: &mut Reader<'_>) {
    let sections = reader.config.document.sections().to_vec();
    let mut grouped = Vec::new();
    for section in &sections {
        if let Some(name) = section.name.strip_prefix("group:") {
            group(reader, section, name, &mut grouped);
        }
    }
    for section in &sections {
        let Some((kind, name)) = section.name.split_once(':') else {
            continue;
        };
        match kind {
            "program" | "fcgi-program" if grouped.contains(&section.name) => {}
            "program" => program(reader, section, name),
            "fcgi-program" => {
                let mut names = reader.names();
                let name_value = Value::Text(trim(name).to_owned());
                names.insert("program_name".to_owned(), name_value);
                let socket = reader.get(section, "socket", &names);
                if socket.is_none_or(|socket| socket.value.is_empty()) {
                    reader.fault(
                        section.at,
                        format!("[{}]: missing key socket", section.name),
                    );
                }
                program(reader, section, name);
            }
            "eventlistener" => {
                listener(reader, section);
                program(reader, section, name);
            }
            _ => {}
        }
    }
}

fn group(reader: &mut Reader<'_>, section: &Section, name: &str, grouped: &mut Vec<String>) {
    let names = reader.names();
    let group_at = section.at;
    let name = match values::name(name) {
        Ok(name) => name,
        Err(error) => return reader.fault(section.at, error.to_string()),
    };
    let _ = reader.get(section, "priority", &names);
    let Some(programs) = reader.get(section, "programs", &names) else {
        return;
    };
    for program in values::list(&programs.value) {
        let at = programs.at.unwrap_or(section.at);
        let known = ["program", "fcgi-program"].map(|kind| {
            let name = format!("{kind}:{program}");
            reader.config.document.section(&name).cloned()
        });
        match known {
            [Some(section), None] | [None, Some(section)] => {
                grouped.push(section.name.clone());
                processes(reader, &section, (&name, group_at));
            }
            [None, None] => {
                let shown: String = program.chars().take(80).collect();
                reader.fault(at, format!("programs: no such section: [program:{shown}]"));
            }
            [Some(_), Some(_)] => reader.fault(
                at,
                format!("programs: {program} is both a program and an fcgi-program"),
            ),
        }
    }
}

fn program(reader: &mut Reader<'_>, section: &Section, name: &str) {
    match values::name(name) {
        Ok(name) => {
            // supervisord reads it first for the program's own group, where fewer names are defined.
            let names = reader.names();
            if reader.get(section, "priority", &names).is_some()
                || !section.entries.contains_key("priority")
            {
                processes(reader, section, (&name, section.at));
            }
        }
        Err(error) => reader.fault(section.at, error.to_string()),
    }
}

fn listener(reader: &mut Reader<'_>, section: &Section) {
    let names = reader.names();
    let size = reader.get_as((section, "buffer_size"), &names, values::integer, 10);
    if size.value < 1 {
        let at = size.at.unwrap_or(section.at);
        reader.fault(
            at,
            format!("buffer_size: must be at least 1: {}", size.value),
        );
    }
    let events = reader.get(section, "events", &names);
    let at = events.as_ref().and_then(|events| events.at);
    let events = events.map(|events| events.value).unwrap_or_default();
    if events.is_empty() {
        reader.fault(
            section.at,
            format!("[{}]: missing key events", section.name),
        );
    }
    for event in values::list(&events) {
        if !EVENTS.contains(&event.to_uppercase().as_str()) {
            let shown: String = event.chars().take(80).collect();
            reader.fault(
                at.unwrap_or(section.at),
                format!("events: unknown event: {shown:?}"),
            );
        }
    }
    let redirect = (section, "redirect_stderr");
    let redirect = reader.get_as(redirect, &names, values::boolean, false);
    if redirect.value {
        reader.fault(
            redirect.at.unwrap_or(section.at),
            "redirect_stderr: not allowed for an event listener, which replies on stdout"
                .to_owned(),
        );
    }
}

/// Creates the processes of a program, in a group.
fn processes(reader: &mut Reader<'_>, section: &Section, (group, group_at): (&str, Location)) {
    let faults = reader.config.faults.len();
    let name = section.name.split_once(':').map_or("", |(_, name)| name);
    let program = match values::name(name) {
        Ok(program) => program,
        Err(error) => return reader.fault(section.at, error.to_string()),
    };
    let mut names = reader.names();
    for (name, value) in [
        ("program_name", program.clone()),
        ("group_name", group.to_owned()),
        ("host_node_name", reader.host.node_name()),
    ] {
        names.insert(name.to_owned(), Value::Text(value));
    }
    // Unused here, but supervisord rejects invalid values.
    for key in [
        "priority",
        "autostart",
        "autorestart",
        "startsecs",
        "startretries",
        "stopsignal",
        "stopwaitsecs",
        "exitcodes",
        "stdout_events_enabled",
        "stderr_events_enabled",
        "serverurl",
        "user",
        "umask",
    ] {
        let _ = reader.get(section, key, &names);
    }
    let boolean = values::boolean;
    let stop = reader.get_as((section, "stopasgroup"), &names, boolean, false);
    let kill = reader.get_as((section, "killasgroup"), &names, boolean, stop.value);
    if stop.value && !kill.value {
        let at = kill.at.unwrap_or(section.at);
        reader.fault(
            at,
            "killasgroup: must not be false while stopasgroup is true".to_owned(),
        );
    }
    let numprocs = reader.get_as((section, "numprocs"), &names, values::integer, 1);
    let first = reader.get_as((section, "numprocs_start"), &names, values::integer, 0);
    let redirect = reader.get_as((section, "redirect_stderr"), &names, boolean, false);
    let capture = ["stdout_capture_maxbytes", "stderr_capture_maxbytes"]
        .map(|key| reader.get_as((section, key), &names, values::bytes, 0));
    let Some(process_name) = process_name(reader, section, numprocs.value) else {
        return;
    };
    if reader.config.document.get(section, "command").is_none() {
        reader.fault(
            section.at,
            format!("[{}]: missing key command", section.name),
        );
    }
    let environment = reader.config.document.get(section, "environment").cloned();
    let count = usize::try_from(numprocs.value.max(0)).unwrap_or(usize::MAX);
    if count > MAX_PROCESSES.saturating_sub(reader.config.processes.len()) {
        let at = numprocs.at.unwrap_or(section.at);
        return reader.fault(
            at,
            format!("numprocs: more than {MAX_PROCESSES} processes in total are unsupported"),
        );
    }
    for index in 0..numprocs.value {
        let number = first.value.saturating_add(index);
        names.insert("process_num".to_owned(), Value::Number(number));
        names.insert("numprocs".to_owned(), Value::Number(numprocs.value));
        if let Some(entry) = &environment {
            // Variables set for the previous process remain, except those that supervisord sets.
            names.extend(reader.environment.clone());
            set_environment(reader, entry, &mut names);
        }
        for key in ["command", "directory"] {
            let _ = reader.get(section, key, &names);
        }
        let name = reader.expanded("process_name", &process_name, &names);
        let name = name.unwrap_or_default();
        let [stdout, stderr] = Stream::ALL.map(|stream| {
            let redirect = redirect.value && stream == Stream::Stderr;
            let capture = capture[stream as usize];
            log(reader, section, (stream, capture), &name, &names, redirect)
        });
        // The remaining processes would repeat the same faults.
        if reader.config.faults.len() > faults {
            return;
        }
        reader.config.processes.push(Process {
            program: program.clone(),
            group: group.to_owned(),
            group_at,
            name,
            number,
            numprocs,
            section: section.name.clone(),
            at: section.at,
            redirect_stderr: redirect.value,
            stdout,
            stderr,
        });
    }
}

/// Returns `process_name` before its expansion.
fn process_name(reader: &mut Reader<'_>, section: &Section, numprocs: i64) -> Option<Entry> {
    let entry = reader.config.document.get(section, "process_name").cloned();
    let entry = entry.unwrap_or_else(|| Entry {
        value: "%(program_name)s".to_owned(),
        at: section.at,
    });
    let value = match values::name(&entry.value) {
        Ok(value) => value,
        Err(error) => {
            reader.fault(entry.at, format!("process_name: {error}"));
            return None;
        }
    };
    if numprocs > 1 && !value.contains("%(process_num)") {
        reader.fault(
            entry.at,
            format!("process_name: must contain %(process_num), because numprocs is {numprocs}"),
        );
        return None;
    }
    let at = entry.at;
    Some(Entry { value, at })
}

fn set_environment(reader: &mut Reader<'_>, entry: &Entry, names: &mut Names) {
    let Some(text) = reader.expanded("environment", entry, names) else {
        return;
    };
    match values::pairs(&text) {
        Ok(pairs) => {
            for (name, value) in pairs {
                names.insert(format!("ENV_{name}"), Value::Text(value));
            }
        }
        Err(error) => reader.fault(entry.at, format!("environment: {error}")),
    }
}

fn log(
    reader: &mut Reader<'_>,
    section: &Section,
    (stream, capture_maxbytes): (Stream, Setting<i64>),
    process: &str,
    names: &Names,
    redirect: bool,
) -> Log {
    let [file, maxbytes, backups, syslog] = match stream {
        Stream::Stdout => [
            "stdout_logfile",
            "stdout_logfile_maxbytes",
            "stdout_logfile_backups",
            "stdout_syslog",
        ],
        Stream::Stderr => [
            "stderr_logfile",
            "stderr_logfile_maxbytes",
            "stderr_logfile_backups",
            "stderr_syslog",
        ],
    };
    let written = reader.get(section, file, names);
    let at = written.as_ref().and_then(|written| written.at);
    // supervisord expands this twice: %%%% is one percent sign.
    let written = written.map_or_else(
        || Some("auto".to_owned()),
        |written| match expand(&written.value, names) {
            Ok(text) => Some(text),
            Err(error) => {
                reader.fault(
                    at.unwrap_or(section.at),
                    format!("{file}: {error} (log names are expanded twice: write %%%% for one %)"),
                );
                None
            }
        },
    );
    let written = written.unwrap_or_default();
    let maxbytes = reader.get_as((section, maxbytes), names, values::bytes, 50 << 20);
    let backups = reader.get_as((section, backups), names, values::integer, 10);
    let to_syslog = reader.get_as((section, syslog), names, values::boolean, false);
    let mut to_syslog = to_syslog.value;
    let warning_at = at.unwrap_or(section.at);
    let mut target = match written.to_lowercase().as_str() {
        "" | "none" | "off" => Target::None,
        "auto" => {
            if maxbytes.value == 0 {
                let at = maxbytes.at.unwrap_or(warning_at);
                reader.warn(at, WarningKind::AutoWithoutRotation(stream.name()));
            }
            let daemon = &reader.config.daemon;
            let directory = daemon.childlogdir.as_ref().map_or_else(
                || reader.host.temporary_directory(),
                |directory| join(&reader.host.current_directory(), &directory.value),
            );
            let (channel, identifier) = (stream.name(), &daemon.identifier);
            let name = format!("{process}-{channel}---{identifier}-");
            Target::Auto(join(&directory, &name))
        }
        "syslog" => {
            to_syslog = true;
            reader.warn(warning_at, WarningKind::SyslogAsName(syslog));
            Target::None
        }
        _ => {
            let reported = expand_user(reader.host, &written);
            let absolute = join(&reader.config.daemon.working_directory, &reported);
            Target::Path { reported, absolute }
        }
    };
    if redirect {
        if matches!(target, Target::Path { .. }) {
            reader.warn(warning_at, WarningKind::StderrIgnored);
        }
        target = Target::None;
    }
    Log {
        target,
        at,
        syslog: to_syslog,
        maxbytes,
        backups,
        capture_maxbytes,
    }
}
