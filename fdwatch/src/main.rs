//! The command `fdwatch`: see the library.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use fdwatch::{
    cli::Cli,
    commands::{self, EXIT_ERROR},
};

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Where there is no one to tell, the exit code does.
            let _ = writeln!(anstream::stderr().lock(), "fdwatch: error: {error:#}");
            ExitCode::from(EXIT_ERROR)
        }
    }
}
