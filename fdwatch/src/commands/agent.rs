//! `fdwatch agent`: runs the agent, checks a configuration, or stops a running agent.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser as _;
use fdwatch_agent::{
    config::{self, EXAMPLE, FILE, Failure, load},
    kill_switch, run as serve,
};
use fdwatch_host::proc;
use fdwatch_tracker::message::warn;

use super::output::WritingOutput as _;
use crate::cli::{Agent, Cli, Command};

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
        return kill_switch::stop(&loaded.config, running(agent.config.as_deref()));
    }
    serve(loaded, agent.config.as_deref(), agent.log_level.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the running agents with this configuration file, or without any if there is none. Others have a kill switch of
/// their own, and so have those in containers.
fn running(config: Option<&Path>) -> Vec<u32> {
    let identity = |path: PathBuf| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let place = |process: &str, config: Option<&Path>| {
        let process = Path::new("/proc").join(process);
        let file = process.join("cwd").join(config.unwrap_or(Path::new(FILE)));
        (identity(process.join("root")), identity(file))
    };
    let own = place("self", config);
    let mut agents = proc::other_fdwatches();
    agents.retain(|(pid, words)| match Cli::try_parse_from(words) {
        Ok(Cli {
            command: Some(Command::Agent(agent)),
            ..
        }) => {
            let serves = !agent.stop && !agent.print_example && agent.check.is_none();
            serves && place(&pid.to_string(), agent.config.as_deref()) == own
        }
        _ => false,
    });
    agents.into_iter().map(|(pid, _)| pid).collect()
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
