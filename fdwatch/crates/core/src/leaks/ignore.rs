//! Ignore files: rules that suppress leaks and duplicates, one per line.
//!
//! A rule consists of terms separated by blanks, all of which must match. `comm:`, `exe:`, `type:`
//! and `path:` are followed by a pattern for the process's name, its executable, the file's type
//! and the file's path; `kind:` by `exit`, `exec` or `duplicate`. A term without such a prefix is a
//! pattern for the path. In patterns, `*` also matches `/`.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use globset::{Glob, GlobMatcher};

use super::{groups::LeakReport, leak::LeakKind};
use crate::diagnose::{FileInfo, Finding, ProcessInfo};

/// Rules that suppress leaks and duplicates.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default)]
struct Rule {
    path: Option<GlobMatcher>,
    comm: Option<GlobMatcher>,
    exe: Option<GlobMatcher>,
    file_type: Option<GlobMatcher>,
    kind: Option<Subject>,
}

/// What a rule applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Leak(LeakKind),
    Duplicate,
}

impl Ignore {
    /// Adds the rules in `text`.
    ///
    /// # Errors
    ///
    /// The number of the first invalid line, from 1, and the reason.
    pub fn read(&mut self, text: &str) -> Result<(), (usize, String)> {
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let rule = rule(line).map_err(|reason| (i + 1, reason))?;
            self.rules.push(rule);
        }
        Ok(())
    }

    /// Returns whether to ignore the leak.
    #[must_use]
    pub fn leak(&self, leak: &LeakReport) -> bool {
        let subject = Subject::Leak(leak.kind);
        // Either of the two programs can be the faulty one.
        let into = leak.into.as_ref();
        let paths = [
            leak.file.path.as_deref(),
            leak.descriptor.asked_path.as_deref(),
        ];
        self.matches(subject, [Some(&leak.process), into], &leak.file, &paths)
    }

    /// Returns whether to ignore the duplicate.
    #[must_use]
    pub fn duplicate(&self, finding: &Finding) -> bool {
        let descriptors = finding.fds.iter().chain(&finding.closed);
        let requested = descriptors.map(|descriptor| descriptor.asked_path.as_deref());
        let paths: Vec<_> = requested.chain([finding.file.path.as_deref()]).collect();
        let processes = [Some(&finding.process), None];
        self.matches(Subject::Duplicate, processes, &finding.file, &paths)
    }

    fn matches(
        &self,
        subject: Subject,
        processes: [Option<&ProcessInfo>; 2],
        file: &FileInfo,
        paths: &[Option<&[u8]>],
    ) -> bool {
        self.rules.iter().any(|rule| {
            let mut processes = processes.iter().flatten();
            rule.kind.is_none_or(|kind| kind == subject)
                && is_match(rule.path.as_ref(), paths.iter().copied())
                && is_match(
                    rule.file_type.as_ref(),
                    [Some(file.file_type.name().as_bytes())],
                )
                && processes.any(|process| {
                    is_match(rule.comm.as_ref(), [Some(&process.comm[..])])
                        && is_match(rule.exe.as_ref(), [process.exe.as_deref()])
                })
        })
    }
}

fn is_match<'a>(
    glob: Option<&GlobMatcher>,
    candidates: impl IntoIterator<Item = Option<&'a [u8]>>,
) -> bool {
    let Some(glob) = glob else { return true };
    let mut candidates = candidates.into_iter().flatten();
    candidates.any(|bytes| glob.is_match(Path::new(OsStr::from_bytes(bytes))))
}

fn rule(line: &str) -> Result<Rule, String> {
    let mut rule = Rule::default();
    for term in line.split_whitespace() {
        let (prefix, value) = match term.split_once(':') {
            Some((prefix @ ("path" | "comm" | "exe" | "type" | "kind"), value)) => (prefix, value),
            Some((prefix, _)) if is_word(prefix) => {
                return Err(format!(
                    "unknown term: {prefix}: (expected path:, comm:, exe:, type: or kind:)"
                ));
            }
            _ => ("path", term),
        };
        if value.is_empty() {
            return Err(format!("missing value: {prefix}:"));
        }
        let place = match prefix {
            "kind" => {
                let kind = match value {
                    "exit" => Subject::Leak(LeakKind::AtExit),
                    "exec" => Subject::Leak(LeakKind::AcrossExec),
                    "duplicate" => Subject::Duplicate,
                    _ => {
                        return Err(format!(
                            "invalid value: {value:?} (expected exit, exec or duplicate)"
                        ));
                    }
                };
                if rule.kind.replace(kind).is_some() {
                    return Err("duplicate term: kind:".to_owned());
                }
                continue;
            }
            "comm" => &mut rule.comm,
            "exe" => &mut rule.exe,
            "type" => &mut rule.file_type,
            _ => &mut rule.path,
        };
        let glob = Glob::new(value)
            .map_err(|error| format!("invalid pattern: {value}: {}", error.kind()))?;
        if place.replace(glob.compile_matcher()).is_some() {
            return Err(format!("duplicate term: {prefix}:"));
        }
    }
    Ok(rule)
}

/// Returns whether the text before a colon looks like a prefix.
fn is_word(prefix: &str) -> bool {
    !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaks::tests::leak;

    fn ignores(rules: &str, leak: &LeakReport) -> bool {
        let mut ignore = Ignore::default();
        ignore.read(rules).unwrap();
        ignore.leak(leak)
    }

    #[test]
    fn rule_requires_all_terms() {
        let leak = leak(LeakKind::AtExit, "server", Some("/srv/log/x.log"));
        for (rules, expected) in [
            ("", false),
            ("# /srv/*\n\n", false),
            ("/srv/*", true),
            ("path:/srv/*.log", true),
            ("/srv", false),
            ("comm:server", true),
            ("comm:s* /var/*", false),
            ("comm:s* /srv/*", true),
            ("kind:exit", true),
            ("kind:exec", false),
            ("type:regular comm:server", true),
            ("type:socket", false),
            ("exe:*", false),
            ("comm:client\ncomm:server", true),
        ] {
            assert_eq!(ignores(rules, &leak), expected, "{rules}");
        }
    }

    #[test]
    fn invalid_rule_is_reported_with_line() {
        for (rules, line, reason) in [
            ("/tmp/*\n[x", 2, "[x"),
            ("kind:leak", 1, "exit, exec or duplicate"),
            ("#\ncom:sh", 2, "comm:"),
            ("comm:", 1, "missing value: comm:"),
            ("/a /b", 1, "duplicate term: path:"),
        ] {
            let (at, message) = Ignore::default().read(rules).unwrap_err();
            assert_eq!(at, line, "{rules}");
            assert!(message.contains(reason), "{message}");
        }
    }
}
