//! Rules that do not depend on the host: settings that supervisord rejects, ignores, or that have no effect.

use std::collections::BTreeMap;

use super::{linter::Linter, rule::Rule};
use crate::{
    config::WarningKind,
    ini::Location,
    keys::{SectionKind, nearest_key, nearest_section},
    pattern::is_pattern,
};

pub(super) fn check(linter: &mut Linter<'_>) {
    names(linter);
    for fault in &linter.config.faults {
        let message = format!("supervisord does not start: {}", fault.reason);
        linter.report(Rule::Refused, fault.at, message, String::new());
    }
    for warning in &linter.config.warnings {
        report_warning(linter, warning.at, &warning.kind);
    }
    for section in linter.config.document.sections() {
        let kind = SectionKind::of(&section.name);
        if kind == SectionKind::Unknown {
            let advice = nearest_section(&section.name).map(|known| {
                let name = if known.ends_with(':') { "NAME" } else { "" };
                format!("did you mean [{known}{name}]?")
            });
            linter.report(
                Rule::UnknownSection,
                section.at,
                format!("unknown section: supervisord ignores [{}]", section.name),
                advice.unwrap_or_default(),
            );
        }
        for (key, entry) in &section.entries {
            let Some(mut keys) = kind.keys() else { break };
            if keys.any(|(known, _)| known == key) {
                continue;
            }
            let nearest = nearest_key(kind, key);
            let advice = nearest.map(|known| format!("did you mean {known}?"));
            linter.report(
                Rule::UnknownKey,
                entry.at,
                format!(
                    "unknown key: supervisord ignores {key} in [{}]",
                    section.name
                ),
                advice.unwrap_or_default(),
            );
        }
    }
}

/// Checks that names are unique: supervisord keeps groups, and the processes of each, by name.
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
                format!("processes are named {}", process.full_name()),
                process.at,
                first.at,
            )
        } else {
            (format!("groups are named {group}"), group_at, first)
        };
        let message = format!("two {name}: supervisord starts only one of them");
        let advice = "give them different names".to_owned();
        let file_line = linter.file_line(at);
        // Reported once per section, not for each of its processes.
        if linter
            .problems
            .iter()
            .any(|problem| problem.at == file_line && problem.rule == Rule::SameName)
        {
            continue;
        }
        linter.report(Rule::SameName, at, message, advice);
        let related = (linter.file_line(first), "also defined here".to_owned());
        if let Some(problem) = linter.problems.last_mut() {
            problem.related.push(related);
        }
    }
}

fn report_warning(linter: &mut Linter<'_>, at: Location, kind: &WarningKind) {
    let (rule, message, advice) = match kind {
        WarningKind::NothingIncluded(pattern) => (
            if pattern.split('/').any(is_pattern) {
                // A pattern may be for files that are added later.
                Rule::NothingIncluded
            } else {
                Rule::NotIncluded
            },
            format!("no file matches {pattern}, so nothing is included"),
            String::new(),
        ),
        WarningKind::NotIncluded(path, reason) => (
            Rule::NotIncluded,
            format!("supervisord silently skips {path}, which cannot be read: {reason}"),
            String::new(),
        ),
        WarningKind::NestedInclude => (
            Rule::NotIncluded,
            "supervisord ignores [include] in an included file".to_owned(),
            "list these files in [include] of the main file".to_owned(),
        ),
        WarningKind::StderrIgnored => (
            Rule::NoEffect,
            "stderr_logfile has no effect, because redirect_stderr is true".to_owned(),
            "remove one of the two".to_owned(),
        ),
        WarningKind::SyslogAsName(key) => (
            Rule::NoEffect,
            "syslog as a log's file name is deprecated".to_owned(),
            format!("set {key}=true"),
        ),
        WarningKind::AutoWithoutRotation(stream) => (
            Rule::NoEffect,
            format!(
                "the log of {stream} is replaced only when supervisord starts, and grows without limit until then"
            ),
            format!("set {stream}_logfile_maxbytes to more than 0, or {stream}_logfile=NONE"),
        ),
    };
    linter.report(rule, at, message, advice);
}
