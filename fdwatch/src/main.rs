//! The `fdwatch` command.

use std::process::ExitCode;

use clap::Parser as _;
use fdwatch::{
    cli::Cli,
    commands::{self, EXIT_ERROR, StdoutClosed, WritingOutput as _},
    error,
};

fn main() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(message) if message.use_stderr() => {
            error::print_usage(&message);
            return ExitCode::from(EXIT_ERROR);
        }
        // The text of --help or --version.
        Err(message) => message.print().writing_output().map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) if error.is::<StdoutClosed>() => ExitCode::SUCCESS,
        Err(error) => {
            error::print(&error);
            ExitCode::from(EXIT_ERROR)
        }
    }
}
