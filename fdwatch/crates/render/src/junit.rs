//! What came of a command as JUnit's XML, for continuous integration: a test for each kind of finding,
//! which fails if there are any.

use std::io;

use anstream::adapter::strip_str;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::{
    run::{leak, summary},
    text,
};
use fdwatch_core::{leaks::Kind, model::Moment};
use fdwatch_events::{RunReport, time::Clock};

/// The XML.
///
/// # Errors
///
/// If it cannot be made.
pub fn report(report: &RunReport, clock: &Clock, now: Moment) -> io::Result<String> {
    let words = report.command.iter();
    let words: Vec<_> = words.map(|word| String::from_utf8_lossy(word)).collect();
    let command = words.join(" ");
    let mut suite = TestSuite::new(command.as_str());
    for (kind, name) in [
        (Kind::AtExit, "descriptors left open at exit"),
        (Kind::OverExec, "descriptors let into other programs"),
    ] {
        let groups = report.fold.groups().iter();
        let groups = groups.filter(|group| group.first.kind == kind);
        let texts: Vec<_> = groups.map(|group| leak(group, clock)).collect();
        suite.add_test_case(case(name, kind.name(), report.fold.count(kind), &texts));
    }
    let duplicates = report.duplicates.iter();
    let texts: Vec<_> = duplicates
        .map(|one| text::finding(one, clock, now))
        .collect();
    let count = report.duplicates.len() as u64;
    suite.add_test_case(case("files held twice", "duplicate", count, &texts));
    suite.set_system_out(summary(report));
    let mut all = Report::new("fdwatch");
    all.add_test_suite(suite);
    all.to_string().map_err(io::Error::other)
}

fn case(name: &str, kind: &str, count: u64, texts: &[String]) -> TestCase {
    let status = if texts.is_empty() {
        TestCaseStatus::success()
    } else {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        let text = texts.concat();
        status
            .set_type(kind)
            .set_message(format!("{name}: {count}"))
            .set_description(strip_str(&text).to_string());
        status
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("fdwatch.{kind}"));
    case
}
