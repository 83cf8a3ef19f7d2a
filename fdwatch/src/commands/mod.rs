//! What each command does: here, and nowhere else, all parts come together. How anything is shown, and why
//! it is told, is not decided here.

#[cfg(feature = "agent")]
mod agent;
mod alive;
mod doctor;
mod explain;
mod fds;
#[cfg(feature = "fleet")]
mod fleet;
#[cfg(feature = "agent")]
mod history;
#[cfg(feature = "lint")]
mod lint;
mod record;
#[cfg(feature = "agent")]
mod remote;
mod replay;
mod run;
mod scan;
#[cfg(feature = "top")]
mod top;
mod trace;
mod watch;

pub use self::replay::play;

use std::{io, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::cli::{Cli, Command};
use fdwatch_core::model::Moment;
use fdwatch_events::{time::Clock, wire::Wire};
use fdwatch_host::proc;
use fdwatch_options::Filters;
use fdwatch_render::{Format, Report, Reporter};
use fdwatch_tracker::message::info;

/// Exit code of all errors.
pub const EXIT_ERROR: u8 = 2;

/// Does what the command line says.
///
/// # Errors
///
/// If it cannot be done.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        None => watch::run(&cli.watch),
        Some(Command::Watch(watch)) => watch::run(&watch),
        Some(Command::Run(run)) => run::run(&run),
        Some(Command::Scan(scan)) => scan::run(&scan),
        Some(Command::Fds(fds)) => fds::run(&fds),
        #[cfg(feature = "top")]
        Some(Command::Top(top)) => top::run(&top),
        Some(Command::Trace(trace)) => trace::run(&trace),
        Some(Command::Explain(explain)) => explain::run(&explain),
        Some(Command::Record(record)) => record::run(&record),
        Some(Command::Replay(replay)) => replay::run(&replay),
        Some(Command::Doctor(doctor)) => doctor::run(&doctor),
        #[cfg(feature = "agent")]
        Some(Command::History(history)) => history::run(&history),
        #[cfg(feature = "lint")]
        Some(Command::Lint(lint)) => lint::run(&lint),
        #[cfg(feature = "agent")]
        Some(Command::Agent(agent)) => agent::run(&agent),
        #[cfg(feature = "fleet")]
        Some(Command::Fleet(fleet)) => fleet::run(&fleet),
    }
}

/// Standard output, without colours where there is no terminal.
type Output = io::BufWriter<anstream::AutoStream<io::Stdout>>;

fn reporter(format: Format) -> Reporter<Output> {
    let clock = Clock::new(proc::wall_time(), proc::boottime());
    reporter_of(format, proc::hostname(), clock)
}

/// A reporter of another host, or another time.
fn reporter_of(format: Format, host: String, clock: Clock) -> Reporter<Output> {
    let output = io::BufWriter::with_capacity(1 << 16, anstream::stdout());
    Reporter::new(output, format, Wire::new(host, clock))
}

/// Reports the start or the totals of a run: JSON goes to the output, text to standard error.
fn report_run<W: io::Write>(
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

/// What there is to say when output cannot be written.
trait WritingOutput<T> {
    fn writing_output(self) -> Result<T>;
}

impl<T> WritingOutput<T> for io::Result<T> {
    fn writing_output(self) -> Result<T> {
        self.context("cannot write to standard output")
    }
}

/// Refuses to wait for what is about processes that there are not.
fn check_pids(filters: &Filters) -> Result<()> {
    filters.pid.iter().try_for_each(|&pid| check_pid(pid))
}

fn check_pid(pid: u32) -> Result<()> {
    if !proc::exists(pid) {
        bail!("there is no process {pid}");
    }
    Ok(())
}
