//! Logs that several write: the file is open on several descriptors of supervisord, which are
//! duplicates.

use super::{Linter, LogFile, Owner, Rule, Writer, is_of_the_reader, some_of};
use crate::{
    host::{FileKind, directory_of, normalized},
    ini::Place,
    programs::Process,
};

/// How many other places are named.
const MAX_RELATED: usize = 20;

pub(super) fn check(linter: &mut Linter<'_>, logs: &[LogFile<'_>]) {
    for log in logs {
        let is_file = matches!(log.found.kind, None | Some(FileKind::Regular));
        if log.writers.len() > 1 && is_file && !is_of_the_reader(log.path()) {
            shared(linter, log);
        }
    }
}

fn shared(linter: &mut Linter<'_>, log: &LogFile<'_>) {
    let (own, processes): (Vec<&Writer<'_>>, Vec<_>) = log
        .writers
        .iter()
        .partition(|writer| writer.by == Owner::Daemon);
    let rule = if own.is_empty() {
        Rule::SharedLog
    } else {
        Rule::OwnLog
    };
    let names: Vec<_> = log.writers.iter().map(Writer::name).collect();
    let mut message = format!("{} is the log of {}", log.path(), some_of(&names));
    message += &other_names(log);
    let rotating = log.writers.iter().filter(|writer| writer.maxbytes > 0);
    let rotating = rotating.count();
    message += if rotating == 0 {
        ". None rotates it, so that lines only mix; but clearing the log of one deletes the file \
         under the others"
    } else if rotating == log.writers.len() {
        ". Each rotates it on its own: when one has, the others go on in the renamed file, and the \
         next rotation overwrites that"
    } else {
        ". Some rotate it: when one has, the others go on in the renamed file"
    };
    let advice = if own.is_empty() {
        advice(linter, &processes)
    } else {
        let places = places(linter, &processes);
        format!("give the programs logs of their own ({places}): this one is supervisord's")
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
    let related = related.map(|(at, what)| (linter.spot(at), what)).collect();
    linter.tell_of(Some(log.path()), rule, first.at, message, advice);
    if let Some(problem) = linter.problems.last_mut() {
        problem.related = related;
    }
}

/// How it is one file, where that cannot be seen.
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
        "the same path"
    } else {
        "one file, by links"
    };
    format!(", also as {} ({why})", some_of(&others))
}

/// What to change where, by what the writers have in common.
fn advice(linter: &Linter<'_>, writers: &[&Writer<'_>]) -> String {
    let mut advice = Vec::new();
    let processes = writers.iter().filter_map(|writer| match writer.by {
        Owner::Process(process, stream) => Some((process, stream)),
        Owner::Daemon => None,
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
            // Which may not redirect: stdout is for its answers.
            format!("give stderr of [{section}] a log of its own ({places})")
        } else {
            format!("set redirect_stderr=true in [{section}], and take out its stderr_logfile ({places})")
        });
    }
    if several {
        advice.push(format!(
            "put %(process_num)d into the name: each of numprocs has a log then ({places})"
        ));
    }
    if groups {
        advice.push(format!("put %(group_name)s into the name ({places})"));
    }
    if sections {
        let directory = writers
            .first()
            .map_or("", |writer| directory_of(writer.path));
        advice.push(format!(
            "give each program a log of its own, such as {}/%(program_name)s.log ({places}), or pipe them to one logger",
            directory.trim_end_matches('/')
        ));
    }
    advice.join("; ")
}

/// Where the file is named, each place once.
fn places(linter: &Linter<'_>, writers: &[&Writer<'_>]) -> String {
    let mut places: Vec<Place> = writers.iter().map(|writer| writer.at).collect();
    places.sort_unstable();
    places.dedup();
    let places: Vec<_> = places.into_iter().map(|at| linter.place(at)).collect();
    some_of(&places)
}
