//! `fdwatch agent`: what it says of its configuration.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Result, bail};

use super::WritingOutput as _;
use crate::{
    agent::config::{EXAMPLE, Failure, load},
    cli::Agent,
    report::note,
};

pub(super) fn run(arguments: &Agent) -> Result<ExitCode> {
    if arguments.print_example {
        io::stdout()
            .write_all(EXAMPLE.as_bytes())
            .writing_output()?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &arguments.check {
        return check(file);
    }
    bail!("the agent cannot be run yet");
}

/// Tells what is wrong in a configuration, a mistake on each line.
fn check(file: &Path) -> Result<ExitCode> {
    let mut output = io::BufWriter::new(io::stdout());
    match load(file) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                note(&format!("warning: {}", warning.of_file(file)));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(Failure::Wrong { path, mistakes }) => {
            for mistake in &mistakes {
                writeln!(output, "{}", mistake.of_file(&path)).writing_output()?;
            }
            output.flush().writing_output()?;
            Ok(ExitCode::from(1))
        }
        Err(error @ Failure::Unreadable { .. }) => Err(error.into()),
    }
}
