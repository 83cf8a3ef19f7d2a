//! The commands, one module each. They connect the crates: options, probe, model and output.

#[cfg(feature = "agent")]
mod agent;
mod doctor;
mod explain;
mod fds;
#[cfg(feature = "fleet")]
mod fleet;
#[cfg(feature = "agent")]
mod history;
#[cfg(feature = "lint")]
mod lint;
mod live_line;
mod output;
mod pid;
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

pub use self::{
    output::{EXIT_ERROR, StdoutClosed, WritingOutput},
    replay::play,
};

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, Command};

/// Runs a command and returns its exit code.
///
/// # Errors
///
/// If the command fails. [`StdoutClosed`] is not a failure.
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
