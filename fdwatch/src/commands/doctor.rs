//! `fdwatch doctor`: checks what the kernel and the privileges support.

use std::{io::Write as _, process::ExitCode};

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use fdwatch_render::SCHEMA;
use fdwatch_tracker::checks::{Check, State, run_all};
use serde::Serialize;

use super::output::{EXIT_ERROR, WritingOutput as _};
use crate::cli::Doctor;

/// The JSON form.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    verdict: State,
    checks: &'a [Check],
}

pub(super) fn run(doctor: &Doctor) -> Result<ExitCode> {
    let checks = run_all();
    let verdict = checks.iter().map(|check| check.state).max();
    let verdict = verdict.unwrap_or(State::Ok);
    let mut output = anstream::stdout().lock();
    if doctor.output.json {
        let report = Report {
            schema: SCHEMA,
            kind: "doctor",
            verdict,
            checks: &checks,
        };
        writeln!(output, "{}", serde_json::to_string(&report)?).writing_output()?;
    } else {
        for check in &checks {
            let (word, style) = match check.state {
                State::Ok => ("ok", AnsiColor::Green.on_default()),
                State::Reduced => ("reduced", AnsiColor::Yellow.on_default()),
                State::Missing => ("missing", AnsiColor::Red.on_default().bold()),
            };
            let Check { name, detail, .. } = check;
            writeln!(output, "{style}{word:<8}{style:#} {name:<14} {detail}").writing_output()?;
        }
        let summary = match verdict {
            State::Ok => "everything works",
            State::Reduced => "works, with reduced functionality",
            State::Missing => "fdwatch cannot watch here",
        };
        let bold = Style::new().bold();
        writeln!(output, "{bold}{summary}{bold:#}").writing_output()?;
    }
    output.flush().writing_output()?;
    Ok(match verdict {
        State::Ok => ExitCode::SUCCESS,
        State::Reduced => ExitCode::from(1),
        State::Missing => ExitCode::from(EXIT_ERROR),
    })
}
