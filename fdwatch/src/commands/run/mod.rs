//! `fdwatch run -- CMD`: reports leaked, inherited and duplicate descriptors of a command.

mod call_sites;
mod collector;
mod command;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use fdwatch_core::leaks::ignore::Ignore;
use fdwatch_events::time::Clock;
use fdwatch_events::{RunReport, wire::Wire};
use fdwatch_host::proc;
use fdwatch_options::{Detail, MaxCpu};
use fdwatch_render::{Format, Reporter, junit};
use fdwatch_tracker::message::warn;
use fdwatch_tracker::{Tracker, TrackerOptions, now};

use self::{
    collector::Collector,
    command::{Child, Outcome, exit_code},
};
use super::output::EXIT_ERROR;
use crate::{cli::Run, error};

/// Exit code of shells for a command that was not found.
const EXIT_NOT_FOUND: u8 = 127;

/// Exit code of shells for a command that cannot be executed.
const EXIT_NOT_EXECUTABLE: u8 = 126;

pub(super) fn run(arguments: &Run) -> Result<ExitCode> {
    let ignore = ignore(arguments)?;
    let outputs = Outputs::create(arguments)?;
    let mut child = Child::hold(&arguments.command, arguments.wait)?;
    let live = Tracker::start(TrackerOptions {
        ring_bytes: arguments.ring_size.0,
        all_types: arguments.all,
        // No event may be dropped.
        max_cpu: MaxCpu(f64::INFINITY),
        detail: Detail::Never,
        pids: Vec::new(),
        family: Some(child.pid),
        // The command would inherit it.
        nice: None,
        shows_steps: !arguments.quiet,
    })?;
    let mut collector = Collector::new(child.pid, arguments, ignore);
    let followed = live.follow(&mut child, &mut collector);
    if let Err(error) = &followed {
        error::print(error);
        warn("the command continues without fdwatch");
    }
    let outcome = child.outcome().context("cannot wait for the command")?;
    let status = match outcome {
        Outcome::Exited(status) => status,
        Outcome::Failed(error) => return Ok(cannot_run(&arguments.command[0], &error)),
    };
    if followed.is_err() {
        return Ok(ExitCode::from(EXIT_ERROR));
    }
    let report = collector.into_report(exit_code(status));
    outputs.write(&report)?;
    Ok(ExitCode::from(match arguments.error_exitcode {
        Some(code) if status.success() && !report.is_clean() => code,
        _ => report.exit_code,
    }))
}

/// Reports that the command was not run, and returns the exit code of shells for the reason.
fn cannot_run(program: &std::ffi::OsStr, error: &io::Error) -> ExitCode {
    let program = Path::new(program).display();
    let (code, reason) = match error.kind() {
        io::ErrorKind::NotFound => (EXIT_NOT_FOUND, "command not found".to_owned()),
        _ => (EXIT_NOT_EXECUTABLE, error.to_string()),
    };
    error::print_text(&format!("cannot run {program}: {reason}"));
    ExitCode::from(code)
}

/// Reads the rules of the --ignore files.
fn ignore(arguments: &Run) -> Result<Ignore> {
    let mut ignore = Ignore::default();
    for path in &arguments.ignore {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        if let Err((line, reason)) = ignore.read(&text) {
            bail!("{name}:{line}: {reason}");
        }
    }
    Ok(ignore)
}

/// Files of the report, besides standard error.
struct Outputs<'a> {
    arguments: &'a Run,
    json: Option<File>,
    junit: Option<File>,
    host: String,
}

impl<'a> Outputs<'a> {
    /// Creates the files. Called before the command runs, so that errors are reported early.
    fn create(arguments: &'a Run) -> Result<Self> {
        let create = |path: &Option<std::path::PathBuf>| {
            let create = |path: &std::path::PathBuf| {
                File::create(path).with_context(|| format!("cannot create {}", path.display()))
            };
            path.as_ref().map(create).transpose()
        };
        Ok(Self {
            arguments,
            json: create(&arguments.json)?,
            junit: create(&arguments.junit)?,
            host: proc::hostname(),
        })
    }

    fn write(self, report: &RunReport) -> Result<()> {
        let clock = Clock::new(proc::wall_time(), proc::boottime());
        let wire = Wire::new(self.host.clone(), clock.clone());
        let reporter = |output, format| Reporter::new(output, format, wire.clone());
        if !self.arguments.quiet {
            let output: Box<dyn io::Write> = Box::new(BufWriter::new(anstream::stderr()));
            // If standard error is closed, the report is still in the files and the exit code.
            let _ = reporter(output, Format::Text).run(report, now());
        }
        if let (Some(file), Some(path)) = (self.json, &self.arguments.json) {
            let output: Box<dyn io::Write> = Box::new(BufWriter::new(file));
            let written = reporter(output, Format::Json).run(report, now());
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let (Some(mut file), Some(path)) = (self.junit, &self.arguments.junit) {
            let xml = junit::report(report, &clock, now());
            let written = file.write_all(xml.as_bytes());
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
