//! Text of problems in configurations.

use std::fmt::Write as _;

use fdwatch_events::wire::Lint;

use crate::{
    escape::Escaped,
    text::{BOLD, DIM, severity_style},
};

/// Returns a problem, with its place in the form that editors and compilers use.
#[must_use]
pub fn text(lint: &Lint) -> String {
    let style = severity_style(lint.severity.known());
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{BOLD}{}{BOLD:#}: {style}{}{style:#}: {} {DIM}[{}]{DIM:#}",
        place(&lint.file, lint.line),
        lint.severity,
        Escaped(lint.message.as_bytes()),
        lint.rule,
    );
    for related in &lint.related {
        let (place, what) = (place(&related.file, related.line), related.what.as_bytes());
        let _ = writeln!(text, "    {DIM}{place}: {}{DIM:#}", Escaped(what));
    }
    if !lint.advice.is_empty() {
        let _ = writeln!(text, "    > {}", Escaped(lint.advice.as_bytes()));
    }
    text
}

fn place(file: &str, line: usize) -> String {
    format!("{}:{line}", Escaped(file.as_bytes()))
}
