//! Results of a command as JUnit's XML, for continuous integration: a test for each kind of finding,
//! which fails if there are any.
//!
//! The few fixed elements are written directly: a library would add twenty dependencies.

use std::fmt::Write as _;

use anstream::adapter::strip_str;
use fdwatch_core::{leaks::LeakKind, model::Moment};
use fdwatch_events::{RunReport, time::Clock};

use crate::{
    escape::Escaped,
    run::{leak, summary},
    text,
};

/// Returns the XML of a report that was made at the moment `at`.
#[must_use]
pub fn report(report: &RunReport, clock: &Clock, at: Moment) -> String {
    let leaks = |kind: LeakKind| {
        let groups = report.fold.groups().iter();
        let groups = groups.filter(|group| group.first.kind == kind);
        groups.map(|group| leak(group, clock)).collect::<String>()
    };
    let duplicates = report.duplicates.iter();
    let duplicates: String = duplicates
        .map(|finding| text::finding(finding, clock, at))
        .collect();
    let (exit, exec) = (LeakKind::AtExit, LeakKind::AcrossExec);
    let cases = [
        (
            "descriptors left open at exit",
            exit.name(),
            report.fold.count(exit),
            leaks(exit),
        ),
        (
            "descriptors passed to other programs",
            exec.name(),
            report.fold.count(exec),
            leaks(exec),
        ),
        (
            "files open twice",
            "duplicate",
            report.duplicates.len() as u64,
            duplicates,
        ),
    ];
    let words = report.command.iter();
    let words: Vec<_> = words.map(|word| Escaped(word).to_string()).collect();
    let failures = cases.iter().filter(|(.., text)| !text.is_empty()).count();
    let counts = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"0\"",
        cases.len()
    );
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"fdwatch\" {counts}>\n  \
         <testsuite name=\"{}\" {counts}>\n",
        escaped(&words.join(" "))
    );
    for (name, kind, count, text) in cases {
        // Writing to a string does not fail.
        let _ = write!(
            xml,
            "    <testcase name=\"{name}\" classname=\"fdwatch.{kind}\""
        );
        if text.is_empty() {
            xml.push_str("/>\n");
            continue;
        }
        let text = escaped(&strip_str(&text).to_string());
        let _ = write!(
            xml,
            ">\n      <failure message=\"{name}: {count}\" type=\"{kind}\">{text}</failure>\n    </testcase>\n"
        );
    }
    let summary = escaped(&summary(report));
    let _ = write!(
        xml,
        "    <system-out>{summary}</system-out>\n  </testsuite>\n</testsuites>\n"
    );
    xml
}

/// Returns a text for an element or an attribute. XML cannot contain all characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn command_is_escaped_in_attribute() {
        let command = [OsStr::new("a\"<&>\u{ffff}\n").to_owned()];
        let xml = report(
            &RunReport::new(&command),
            &Clock::of_wall_time(),
            Moment::default(),
        );
        assert!(
            xml.contains(
                "<testsuite name=\"a&quot;&lt;&amp;&gt;\u{fffd}\\n\" tests=\"3\" failures=\"0\""
            ),
            "{xml}"
        );
        assert_eq!(xml.matches("<testcase").count(), 3);
        assert!(!xml.contains("<failure"), "{xml}");
    }
}
