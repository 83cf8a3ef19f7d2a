//! Rules about logs that logrotate rotates.

use super::{
    linter::{Linter, LogFile, is_per_process, size},
    problem::FileLine,
    rule::Rule,
};
use crate::{
    config::{Stream, Target},
    host::FileKind,
    ini::Location,
    logrotate::Rotation,
};

pub(super) fn check(linter: &mut Linter<'_>, logs: &[LogFile<'_>]) {
    let rotations = linter.rotations;
    if rotations.rotations.is_empty() {
        return;
    }
    for log in logs {
        let is_file = matches!(log.found.kind, None | Some(FileKind::Regular));
        if !is_file || is_per_process(log.path()) {
            continue;
        }
        let mut paths = log.paths();
        paths.extend(log.found.resolved.as_deref());
        let Some(rotation) = rotations.of(&paths) else {
            continue;
        };
        let mut reported: Vec<Location> = Vec::new();
        for writer in &log.writers {
            if !reported.contains(&writer.at) {
                reported.push(writer.at);
                let key = writer.key();
                let limit = (writer.maxbytes, key, writer.section());
                report(linter, log.path(), writer.at, limit, rotation);
            }
        }
    }
    generated(linter);
}

/// Checks logs with generated names, by an example of such a name.
fn generated(linter: &mut Linter<'_>) {
    let mut reported: Vec<(Location, Stream)> = Vec::new();
    for process in &linter.config.processes {
        for stream in Stream::ALL {
            let log = process.log(stream);
            let Target::Auto(prefix) = &log.target else {
                continue;
            };
            let path = format!("{prefix}abcdefgh.log");
            let Some(rotation) = linter.rotations.of(&[&path]) else {
                continue;
            };
            let at = log.at.unwrap_or(process.at);
            if !reported.contains(&(at, stream)) {
                reported.push((at, stream));
                let key = match stream {
                    Stream::Stdout => "stdout_logfile",
                    Stream::Stderr => "stderr_logfile",
                };
                let shown = format!("{prefix}*.log");
                let limit = (log.maxbytes.value, key, process.section.as_str());
                report(linter, &shown, at, limit, rotation);
            }
        }
    }
}

fn report(
    linter: &mut Linter<'_>,
    path: &str,
    at: Location,
    (maxbytes, key, section): (i64, &str, &str),
    rotation: &Rotation,
) {
    let files = &linter.rotations.files;
    let file_line = FileLine {
        file: files.get(rotation.at.file).cloned().unwrap_or_default(),
        line: rotation.at.line,
    };
    let place = format!("{}:{}", file_line.file, file_line.line);
    let renames = !rotation.copytruncate;
    let (rule, message, advice) = if maxbytes > 0 {
        let what = if renames {
            "logrotate renames the file, and supervisord keeps writing to the renamed one"
        } else {
            // After a rotation of its own, supervisord opens the file without O_APPEND.
            "logrotate truncates the file, and supervisord, which does not append after a rotation of \
             its own, leaves a hole of zeros at the beginning"
        };
        let remedy = match (renames, rotation.notifies_supervisord) {
            (true, false) => " and use copytruncate in logrotate's configuration",
            _ => "",
        };
        (
            Rule::RotatedTwice,
            format!(
                "supervisord rotates {path} at {}, and logrotate rotates it, too ({place}): {what}",
                size(maxbytes)
            ),
            format!(
                "set {key}_maxbytes=0 in [{section}]{remedy}; or remove the log from logrotate's configuration"
            ),
        )
    } else if renames && !rotation.notifies_supervisord {
        (
            Rule::NotReopened,
            format!(
                "logrotate renames {path} ({place}), and supervisord keeps writing to the renamed file"
            ),
            "use copytruncate in logrotate's configuration, or send SIGUSR2 to supervisord in \
             postrotate: it then reopens its logs"
                .to_owned(),
        )
    } else {
        return;
    };
    linter.report_path(Some(path), rule, at, message, advice);
    if let Some(problem) = linter.problems.last_mut() {
        problem
            .related
            .push((file_line, "rotated by logrotate".to_owned()));
    }
}
