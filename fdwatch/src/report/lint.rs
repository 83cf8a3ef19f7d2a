//! What is wrong with configurations, for a person's eye or as JSON.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::{Format, escape::Escaped, json::SCHEMA};
use fdwatch_core::diagnose::Severity;
use fdwatch_supervisor::lint::{Problem, Spot};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    rule: &'static str,
    severity: &'static str,
    cause: Option<&'static str>,
    file: &'a str,
    line: usize,
    path: Option<&'a str>,
    message: &'a str,
    advice: &'a str,
    related: Vec<Related<'a>>,
}

#[derive(Serialize)]
struct Related<'a> {
    file: &'a str,
    line: usize,
    what: &'a str,
}

/// Shows something that is wrong.
///
/// # Errors
///
/// If it cannot be written.
pub fn problem(output: &mut impl Write, format: Format, problem: &Problem) -> io::Result<()> {
    match format {
        Format::Text => output.write_all(text(problem).as_bytes()),
        Format::Json => {
            let line = super::line(serde_json::to_string(&json(problem)))?;
            output.write_all(line.as_bytes())
        }
    }
}

fn text(problem: &Problem) -> String {
    let severity = problem.rule.severity();
    let style = match severity {
        Severity::Critical => AnsiColor::Red.on_default().bold(),
        Severity::Warning => AnsiColor::Yellow.on_default().bold(),
        Severity::Info => AnsiColor::Cyan.on_default(),
    };
    let mut text = String::new();
    let (name, rule) = (severity.name(), problem.rule.name());
    // To a string nothing fails.
    let _ = writeln!(
        text,
        "{BOLD}{}{BOLD:#}: {style}{name}{style:#}: {} {DIM}[{rule}]{DIM:#}",
        spot(&problem.at),
        Escaped(problem.message.as_bytes()),
    );
    for (at, what) in &problem.related {
        let what = Escaped(what.as_bytes());
        let _ = writeln!(text, "    {DIM}{}: {what}{DIM:#}", spot(at));
    }
    if !problem.advice.is_empty() {
        let _ = writeln!(text, "    > {}", Escaped(problem.advice.as_bytes()));
    }
    text
}

fn spot(spot: &Spot) -> String {
    format!("{}:{}", Escaped(spot.file.as_bytes()), spot.line)
}

fn json(problem: &Problem) -> Line<'_> {
    let related = problem.related.iter().map(|(spot, what)| Related {
        file: &spot.file,
        line: spot.line,
        what,
    });
    Line {
        schema: SCHEMA,
        kind: "lint",
        rule: problem.rule.name(),
        severity: problem.rule.severity().name(),
        cause: problem.rule.cause(),
        file: &problem.at.file,
        line: problem.at.line,
        path: problem.path.as_deref(),
        message: &problem.message,
        advice: &problem.advice,
        related: related.collect(),
    }
}
