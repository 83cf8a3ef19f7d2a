//! `fdwatch lint`: what is wrong with configurations of supervisord.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use super::WritingOutput as _;
use fdwatch_host::supervisor_host::RealHost;

use crate::{cli::Lint, report::lint::problem};
use fdwatch_core::plural::counted;
use fdwatch_render::{Format, note};
use fdwatch_supervisor::{
    self,
    host::Host as _,
    lint::lint,
    logrotate::{self, Rotations},
};

/// What logrotate reads by itself; the first names the second, as a rule.
const LOGROTATE: [&str; 2] = ["/etc/logrotate.conf", "/etc/logrotate.d"];

pub(super) fn run(arguments: &Lint) -> Result<ExitCode> {
    let rotations = rotations(arguments)?;
    let format = arguments.output.format();
    let mut output = io::BufWriter::new(anstream::stdout());
    let (mut found, mut processes) = (0_usize, 0);
    for file in &arguments.files {
        let config = fdwatch_supervisor::read(file, &RealHost)?;
        let problems = lint(&config, &rotations, &RealHost);
        for one in &problems {
            problem(&mut output, format, one).writing_output()?;
        }
        found += problems.len();
        processes += config.processes.len();
    }
    output.flush().writing_output()?;
    if found > 0 {
        return Ok(ExitCode::from(1));
    }
    if format == Format::Text {
        note(&format!(
            "nothing found in the logs of {}",
            counted(processes, "process")
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn rotations(arguments: &Lint) -> Result<Rotations> {
    let mut rotations = Rotations::default();
    if let Some(path) = &arguments.logrotate {
        logrotate::read(path, &RealHost, &mut rotations)
            .with_context(|| format!("cannot read {path}"))?;
        return Ok(rotations);
    }
    let there = |path: &&str| RealHost.look(path).kind.is_some();
    // What logrotate itself is not given to read is not of this configuration.
    if let Some(path) = LOGROTATE.into_iter().find(there)
        && let Err(error) = logrotate::read(path, &RealHost, &mut rotations)
    {
        note(&format!("cannot read {path}: {error}"));
    }
    Ok(rotations)
}
