//! What is refused, passed over or without effect: rules about what is written, whatever the host.

use std::collections::BTreeMap;

use super::{Linter, Rule};
use crate::{
    config::RemarkKind,
    ini::Place,
    keys::{SectionKind, nearest_key, nearest_section},
    pattern::is_pattern,
};

pub(super) fn check(linter: &mut Linter<'_>) {
    names(linter);
    for fault in &linter.config.faults {
        let message = format!("supervisord does not start: {}", fault.reason);
        linter.tell(Rule::Refused, fault.at, message, String::new());
    }
    for remark in &linter.config.remarks {
        self::remark(linter, remark.at, &remark.kind);
    }
    for section in linter.config.document.sections() {
        let kind = SectionKind::of(&section.name);
        if kind == SectionKind::Unknown {
            let advice = nearest_section(&section.name).map(|known| {
                let name = if known.ends_with(':') { "NAME" } else { "" };
                format!("is [{known}{name}] meant?")
            });
            linter.tell(
                Rule::UnknownSection,
                section.at,
                format!("supervisord passes over [{}]", section.name),
                advice.unwrap_or_default(),
            );
        }
        for (key, entry) in &section.entries {
            let Some(mut keys) = kind.keys() else { break };
            if keys.any(|(known, _)| known == key) {
                continue;
            }
            let nearest = nearest_key(kind, key);
            let advice = nearest.map(|known| format!("is {known} meant?"));
            linter.tell(
                Rule::UnknownKey,
                entry.at,
                format!("supervisord passes over {key} in [{}]", section.name),
                advice.unwrap_or_default(),
            );
        }
    }
}

/// supervisord keeps groups by their names, and in each the processes by theirs.
fn names(linter: &mut Linter<'_>) {
    let mut groups = BTreeMap::new();
    let mut processes = BTreeMap::new();
    for process in &linter.config.processes {
        let group_at = process.group_at;
        let first = *groups.entry(&process.group).or_insert(group_at);
        let group = &process.group;
        let (name, at, first) = if first == group_at {
            let first = processes.entry((group, &process.name)).or_insert(process);
            if std::ptr::eq(*first, process) {
                continue;
            }
            (
                format!("processes are called {}", process.full_name()),
                process.at,
                first.at,
            )
        } else {
            (format!("groups are called {group}"), group_at, first)
        };
        let message = format!("two {name}: supervisord starts one of them");
        let advice = "give them names of their own".to_owned();
        let spot = linter.spot(at);
        // Once for each section, not for each process of it.
        if linter
            .problems
            .iter()
            .any(|told| told.at == spot && told.rule == Rule::SameName)
        {
            continue;
        }
        linter.tell(Rule::SameName, at, message, advice);
        let related = (linter.spot(first), "the other".to_owned());
        if let Some(problem) = linter.problems.last_mut() {
            problem.related.push(related);
        }
    }
}

fn remark(linter: &mut Linter<'_>, at: Place, kind: &RemarkKind) {
    let (rule, message, advice) = match kind {
        RemarkKind::NothingIncluded(pattern) => (
            if pattern.split('/').any(is_pattern) {
                // As of a directory for what is yet to come.
                Rule::NothingIncluded
            } else {
                Rule::NotIncluded
            },
            format!("no file matches {pattern}: nothing is included"),
            String::new(),
        ),
        RemarkKind::NotIncluded(path, reason) => (
            Rule::NotIncluded,
            format!("{path} cannot be read, and supervisord passes over it in silence: {reason}"),
            String::new(),
        ),
        RemarkKind::NestedInclude => (
            Rule::NotIncluded,
            "supervisord does not follow an [include] in an included file".to_owned(),
            "name these files in the [include] of the first file".to_owned(),
        ),
        RemarkKind::StderrIgnored => (
            Rule::NoEffect,
            "stderr_logfile is passed over, since redirect_stderr is true".to_owned(),
            "take out one of the two".to_owned(),
        ),
        RemarkKind::SyslogAsName(key) => (
            Rule::NoEffect,
            "syslog as the name of a log is deprecated".to_owned(),
            format!("set {key}=true"),
        ),
        RemarkKind::AutoWithoutRotation(stream) => (
            Rule::NoEffect,
            format!(
                "the log of {stream} is made anew at each start, and until then grows without limit"
            ),
            format!("set {stream}_logfile_maxbytes to more than 0, or {stream}_logfile=NONE"),
        ),
    };
    linter.tell(rule, at, message, advice);
}
