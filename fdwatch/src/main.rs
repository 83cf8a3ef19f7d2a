//! The command `fdwatch`: see the library. Nothing is done here but to call it, and to tell errors.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use fdwatch::{
    cli::Cli,
    commands::{self, EXIT_ERROR},
    probe::ProbeError,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version were asked for.
        Err(message) if !message.use_stderr() => {
            return match message.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&format!(
                    "error: cannot write to standard output: {error}\n"
                )),
            };
        }
        Err(error) => return fail(&error.render().ansi().to_string()),
    };
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            let mut causes = error.chain();
            let help = causes.find_map(|cause| cause.downcast_ref::<ProbeError>()?.help());
            let help = help.map_or_else(String::new, |help| format!("help: {help}\n"));
            fail(&format!("error: {error:#}\n{help}"))
        }
    }
}

/// Says what is wrong. Where there is no one to tell, the exit code does.
fn fail(message: &str) -> ExitCode {
    let _ = write!(anstream::stderr().lock(), "fdwatch: {message}");
    ExitCode::from(EXIT_ERROR)
}
