//! Rules about the paths of logs: missing directories, files that cannot be written, files that are not
//! seekable.

use super::{
    linter::{Linter, LogFile, LogSource, Writer, abbreviated, is_per_process, size},
    rule::Rule,
};
use crate::{
    config::{Setting, Target},
    host::{FileKind, directory_of, join},
};

pub(super) fn check(linter: &mut Linter<'_>, logs: &[LogFile<'_>]) {
    directories(linter);
    for log in logs {
        unseekable(linter, log);
        if is_per_process(log.path()) {
            continue;
        }
        let directory = directory_of(log.path());
        if log.found.kind.is_none() && linter.host.look(directory).kind != Some(FileKind::Directory)
        {
            let message = format!("supervisord does not start: no such directory: {directory}");
            let advice = "create it".to_owned();
            report(linter, log, Rule::MissingDirectory, message, advice);
            continue;
        }
        if !unwritable(linter, log, directory) {
            unrotatable(linter, log, directory);
        }
    }
    relative(linter, logs);
}

/// Reports a problem of a log once, at its first writer.
fn report(linter: &mut Linter<'_>, log: &LogFile<'_>, rule: Rule, message: String, advice: String) {
    if let Some(first) = log.writers.first() {
        linter.report_path(Some(first.path), rule, first.at, message, advice);
    }
}

/// Checks the directories that must exist when supervisord starts.
fn directories(linter: &mut Linter<'_>) {
    let daemon = &linter.config.daemon;
    let start = linter.host.current_directory();
    for (key, setting) in [
        ("directory", &daemon.directory),
        ("childlogdir", &daemon.childlogdir),
    ] {
        let Some(Setting {
            value,
            at: Some(at),
        }) = setting
        else {
            continue;
        };
        if linter.host.look(&join(&start, value)).kind != Some(FileKind::Directory) {
            let message = format!("supervisord does not start: {key} is not a directory: {value}");
            let rule = Rule::MissingDirectory;
            linter.report_path(Some(value), rule, *at, message, "create it".to_owned());
        }
    }
}

fn unwritable(linter: &mut Linter<'_>, log: &LogFile<'_>, directory: &str) -> bool {
    let user = linter.user();
    let subject = user.map_or_else(
        || "supervisord".to_owned(),
        |user| format!("supervisord, running as {user},"),
    );
    let reason = match log.found.kind {
        Some(FileKind::Directory) => format!("{} is a directory", log.path()),
        Some(_) if linter.host.may_write(log.path(), user) == Some(false) => {
            format!("{subject} may not write {}", log.path())
        }
        None if linter.host.may_write(directory, user) == Some(false) => {
            format!("{subject} may not create {}", log.path())
        }
        _ => return false,
    };
    let processes = log.writers.iter().filter_map(|writer| match writer.source {
        LogSource::Daemon => None,
        LogSource::Process(process, _) => Some(process),
    });
    let processes: Vec<_> = processes.collect();
    let mut names: Vec<_> = processes
        .iter()
        .map(|process| process.full_name())
        .collect();
    names.dedup();
    let message = if log
        .writers
        .iter()
        .any(|writer| writer.source == LogSource::Daemon)
    {
        format!("{reason}: supervisord does not start")
    } else {
        // make_dispatchers opens the log after the pipes were created, and nothing closes them.
        let is_redirected = processes.iter().all(|process| process.redirect_stderr);
        let ends = if is_redirected { 4 } else { 6 };
        format!(
            "{reason}: {} cannot start, and each attempt leaves {ends} pipe descriptors open in supervisord",
            abbreviated(&names)
        )
    };
    let advice = "make it writable, or choose another file".to_owned();
    report(linter, log, Rule::UnwritableLog, message, advice);
    true
}

fn unrotatable(linter: &mut Linter<'_>, log: &LogFile<'_>, directory: &str) {
    let user = linter.user();
    let rotates = |writer: &&Writer<'_>| writer.maxbytes > 0 && writer.backups > 0;
    let Some(writer) = log.writers.iter().find(rotates) else {
        return;
    };
    if log.found.kind != Some(FileKind::Regular)
        || linter.host.may_write(directory, user) != Some(false)
    {
        return;
    }
    let message = format!(
        "supervisord cannot rotate {} at {}, because it may not rename files in {directory}: everything that {} writes after that is lost",
        log.path(),
        size(writer.maxbytes),
        writer.name(),
    );
    let advice = format!(
        "make the directory writable, or set {}_maxbytes=0 in [{}]",
        writer.key(),
        writer.section()
    );
    report(linter, log, Rule::UnrotatableLog, message, advice);
}

fn unseekable(linter: &mut Linter<'_>, log: &LogFile<'_>) {
    let is_stream = is_per_process(log.path());
    if !is_stream && log.found.kind != Some(FileKind::Terminal) {
        return;
    }
    let mut reported = Vec::new();
    for writer in log.writers.iter().filter(|writer| writer.maxbytes > 0) {
        // All processes of a program share the same line.
        if reported.contains(&(writer.at, writer.key())) {
            continue;
        }
        reported.push((writer.at, writer.key()));
        let (path, key) = (writer.path, writer.key());
        let limit = size(writer.maxbytes);
        let limit = match writer.maxbytes_at {
            Some(at) => format!("{limit} ({})", linter.place(at)),
            None => format!("{limit} (the default)"),
        };
        let condition = if is_stream {
            "if it is a pipe or a terminal, "
        } else {
            ""
        };
        let message = format!(
            "{path} is rotated at {limit}: {condition}each line causes an error (Illegal seek) in supervisord's own log"
        );
        let advice = format!("set {key}_maxbytes=0 in [{}]", writer.section());
        let at = writer.at;
        linter.report_path(Some(path), Rule::UnseekableLog, at, message, advice);
    }
}

fn relative(linter: &mut Linter<'_>, logs: &[LogFile<'_>]) {
    let mut reported = Vec::new();
    for writer in logs.iter().flat_map(|log| &log.writers) {
        let LogSource::Process(process, stream) = writer.source else {
            continue;
        };
        let Target::Path { reported: path, .. } = &process.log(stream).target else {
            continue;
        };
        if path.starts_with('/') || reported.contains(&writer.at) {
            continue;
        }
        reported.push(writer.at);
        let message = format!(
            "{path} is relative to the directory where supervisord is started, or as a daemon to its own directory; the program's directory does not matter"
        );
        let advice = format!(
            "set {}=%(here)s/{path}, or use an absolute path",
            writer.key()
        );
        let at = writer.at;
        linter.report_path(Some(writer.path), Rule::RelativeLog, at, message, advice);
    }
}
