//! Writes reports, as text or as JSON.

use std::io::{self, Write};

use fdwatch_core::{
    Lost,
    diagnose::{Finding, TableReport},
    growth::GrowthReport,
    leaks::LeakGroup,
    model::Moment,
};
use fdwatch_events::{
    BudgetReport, EventKind, Explanation, RunReport, RunStats, Started, ThresholdReport,
    TracedCall,
    time::Clock,
    wire::{ToWire, Wire},
};
use serde::Serialize;

use crate::{calls, explanation, run, text};

/// Format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Human-readable text.
    Text,
    /// JSON, one object per line.
    Json,
}

/// Report that can be written as text and as a line of JSON.
pub trait Report: ToWire {
    /// Returns its text, with a line end.
    fn text(&self, clock: &Clock, at: Moment) -> String;
}

/// Writer of reports.
pub struct Reporter<W> {
    output: W,
    format: Format,
    /// Host and clock of the reports.
    pub wire: Wire,
}

impl<W: Write> Reporter<W> {
    /// Creates a reporter that writes to `output`.
    pub fn new(output: W, format: Format, wire: Wire) -> Self {
        Self {
            output,
            format,
            wire,
        }
    }

    /// Returns the format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the output.
    pub fn into_output(self) -> W {
        self.output
    }

    /// Writes a report that was made at the moment `at`.
    ///
    /// # Errors
    ///
    /// Returns an error if the output cannot be written.
    pub fn report(&mut self, report: &impl Report, at: Moment) -> io::Result<()> {
        match self.format {
            Format::Text => self.write(report.text(&self.wire.clock, at).as_bytes()),
            Format::Json => self.line(&self.wire.line(report, at)),
        }
    }

    /// Writes an event that happened at the moment `at`.
    ///
    /// # Errors
    ///
    /// Returns an error if the output cannot be written.
    pub fn event(&mut self, event: &EventKind, at: Moment) -> io::Result<()> {
        match event {
            EventKind::Finding(finding) => self.report(&**finding, at),
            EventKind::Growth(report) => self.report(&**report, at),
            EventKind::Threshold(report) => self.report(&**report, at),
            EventKind::Loss(lost) => self.report(lost, at),
            EventKind::Budget(report) => self.report(report, at),
        }
    }

    /// Writes the result of a command: each leak, each duplicate, and the totals.
    ///
    /// # Errors
    ///
    /// Returns an error if the output cannot be written.
    pub fn run(&mut self, report: &RunReport, at: Moment) -> io::Result<()> {
        for group in report.fold.groups() {
            self.report(group, group.first.at)?;
        }
        for finding in &report.duplicates {
            self.report(finding, at)?;
        }
        self.report(report, at)?;
        self.flush()
    }

    /// Writes an object as a line of JSON.
    ///
    /// # Errors
    ///
    /// Returns an error if the output cannot be written.
    pub fn line(&mut self, object: &impl Serialize) -> io::Result<()> {
        let line = json_line(object)?;
        self.write(line.as_bytes())
    }

    /// Flushes the output.
    ///
    /// # Errors
    ///
    /// Returns an error if the output cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)
    }
}

/// Returns an object as a line of JSON, with its line end.
///
/// # Errors
///
/// Returns an error if it has a map with keys that are not strings.
pub fn json_line(object: &impl Serialize) -> io::Result<String> {
    let mut line = serde_json::to_string(object)?;
    line.push('\n');
    Ok(line)
}

impl Report for Finding {
    fn text(&self, clock: &Clock, at: Moment) -> String {
        text::finding(self, clock, at)
    }
}

impl Report for GrowthReport {
    fn text(&self, clock: &Clock, at: Moment) -> String {
        text::growth(self, clock, at)
    }
}

impl Report for ThresholdReport {
    fn text(&self, clock: &Clock, at: Moment) -> String {
        text::threshold(self, clock, at)
    }
}

impl Report for Lost {
    fn text(&self, clock: &Clock, at: Moment) -> String {
        text::loss(self, clock, at)
    }
}

impl Report for BudgetReport {
    fn text(&self, clock: &Clock, at: Moment) -> String {
        text::budget(self, clock, at)
    }
}

impl Report for TableReport {
    fn text(&self, _: &Clock, _: Moment) -> String {
        text::table(self)
    }
}

impl Report for TracedCall {
    fn text(&self, clock: &Clock, _: Moment) -> String {
        calls::as_text(self, clock)
    }
}

impl Report for Explanation {
    fn text(&self, clock: &Clock, _: Moment) -> String {
        explanation::as_text(self, clock)
    }
}

impl Report for LeakGroup {
    fn text(&self, clock: &Clock, _: Moment) -> String {
        run::leak(self, clock)
    }
}

impl Report for RunReport {
    fn text(&self, _: &Clock, _: Moment) -> String {
        format!("fdwatch: {}\n", run::summary(self))
    }
}

impl Report for Started<'_> {
    fn text(&self, _: &Clock, _: Moment) -> String {
        text::started(self.0)
    }
}

impl Report for RunStats {
    fn text(&self, _: &Clock, _: Moment) -> String {
        text::summary(self)
    }
}
