//! `fdwatch fds PID`: lists a process's descriptors, with their origins if the snapshot shows these.

use std::process::ExitCode;

use anyhow::Result;

#[cfg(feature = "agent")]
use super::remote::Remote;
use super::{
    output::{WritingOutput as _, reporter},
    pid,
};
use crate::cli::Fds;
use fdwatch_host::investigate::{self, SupervisordConfigs, pipe_ends, table_report};
use fdwatch_tracker::snapshot;

pub(super) fn run(fds: &Fds) -> Result<ExitCode> {
    pid::check(fds.pid)?;
    #[cfg(feature = "agent")]
    if !fds.source.proc
        && let Some(agent) = Remote::find(&fds.agent)?
    {
        return agent.fds(fds);
    }
    let snapshot = snapshot::take(fds.source.proc, true)?;
    snapshot.check_table(fds.pid)?;
    let model = &snapshot.engine.model;
    let table = model.table_of(fds.pid);
    let process = investigate::process(fds.pid, model);
    let parent = model.table_of(process.ppid);
    let parent = parent.filter(|parent| table.is_some_and(|table| parent.id() != table.id()));
    let mut supervisords = SupervisordConfigs::default();
    let report = table_report(process, table, parent, &mut supervisords, |pipe| {
        pipe_ends(model, pipe)
    });
    let mut reporter = reporter(fds.output.format());
    reporter
        .report(&report, model.now())
        .and_then(|()| reporter.flush())
        .writing_output()?;
    Ok(ExitCode::SUCCESS)
}
