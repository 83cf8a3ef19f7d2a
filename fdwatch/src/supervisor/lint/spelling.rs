//! What is refused, passed over or without effect: rules about what is written, whatever the host.

use super::{Linter, Rule};
use crate::supervisor::{
    config::RemarkKind,
    ini::Place,
    keys::{SectionKind, nearest_key, nearest_section},
};

pub(super) fn check(linter: &mut Linter<'_>) {
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

fn remark(linter: &mut Linter<'_>, at: Place, kind: &RemarkKind) {
    let (rule, message, advice) = match kind {
        RemarkKind::NothingIncluded(pattern) => (
            Rule::NotIncluded,
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
