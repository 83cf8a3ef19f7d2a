//! Shows findings: as text or as JSON, on standard output. Nothing is decided here.

mod calls;
pub mod escape;
mod explanation;
pub mod json;
pub mod junit;
pub mod run;
pub mod text;

use std::io::{self, Write};

use tracing::Level;

pub use self::{
    calls::TracedCall,
    explanation::{Explanation, FileStory},
    run::RunReport,
};
pub use self::{
    escape::Escaped,
    json::SCHEMA,
    text::{path, size},
};
use fdwatch_core::{
    Lost,
    diagnose::{Finding, TableReport},
    growth::GrowthReport,
    model::Moment,
};
use fdwatch_events::{BudgetReport, EventKind, RunStats, ThresholdReport, time::Clock};

use self::json::Json;

/// How findings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    Text,
    /// One object per line.
    Json,
}

/// Where findings go.
pub struct Reporter<W> {
    output: W,
    format: Format,
    json: Json,
    /// When the moments of what is shown were.
    pub clock: Clock,
}

impl<W: Write> Reporter<W> {
    /// A reporter of the host named `host`, that writes to `output`.
    pub fn new(output: W, format: Format, host: String, clock: Clock) -> Self {
        Self {
            output,
            format,
            json: Json::new(host),
            clock,
        }
    }

    /// One like it that writes elsewhere, or in another format: descriptions have the same names there.
    pub fn to<V: Write>(&self, output: V, format: Format) -> Reporter<V> {
        Reporter {
            output,
            format,
            json: self.json.clone(),
            clock: self.clock.clone(),
        }
    }

    /// The host whose reporter it is.
    pub fn host(&self) -> &str {
        self.json.host()
    }

    /// Ends it, and gives back what it wrote to.
    pub fn into_output(self) -> W {
        self.output
    }

    /// Shows what the agent told.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn told(&mut self, told: &EventKind, now: Moment) -> io::Result<()> {
        match told {
            EventKind::Finding(finding) => self.finding(finding, now),
            EventKind::Growth(report) => self.growth(report, now),
            EventKind::Threshold(report) => self.threshold(report, now),
            EventKind::Loss(lost) => self.loss(lost, now),
            EventKind::Budget(report) => self.budget(report, now),
        }
    }

    /// Says that a process is beyond a threshold, or is no more.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn threshold(&mut self, report: &ThresholdReport, now: Moment) -> io::Result<()> {
        let text = match self.format {
            Format::Text => text::threshold(report, &self.clock, now),
            Format::Json => line(self.json.threshold(report, &self.clock, now))?,
        };
        self.output.write_all(text.as_bytes())
    }

    /// Shows a finding.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn finding(&mut self, finding: &Finding, now: Moment) -> io::Result<()> {
        let text = match self.format {
            Format::Text => text::finding(finding, &self.clock, now),
            Format::Json => line(self.json.finding(finding, &self.clock, now))?,
        };
        self.output.write_all(text.as_bytes())
    }

    /// Says that the watch has begun: as JSON in the output, else on standard error.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn started(&mut self, stats: &RunStats, now: Moment) -> io::Result<()> {
        match self.format {
            Format::Text => say_started(stats),
            Format::Json => {
                let line = line(self.json.started(stats, &self.clock, now))?;
                self.output.write_all(line.as_bytes())?;
            }
        }
        self.flush()
    }

    /// Says that records were lost, and how many in all.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn loss(&mut self, lost: &Lost, now: Moment) -> io::Result<()> {
        let text = match self.format {
            Format::Text => text::loss(lost, &self.clock, now),
            Format::Json => line(self.json.loss(lost, &self.clock, now))?,
        };
        self.output.write_all(text.as_bytes())
    }

    /// Says that a table grows, or does no more.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn growth(&mut self, report: &GrowthReport, now: Moment) -> io::Result<()> {
        let text = match self.format {
            Format::Text => text::growth(report, &self.clock, now),
            Format::Json => line(self.json.growth(report, &self.clock, now))?,
        };
        self.output.write_all(text.as_bytes())
    }

    /// Says what is left undone from now on, for the sake of the budget.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn budget(&mut self, report: &BudgetReport, now: Moment) -> io::Result<()> {
        let text = match self.format {
            Format::Text => text::budget(report, &self.clock, now),
            Format::Json => line(self.json.budget(report, &self.clock, now))?,
        };
        self.output.write_all(text.as_bytes())
    }

    /// Shows a process's descriptors.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn table(&mut self, table: &TableReport, now: Moment) -> io::Result<()> {
        let text = match self.format {
            Format::Text => text::table(table),
            Format::Json => line(self.json.table(table, &self.clock, now))?,
        };
        self.output.write_all(text.as_bytes())?;
        self.flush()
    }

    /// Shows a call.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn call(&mut self, traced: &TracedCall) -> io::Result<()> {
        let text = match self.format {
            Format::Text => calls::as_text(traced, &self.clock),
            Format::Json => line(self.json.call(traced, &self.clock))?,
        };
        self.output.write_all(text.as_bytes())
    }

    /// Shows an explanation.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn explanation(&mut self, explanation: &Explanation, now: Moment) -> io::Result<()> {
        let text = match self.format {
            Format::Text => explanation::as_text(explanation, &self.clock),
            Format::Json => line(self.json.explanation(explanation, &self.clock, now))?,
        };
        self.output.write_all(text.as_bytes())?;
        self.flush()
    }

    /// Gives the account of it all: as JSON in the output, else on standard error.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn summary(&mut self, stats: &RunStats, now: Moment) -> io::Result<()> {
        match self.format {
            Format::Text => say_summary(stats),
            Format::Json => {
                let line = line(self.json.summary(stats, &self.clock, now))?;
                self.output.write_all(line.as_bytes())?;
            }
        }
        self.flush()
    }

    /// Hands over what was written so far.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

pub fn line(json: serde_json::Result<String>) -> io::Result<String> {
    let mut line = json.map_err(io::Error::other)?;
    line.push('\n');
    Ok(line)
}

/// Says on standard error that events are followed from here on.
pub fn say_started(stats: &RunStats) {
    say(Level::INFO, &text::started(stats));
}

/// The account of it all, for a person.
#[must_use]
pub fn summary_text(stats: &RunStats) -> String {
    text::summary(stats)
}

/// Gives the account of it all on standard error.
pub fn say_summary(stats: &RunStats) {
    say(Level::INFO, &text::summary(stats));
}

/// Says something that is not part of the output. Where that cannot be said, no one listens.
pub fn note(text: &str) {
    say(Level::WARN, text);
}

/// Through the log, where there is one, as in the agent.
fn say(level: Level, text: &str) {
    if !tracing::dispatcher::has_been_set() {
        let _ = writeln!(anstream::stderr().lock(), "fdwatch: {text}");
    } else if level == Level::WARN {
        tracing::warn!("{text}");
    } else {
        tracing::info!("{text}");
    }
}

/// Bytes that strangers chose, as a terminal may show them.
pub fn escaped(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}
