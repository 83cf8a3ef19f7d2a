//! What there is where a log is to be: directories that are missing, files that cannot be written,
//! pipes that cannot be sought in.

use super::{Linter, LogFile, Owner, Rule, Writer, is_of_the_reader, size, some_of};
use crate::{
    config::Setting,
    host::{FileKind, directory_of, join},
    programs::Target,
};

pub(super) fn check(linter: &mut Linter<'_>, logs: &[LogFile<'_>]) {
    directories(linter);
    for log in logs {
        unseekable(linter, log);
        if is_of_the_reader(log.path()) {
            continue;
        }
        let directory = directory_of(log.path());
        if log.found.kind.is_none() && linter.host.look(directory).kind != Some(FileKind::Directory)
        {
            let message = format!("supervisord does not start: there is no directory {directory}");
            tell(
                linter,
                log,
                Rule::MissingDirectory,
                message,
                "make it".to_owned(),
            );
            continue;
        }
        if !unwritable(linter, log, directory) {
            unrotatable(linter, log, directory);
        }
    }
    relative(linter, logs);
}

/// Says something of a log once, where its first writer has it.
fn tell(linter: &mut Linter<'_>, log: &LogFile<'_>, rule: Rule, message: String, advice: String) {
    if let Some(first) = log.writers.first() {
        linter.tell_of(Some(first.path), rule, first.at, message, advice);
    }
}

/// Those that supervisord looks for before it starts.
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
            let message = format!("supervisord does not start: {key} is no directory: {value}");
            let rule = Rule::MissingDirectory;
            linter.tell_of(Some(value), rule, *at, message, "make it".to_owned());
        }
    }
}

fn unwritable(linter: &mut Linter<'_>, log: &LogFile<'_>, directory: &str) -> bool {
    let user = linter.user();
    let by = user.map_or_else(
        || "supervisord".to_owned(),
        |user| format!("{user}, as whom supervisord runs,"),
    );
    let reason = match log.found.kind {
        Some(FileKind::Directory) => format!("{} is a directory", log.path()),
        Some(_) if linter.host.may_write(log.path(), user) == Some(false) => {
            format!("{by} may not write {}", log.path())
        }
        None if linter.host.may_write(directory, user) == Some(false) => {
            format!("{by} may not make {} in {directory}", log.path())
        }
        _ => return false,
    };
    let processes = log.writers.iter().filter_map(|writer| match writer.by {
        Owner::Daemon => None,
        Owner::Process(process, _) => Some(process),
    });
    let processes: Vec<_> = processes.collect();
    let mut names: Vec<_> = processes
        .iter()
        .map(|process| process.full_name())
        .collect();
    names.dedup();
    let message = if log.writers.iter().any(|writer| writer.by == Owner::Daemon) {
        format!("{reason}: supervisord does not start")
    } else {
        // make_dispatchers opens the log after it has made the pipes, and nothing closes these.
        let is_redirected = processes.iter().all(|process| process.redirect_stderr);
        let ends = if is_redirected { 4 } else { 6 };
        format!(
            "{reason}: {} does not start, and each attempt leaves {ends} ends of pipes open in supervisord",
            some_of(&names)
        )
    };
    let advice = "let it be written, or give the log another place".to_owned();
    tell(linter, log, Rule::UnwritableLog, message, advice);
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
        "at {} supervisord is to rename {}, which it may not in {directory}: all that {} writes after that is lost",
        size(writer.maxbytes),
        log.path(),
        writer.name(),
    );
    let advice = format!(
        "let it write the directory, or set {}_maxbytes=0 in [{}]",
        writer.key(),
        writer.section()
    );
    tell(linter, log, Rule::UnrotatableLog, message, advice);
}

fn unseekable(linter: &mut Linter<'_>, log: &LogFile<'_>) {
    let is_stream = is_of_the_reader(log.path());
    if !is_stream && log.found.kind != Some(FileKind::Terminal) {
        return;
    }
    let mut told = Vec::new();
    for writer in log.writers.iter().filter(|writer| writer.maxbytes > 0) {
        // All processes of a program have it from the same line.
        if told.contains(&(writer.at, writer.key())) {
            continue;
        }
        told.push((writer.at, writer.key()));
        let (path, key) = (writer.path, writer.key());
        let limit = size(writer.maxbytes);
        let limit = match writer.maxbytes_at {
            Some(at) => format!("{limit} ({})", linter.place(at)),
            None => format!("{limit} (the default)"),
        };
        let what = if is_stream {
            "if that is a pipe or a terminal, each line makes"
        } else {
            "each line makes"
        };
        let message = format!(
            "{path} is to be rotated at {limit}: {what} an error (Illegal seek) in supervisord's own log"
        );
        let advice = format!("set {key}_maxbytes=0 in [{}]", writer.section());
        let at = writer.at;
        linter.tell_of(Some(path), Rule::UnseekableLog, at, message, advice);
    }
}

fn relative(linter: &mut Linter<'_>, logs: &[LogFile<'_>]) {
    let mut told = Vec::new();
    for writer in logs.iter().flat_map(|log| &log.writers) {
        let Owner::Process(process, stream) = writer.by else {
            continue;
        };
        let Target::Path { told: path, .. } = &process.log(stream).target else {
            continue;
        };
        if path.starts_with('/') || told.contains(&writer.at) {
            continue;
        }
        told.push(writer.at);
        let message = format!(
            "{path} lies wherever supervisord is started, or in its own directory as a daemon; the program's directory has no part in it"
        );
        let advice = format!(
            "set {}=%(here)s/{path}, or a path from the root",
            writer.key()
        );
        let at = writer.at;
        linter.tell_of(Some(writer.path), Rule::RelativeLog, at, message, advice);
    }
}
