//! Rules about logs with several writers: supervisord opens the file once for each, and these
//! descriptors are duplicates.

use super::{
    linter::{Linter, LogFile, LogSource, Writer, abbreviated, is_per_process},
    rule::Rule,
};
use crate::{
    config::Process,
    host::{FileKind, directory_of, normalized},
    ini::Location,
};

/// Maximum number of related lines of a problem.
const MAX_RELATED: usize = 20;

pub(super) fn check(linter: &mut Linter<'_>, logs: &[LogFile<'_>]) {
    for log in logs {
        let is_file = matches!(log.found.kind, None | Some(FileKind::Regular));
        if log.writers.len() > 1 && is_file && !is_per_process(log.path()) {
            shared(linter, log);
        }
    }
}

fn shared(linter: &mut Linter<'_>, log: &LogFile<'_>) {
    let (own, processes): (Vec<&Writer<'_>>, Vec<_>) = log
        .writers
        .iter()
        .partition(|writer| writer.source == LogSource::Daemon);
    let rule = if own.is_empty() {
        Rule::SharedLog
    } else {
        Rule::OwnLog
    };
    let names: Vec<_> = log.writers.iter().map(Writer::name).collect();
    let mut message = format!("{} is the log of {}", log.path(), abbreviated(&names));
    message += &other_names(log);
    let rotating = log.writers.iter().filter(|writer| writer.maxbytes > 0);
    let rotating = rotating.count();
    message += if rotating == 0 {
        ". None rotates it, so lines are only interleaved; but clearing the log of one deletes the \
         file that the others write"
    } else if rotating == log.writers.len() {
        ". Each rotates it independently: after one does, the others keep writing to the renamed \
         file, which the next rotation overwrites"
    } else {
        ". Some rotate it: after one does, the others keep writing to the renamed file"
    };
    let advice = if own.is_empty() {
        advice(linter, &processes)
    } else {
        let places = places(linter, &processes);
        format!("give each program its own log ({places}); this one belongs to supervisord")
    };
    let Some(first) = processes.first() else {
        return;
    };
    let mut related: Vec<_> = log
        .writers
        .iter()
        .map(|writer| {
            (
                writer.at,
                format!("{} of [{}]", writer.key(), writer.section()),
            )
        })
        .filter(|&(at, _)| at != first.at)
        .collect();
    related.sort();
    related.dedup();
    related.truncate(MAX_RELATED);
    let related = related.into_iter();
    let related = related
        .map(|(at, what)| (linter.file_line(at), what))
        .collect();
    linter.report_path(Some(log.path()), rule, first.at, message, advice);
    if let Some(problem) = linter.problems.last_mut() {
        problem.related = related;
    }
}

/// Lists the other paths of a log, and the reason why they are the same file.
fn other_names(log: &LogFile<'_>) -> String {
    let paths = log.paths();
    let mut normal: Vec<_> = paths.iter().map(|path| normalized(path)).collect();
    normal.sort_unstable();
    normal.dedup();
    if paths.len() < 2 {
        return String::new();
    }
    let others = paths.iter().filter(|&&path| path != log.path());
    let others: Vec<_> = others.map(|&path| path.to_owned()).collect();
    let why = if normal.len() == 1 {
        "same path"
    } else {
        "same file, through links"
    };
    format!(", also as {} ({why})", abbreviated(&others))
}

/// Returns the advice, which depends on what the writers have in common.
fn advice(linter: &Linter<'_>, writers: &[&Writer<'_>]) -> String {
    let mut advice = Vec::new();
    let processes = writers.iter().filter_map(|writer| match writer.source {
        LogSource::Process(process, stream) => Some((process, stream)),
        LogSource::Daemon => None,
    });
    let processes: Vec<(&Process, _)> = processes.collect();
    let pairs = processes.windows(2);
    let both = pairs.clone().find_map(|pair| {
        let ((one, a), (other, b)) = (pair[0], pair[1]);
        (one.full_name() == other.full_name() && a != b).then_some(&one.section)
    });
    let (mut several, mut groups, mut sections) = (false, false, false);
    for ((one, _), (other, _)) in pairs.map(|pair| (&pair[0], &pair[1])) {
        let same = one.section == other.section;
        several |= same && one.group == other.group && one.number != other.number;
        groups |= same && one.group != other.group;
        sections |= !same;
    }
    let places = places(linter, writers);
    if let Some(section) = both {
        let its: Vec<&Writer<'_>> = writers
            .iter()
            .copied()
            .filter(|w| w.section() == section)
            .collect();
        let places = self::places(linter, &its);
        advice.push(if section.starts_with("eventlistener:") {
            // A listener may not redirect stderr: it replies on stdout.
            format!("give stderr of [{section}] its own log ({places})")
        } else {
            format!(
                "set redirect_stderr=true in [{section}] and remove its stderr_logfile ({places})"
            )
        });
    }
    if several {
        advice.push(format!(
            "add %(process_num)d to the file name, so that each process has its own log ({places})"
        ));
    }
    if groups {
        advice.push(format!("add %(group_name)s to the file name ({places})"));
    }
    if sections {
        let directory = writers
            .first()
            .map_or("", |writer| directory_of(writer.path));
        advice.push(format!(
            "give each program its own log, such as {}/%(program_name)s.log ({places}), or pipe them to one logger",
            directory.trim_end_matches('/')
        ));
    }
    advice.join("; ")
}

/// Lists the places that set the file, each once.
fn places(linter: &Linter<'_>, writers: &[&Writer<'_>]) -> String {
    let mut places: Vec<Location> = writers.iter().map(|writer| writer.at).collect();
    places.sort_unstable();
    places.dedup();
    let places: Vec<_> = places.into_iter().map(|at| linter.place(at)).collect();
    abbreviated(&places)
}
