//! `fdwatch doctor`: checks what the kernel and the privileges support.

use std::{io::Write as _, process::ExitCode};

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use fdwatch_events::wire::{self, Object};
use fdwatch_render::json_line;
use fdwatch_tracker::checks::{Check, State, run_all};

use super::output::{EXIT_ERROR, WritingOutput as _};
use crate::cli::Doctor;

pub(super) fn run(doctor: &Doctor) -> Result<ExitCode> {
    let checks = run_all();
    // Whether an unknown state matters shows in the checks that load programs.
    let states = checks.iter().map(|check| check.state);
    let known = states.filter(|&state| state != State::Unknown);
    let verdict = known.max().unwrap_or(State::Ok);
    let mut output = anstream::stdout().lock();
    if doctor.output.json {
        let checks = checks.into_iter().map(|check| wire::Check {
            name: check.name.into(),
            state: check.state.name().into(),
            detail: check.detail,
        });
        let line = json_line(&Object::new(wire::Doctor {
            verdict: verdict.name().into(),
            checks: checks.collect(),
        }))?;
        output.write_all(line.as_bytes()).writing_output()?;
    } else {
        for check in &checks {
            let style = match check.state {
                State::Ok => AnsiColor::Green.on_default(),
                State::Unknown | State::Reduced => AnsiColor::Yellow.on_default(),
                State::Missing => AnsiColor::Red.on_default().bold(),
            };
            let word = check.state.name();
            let Check { name, detail, .. } = check;
            writeln!(output, "{style}{word:<8}{style:#} {name:<14} {detail}").writing_output()?;
        }
        let summary = match verdict {
            State::Ok | State::Unknown => "everything works",
            State::Reduced => "works, with reduced functionality",
            State::Missing => "fdwatch cannot watch here",
        };
        let bold = Style::new().bold();
        writeln!(output, "{bold}{summary}{bold:#}").writing_output()?;
    }
    output.flush().writing_output()?;
    Ok(match verdict {
        State::Ok | State::Unknown => ExitCode::SUCCESS,
        State::Reduced => ExitCode::from(1),
        State::Missing => ExitCode::from(EXIT_ERROR),
    })
}
