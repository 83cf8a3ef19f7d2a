//! `fdwatch history`: queries the agent's history. It reads only the database, so the agent does not have to
//! be running.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use globset::GlobSet;

use super::output::WritingOutput as _;
use crate::cli::History;
use fdwatch_agent::history::read::{Hourly, Occurrence, ReadError, Reader};
use fdwatch_core::diagnose::Severity;
use fdwatch_events::wire::Object;
use fdwatch_host::proc;
use fdwatch_render::{Format, history, json_line};
use fdwatch_tracker::message::warn;

/// Filter of the history's rows.
struct RowFilter {
    pids: Vec<u32>,
    comm: Option<GlobSet>,
    path: Option<GlobSet>,
    severity: Option<Severity>,
}

impl RowFilter {
    fn process(&self, pid: u32, comm: &[u8]) -> bool {
        (self.pids.is_empty() || self.pids.contains(&pid)) && matches(self.comm.as_ref(), comm)
    }

    fn occurrence(&self, occurrence: &Occurrence) -> bool {
        let path = occurrence.path.as_deref();
        self.process(occurrence.pid, &occurrence.comm)
            && (self.path.is_none() || path.is_some_and(|path| matches(self.path.as_ref(), path)))
            && (self.severity.is_none() || occurrence.severity >= self.severity)
    }
}

fn matches(globs: Option<&GlobSet>, bytes: &[u8]) -> bool {
    globs.is_none_or(|globs| globs.is_match(OsStr::from_bytes(bytes)))
}

pub(super) fn run(arguments: &History) -> Result<ExitCode> {
    let filter = RowFilter {
        pids: arguments.pid.clone(),
        comm: fdwatch_options::parse::globs(&arguments.comm).context("--comm")?,
        path: fdwatch_options::parse::globs(&arguments.path).context("--path")?,
        severity: arguments.severity,
    };
    let reader = Reader::open(&arguments.database)?;
    let now = proc::wall_time();
    let since = arguments.since.map_or(0, |age| {
        now.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
    });
    let format = arguments.output.format();
    let mut output = io::BufWriter::new(anstream::stdout());
    let shown = if arguments.processes {
        show(
            arguments.limit,
            |after: Option<&Hourly>, backwards| reader.hourly(since, after, backwards),
            |row| filter.process(row.pid, &row.comm),
            |row| {
                let line = Object::from(row);
                let text = match format {
                    Format::Text => history::hour(&line.body),
                    Format::Json => json_line(&line)?,
                };
                output.write_all(text.as_bytes())
            },
        )?
    } else {
        show(
            arguments.limit,
            |after: Option<&Occurrence>, backwards| {
                let after = after.map(|last| (last.since, last.id));
                reader.occurrences(since, after, backwards)
            },
            |row| filter.occurrence(row),
            |row| {
                let line = Object::from(row);
                let text = match format {
                    Format::Text => history::entry(&line.body, now),
                    Format::Json => json_line(&line)?,
                };
                output.write_all(text.as_bytes())
            },
        )?
    };
    output.flush().writing_output()?;
    if shown == 0 && format == Format::Text {
        warn("no matching entries in the history");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the matching rows, newest last, and returns their number. Reads page by page.
fn show<T>(
    limit: Option<usize>,
    mut page: impl FnMut(Option<&T>, bool) -> Result<Vec<T>, ReadError>,
    mut matches: impl FnMut(&T) -> bool,
    mut show: impl FnMut(&T) -> io::Result<()>,
) -> Result<usize> {
    let mut newest = VecDeque::new();
    let mut last = None;
    let mut count = 0;
    loop {
        let rows = page(last.as_ref(), limit.is_some())?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            if let Some(before) = last.take().filter(&mut matches) {
                take(&mut newest, &mut count, limit, before, &mut show)?;
            }
            last = Some(row);
        }
        if limit.is_some_and(|limit| newest.len() >= limit) {
            break;
        }
    }
    if let Some(last) = last.filter(matches) {
        take(&mut newest, &mut count, limit, last, &mut show)?;
    }
    for row in newest.iter().rev() {
        show(row).writing_output()?;
    }
    Ok(count)
}

/// Prints a row at once or, if the number of rows is limited, collects it, because rows then arrive newest first.
fn take<T>(
    newest: &mut VecDeque<T>,
    count: &mut usize,
    limit: Option<usize>,
    row: T,
    show: &mut impl FnMut(&T) -> io::Result<()>,
) -> Result<()> {
    match limit {
        Some(limit) if newest.len() < limit => newest.push_back(row),
        Some(_) => return Ok(()),
        None => show(&row).writing_output()?,
    }
    *count += 1;
    Ok(())
}
