//! Logs that logrotate has to do with as well.

use super::{Linter, LogFile, Rule, Spot, is_of_the_reader, size};
use crate::{
    host::FileKind,
    ini::Place,
    logrotate::Rotation,
    programs::{Stream, Target},
};

pub(super) fn check(linter: &mut Linter<'_>, logs: &[LogFile<'_>]) {
    let rotations = linter.rotations;
    if rotations.rotations.is_empty() {
        return;
    }
    for log in logs {
        let is_file = matches!(log.found.kind, None | Some(FileKind::Regular));
        if !is_file || is_of_the_reader(log.path()) {
            continue;
        }
        let mut paths = log.paths();
        paths.extend(log.found.resolved.as_deref());
        let Some(rotation) = rotations.of(&paths) else {
            continue;
        };
        let mut told: Vec<Place> = Vec::new();
        for writer in &log.writers {
            if !told.contains(&writer.at) {
                told.push(writer.at);
                let key = writer.key();
                let limit = (writer.maxbytes, key, writer.section());
                tell(linter, log.path(), writer.at, limit, rotation);
            }
        }
    }
    made_up(linter);
}

/// Logs whose names supervisord makes up: any name of the kind will do.
fn made_up(linter: &mut Linter<'_>) {
    let mut told: Vec<(Place, Stream)> = Vec::new();
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
            if !told.contains(&(at, stream)) {
                told.push((at, stream));
                let key = match stream {
                    Stream::Stdout => "stdout_logfile",
                    Stream::Stderr => "stderr_logfile",
                };
                let shown = format!("{prefix}*.log");
                let limit = (log.maxbytes.value, key, process.section.as_str());
                tell(linter, &shown, at, limit, rotation);
            }
        }
    }
}

fn tell(
    linter: &mut Linter<'_>,
    path: &str,
    at: Place,
    (maxbytes, key, section): (i64, &str, &str),
    rotation: &Rotation,
) {
    let files = &linter.rotations.files;
    let spot = Spot {
        file: files.get(rotation.at.file).cloned().unwrap_or_default(),
        line: rotation.at.line,
    };
    let place = format!("{}:{}", spot.file, spot.line);
    let renames = !rotation.copytruncate;
    let (rule, message, advice) = if maxbytes > 0 {
        let what = if renames {
            "it renames the file under supervisord, which writes on into the renamed one"
        } else {
            // After a rotation of its own supervisord opens the file without O_APPEND.
            "it cuts the file, and supervisord, which does not append after a rotation of its own, \
             leaves a hole of zeros where it was"
        };
        let mend = match (renames, rotation.tells_supervisord) {
            (true, false) => ", and say copytruncate there",
            _ => "",
        };
        (
            Rule::RotatedTwice,
            format!(
                "supervisord rotates {path} at {}, and so does logrotate ({place}): {what}",
                size(maxbytes)
            ),
            format!(
                "set {key}_maxbytes=0 in [{section}]{mend}; or take the log out of logrotate's"
            ),
        )
    } else if renames && !rotation.tells_supervisord {
        (
            Rule::NotReopened,
            format!(
                "logrotate renames {path} ({place}), and supervisord writes on into the renamed file"
            ),
            "say copytruncate there, or send supervisord SIGUSR2 after it (postrotate): it opens \
             its logs anew then"
                .to_owned(),
        )
    } else {
        return;
    };
    linter.tell_of(Some(path), rule, at, message, advice);
    if let Some(problem) = linter.problems.last_mut() {
        problem
            .related
            .push((spot, "rotated by logrotate".to_owned()));
    }
}
