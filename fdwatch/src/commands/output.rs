//! Standard output of the commands, and their exit code on errors.

use std::io;

use anyhow::{Context as _, Result};
use fdwatch_core::model::Moment;
use fdwatch_events::{time::Clock, wire::Wire};
use fdwatch_host::proc;
use fdwatch_render::{Format, Report, Reporter};
use fdwatch_tracker::message::info;
use thiserror::Error;

/// Exit code of all errors.
pub const EXIT_ERROR: u8 = 2;

/// Buffered standard output; without colours unless it is a terminal.
pub(super) type Output = io::BufWriter<anstream::AutoStream<io::Stdout>>;

/// Returns a reporter of this host's events on standard output.
pub(super) fn reporter(format: Format) -> Reporter<Output> {
    let clock = Clock::new(proc::wall_time(), proc::boottime());
    reporter_of(format, proc::hostname(), clock)
}

/// Returns a reporter of another host's events, or of another time.
pub(super) fn reporter_of(format: Format, host: String, clock: Clock) -> Reporter<Output> {
    let output = io::BufWriter::with_capacity(1 << 16, anstream::stdout());
    Reporter::new(output, format, Wire::new(host, clock))
}

/// Reports the start or the totals of a run: JSON goes to the output, text to standard error.
pub(super) fn report_run<W: io::Write>(
    reporter: &mut Reporter<W>,
    report: &impl Report,
    at: Moment,
) -> io::Result<()> {
    match reporter.format() {
        Format::Text => info(&report.text(&reporter.wire.clock, at)),
        Format::Json => reporter.report(report, at)?,
    }
    reporter.flush()
}

/// Error for a closed standard output, as by `head`. The command then exits without a message.
#[derive(Debug, Error)]
#[error("standard output was closed")]
pub struct StdoutClosed;

/// Adds context to errors of writing to standard output.
pub trait WritingOutput<T> {
    /// Converts the error of a closed pipe to [`StdoutClosed`], and adds context to other errors.
    ///
    /// # Errors
    ///
    /// If the write failed.
    fn writing_output(self) -> Result<T>;
}

impl<T> WritingOutput<T> for io::Result<T> {
    fn writing_output(self) -> Result<T> {
        match self {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
            result => result.context("cannot write to standard output"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_pipe_is_no_error() {
        let closed: io::Result<()> = Err(io::ErrorKind::BrokenPipe.into());
        assert!(closed.writing_output().unwrap_err().is::<StdoutClosed>());
        let full: io::Result<()> = Err(io::ErrorKind::StorageFull.into());
        let error = full.writing_output().unwrap_err();
        assert!(!error.is::<StdoutClosed>());
        assert_eq!(error.to_string(), "cannot write to standard output");
    }
}
