//! `fdwatch agent`: runs the agent, checks a configuration, or stops a running agent.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Result;
use fdwatch_agent::{
    config::{self, EXAMPLE, Failure, load},
    kill_switch, run as serve,
};
use fdwatch_tracker::message::warn;

use super::output::WritingOutput as _;
use crate::cli::Agent;

pub(super) fn run(agent: &Agent) -> Result<ExitCode> {
    if agent.print_example {
        io::stdout()
            .write_all(EXAMPLE.as_bytes())
            .writing_output()?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &agent.check {
        return check(file);
    }
    let loaded = config::load_default(agent.config.as_deref())?;
    if agent.stop {
        return kill_switch::stop(&loaded.config);
    }
    serve(loaded, agent.config.as_deref(), agent.log_level.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the errors of a configuration file, one per line.
fn check(file: &Path) -> Result<ExitCode> {
    let mut output = io::BufWriter::new(io::stdout());
    match load(file) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                warn(&format!("warning: {}", warning.of_file(file)));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(Failure::Invalid { path, errors }) => {
            for error in &errors {
                writeln!(output, "{}", error.of_file(&path)).writing_output()?;
            }
            output.flush().writing_output()?;
            Ok(ExitCode::from(1))
        }
        Err(error @ Failure::Unreadable { .. }) => Err(error.into()),
    }
}
