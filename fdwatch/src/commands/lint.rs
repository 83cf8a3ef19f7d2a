//! `fdwatch lint`: checks the log settings of supervisord configurations.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use super::output::WritingOutput as _;
use fdwatch_host::supervisor_host::RealHost;

use crate::cli::Lint;
use fdwatch_core::plural::counted;
use fdwatch_events::wire::{self, Cause, Object, Related};
use fdwatch_render::{Format, json_line, lint as render};
use fdwatch_supervisor::{
    self,
    host::Host as _,
    lint::{Problem, lint},
    logrotate::{self, Rotations},
};
use fdwatch_tracker::message::warn;

/// Default configurations of logrotate. The first usually includes the second.
const LOGROTATE: [&str; 2] = ["/etc/logrotate.conf", "/etc/logrotate.d"];

pub(super) fn run(arguments: &Lint) -> Result<ExitCode> {
    let rotations = rotations(arguments)?;
    let format = arguments.output.format();
    let mut output = io::BufWriter::new(anstream::stdout());
    let (mut count, mut processes) = (0_usize, 0);
    for file in &arguments.files {
        let config = fdwatch_supervisor::read(file, &RealHost)?;
        let problems = lint(&config, &rotations, &RealHost);
        for found in &problems {
            let line = line(found);
            let text = match format {
                Format::Text => render::text(&line.body),
                Format::Json => json_line(&line)?,
            };
            output.write_all(text.as_bytes()).writing_output()?;
        }
        count += problems.len();
        processes += config.processes.len();
    }
    output.flush().writing_output()?;
    if count > 0 {
        return Ok(ExitCode::from(1));
    }
    if format == Format::Text {
        warn(&format!(
            "no problems in the log settings of {}",
            counted(processes, "process")
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Converts a problem to an object of the output.
fn line(problem: &Problem) -> Object<wire::Lint> {
    let related = problem.related.iter().map(|(spot, what)| Related {
        file: spot.file.to_string(),
        line: spot.line,
        what: what.clone(),
    });
    Object::new(wire::Lint {
        rule: problem.rule.name().into(),
        severity: problem.rule.severity().name().into(),
        cause: problem.rule.cause().map(Cause::from),
        file: problem.at.file.to_string(),
        line: problem.at.line,
        path: problem.path.clone(),
        message: problem.message.clone(),
        advice: problem.advice.clone(),
        related: related.collect(),
    })
}

/// Reads which files logrotate rotates.
fn rotations(arguments: &Lint) -> Result<Rotations> {
    let mut rotations = Rotations::default();
    if let Some(path) = &arguments.logrotate {
        logrotate::read(path, &RealHost, &mut rotations)
            .with_context(|| format!("cannot read {path}"))?;
        return Ok(rotations);
    }
    let exists = |path: &&str| RealHost.look(path).kind.is_some();
    // An unreadable default is not an error of the checked configuration.
    if let Some(path) = LOGROTATE.into_iter().find(exists)
        && let Err(error) = logrotate::read(path, &RealHost, &mut rotations)
    {
        warn(&format!("cannot read {path}: {error}"));
    }
    Ok(rotations)
}
