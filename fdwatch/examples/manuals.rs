//! Generates manual pages, and completions for bash, zsh and fish, from the definition of the command line; run by
//! `cargo xtask manuals`.
//!
//! It is an example, so that the generators are not part of the binary. Its output is the same on every machine.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use fdwatch::cli::Cli;
use jiff::Timestamp;

/// The manual's name, in the header of each page.
const MANUAL: &str = "fdwatch manual";

/// The end of each page of a subcommand.
const SEE_ALSO: &[u8] = b".SH SEE ALSO\n\\fBfdwatch\\fR(1)\n";

/// The shells to generate completions for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

fn main() -> io::Result<()> {
    let usage = || io::Error::other("usage: manuals DIR");
    let dir = PathBuf::from(env::args_os().nth(1).ok_or_else(usage)?);
    fs::create_dir_all(&dir)?;
    let command = without_machine(Cli::command());
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut command.clone(), "fdwatch", &dir)?;
    }
    let mut documented = command.disable_help_subcommand(true);
    documented.build();
    pages(&documented, &dir)
}

/// Writes a page for `command` and one for each of its subcommands.
fn pages(command: &Command, dir: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        pages(below, dir)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let name = command.get_display_name().unwrap_or(command.get_name());
    let page = Man::new(command.clone())
        .title(name.to_uppercase())
        .date(date()?)
        .source(format!("fdwatch {version}"))
        .manual(MANUAL);
    let mut roff = Vec::new();
    page.render(&mut roff)?;
    let mut text = with_literal_examples(&String::from_utf8_lossy(&roff)).into_bytes();
    if name != "fdwatch" {
        text.extend_from_slice(SEE_ALSO);
    }
    fs::write(dir.join(page.get_filename()), text)
}

/// Marks the end of a command's help, its examples and notes, as literal text: filled and justified, it would lose
/// its columns.
fn with_literal_examples(page: &str) -> String {
    const HEAD: &str = ".SH EXTRA\n";
    let Some((before, after)) = page.split_once(HEAD) else {
        return page.to_owned();
    };
    let end = after.find("\n.SH ").map_or(after.len(), |at| at + 1);
    let (shown, rest) = after.split_at(end);
    format!(
        "{before}.SH EXAMPLES AND NOTES\n.nf\n{}\n.fi\n{rest}",
        shown.trim_end()
    )
}

/// The day of `SOURCE_DATE_EPOCH`, or today, in UTC.
fn date() -> io::Result<String> {
    let time = match env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds
            .parse()
            .map_err(io::Error::other)
            .and_then(|seconds| Timestamp::from_second(seconds).map_err(io::Error::other))?,
        Err(_) => Timestamp::now(),
    };
    Ok(time.strftime("%Y-%m-%d").to_string())
}

/// Hides default values that depend on the machine; their help describes them.
fn without_machine(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let depends = help(&argument).contains("for each processor");
        argument.hide_default_value(depends)
    });
    command.mut_subcommands(without_machine)
}

fn help(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    help.map(ToString::to_string).unwrap_or_default()
}
