//! Former names, until their callers use the new ones.

use std::{
    io::{self, Write},
    ops::{Deref, DerefMut},
};

use fdwatch_core::{
    Lost,
    diagnose::{Finding, TableReport},
    growth::GrowthReport,
    model::Moment,
};
use fdwatch_events::{
    BudgetReport, EventKind, Explanation, RunStats, Started, TracedCall, wire::Wire,
};
use tracing::Level;

use crate::{Format, Reporter, text};

impl<W> Deref for Reporter<W> {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl<W> DerefMut for Reporter<W> {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

#[expect(clippy::missing_errors_doc, reason = "replaced by `report`")]
impl<W: Write> Reporter<W> {
    /// See [`Reporter::new`].
    pub fn to<V: Write>(&self, output: V, format: Format) -> Reporter<V> {
        Reporter::with(output, format, self.wire.clone())
    }

    /// See [`Reporter::event`].
    pub fn told(&mut self, told: &EventKind, now: Moment) -> io::Result<()> {
        self.event(told, now)
    }

    /// See [`Reporter::report`].
    pub fn finding(&mut self, finding: &Finding, now: Moment) -> io::Result<()> {
        self.report(finding, now)
    }

    /// See [`Reporter::report`].
    pub fn loss(&mut self, lost: &Lost, now: Moment) -> io::Result<()> {
        self.report(lost, now)
    }

    /// See [`Reporter::report`].
    pub fn growth(&mut self, report: &GrowthReport, now: Moment) -> io::Result<()> {
        self.report(report, now)
    }

    /// See [`Reporter::report`].
    pub fn budget(&mut self, report: &BudgetReport, now: Moment) -> io::Result<()> {
        self.report(report, now)
    }

    /// See [`Reporter::report`].
    pub fn table(&mut self, table: &TableReport, now: Moment) -> io::Result<()> {
        self.report(table, now)?;
        self.flush()
    }

    /// See [`Reporter::report`].
    pub fn call(&mut self, traced: &TracedCall) -> io::Result<()> {
        self.report(traced, traced.call.at)
    }

    /// See [`Reporter::report`].
    pub fn explanation(&mut self, explanation: &Explanation, now: Moment) -> io::Result<()> {
        self.report(explanation, now)?;
        self.flush()
    }

    /// See [`Reporter::report`].
    pub fn started(&mut self, stats: &RunStats, now: Moment) -> io::Result<()> {
        match self.format() {
            Format::Text => say_started(stats),
            Format::Json => self.report(&Started(stats), now)?,
        }
        self.flush()
    }

    /// See [`Reporter::report`].
    pub fn summary(&mut self, stats: &RunStats, now: Moment) -> io::Result<()> {
        match self.format() {
            Format::Text => say_summary(stats),
            Format::Json => self.report(stats, now)?,
        }
        self.flush()
    }
}

/// Returns a line of JSON.
#[expect(clippy::missing_errors_doc, reason = "replaced by `json_line`")]
pub fn line(json: serde_json::Result<String>) -> io::Result<String> {
    Ok(json? + "\n")
}

/// Reports the start of a watch on standard error.
pub fn say_started(stats: &RunStats) {
    say(Level::INFO, &text::started(stats));
}

/// Returns the totals of a run.
#[must_use]
pub fn summary_text(stats: &RunStats) -> String {
    text::summary(stats)
}

/// Reports the totals of a run on standard error.
pub fn say_summary(stats: &RunStats) {
    say(Level::INFO, &text::summary(stats));
}

/// Warns on standard error.
pub fn note(text: &str) {
    say(Level::WARN, text);
}

fn say(level: Level, text: &str) {
    if !tracing::dispatcher::has_been_set() {
        let _ = writeln!(anstream::stderr().lock(), "fdwatch: {text}");
    } else if level == Level::WARN {
        tracing::warn!("{text}");
    } else {
        tracing::info!("{text}");
    }
}

/// Former place of the JSON.
pub mod json {
    pub use fdwatch_events::wire::{SCHEMA, lossy};

    /// Returns bytes that are not UTF-8, in hexadecimal.
    #[must_use]
    pub fn lost_bytes(bytes: &[u8]) -> Option<String> {
        fdwatch_events::wire::lost_bytes(bytes).map(|it| it.0.into_owned())
    }
}
