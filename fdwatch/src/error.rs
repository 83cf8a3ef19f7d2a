//! Printing of errors: `error: what failed, on what: why`, then `help: what to do` on lines of their own.
//!
//! An error carries its help in its message, after [`HELP`]; errors of the probe have a method for it.

use std::{fmt::Write as _, io::Write as _};

use anstyle::{AnsiColor, Style};
use fdwatch_probe::ProbeError;

/// Separates a message from its help, as in `no such process: 12\nhelp: run ...`.
pub const HELP: &str = "\nhelp: ";

/// Prints an error and its causes on standard error.
pub fn print(error: &anyhow::Error) {
    print_text(&text(error));
}

/// Prints an error of the command line.
pub fn print_usage(error: &clap::Error) {
    print_text(&usage_text(&error.render().to_string()));
}

/// Prints a message and its help on standard error. If standard error is closed, only the exit code
/// reports the failure.
pub fn print_text(text: &str) {
    let mut styled = paint("error: ", AnsiColor::Red.on_default().bold());
    let help = paint("help: ", AnsiColor::Cyan.on_default().bold());
    for (number, line) in text.lines().enumerate() {
        if number > 0 {
            styled.push('\n');
        }
        match line.strip_prefix("help: ") {
            Some(line) => styled.extend([&help, line]),
            None => styled.push_str(line),
        }
    }
    let _ = writeln!(anstream::stderr().lock(), "{styled}");
}

fn paint(word: &str, style: Style) -> String {
    format!("{style}{word}{style:#}")
}

/// Joins the messages of the causes with colons, and appends the help of each.
fn text(error: &anyhow::Error) -> String {
    let (mut text, mut helps) = (String::new(), String::new());
    for cause in error.chain() {
        let message = cause.to_string();
        let mut parts = message.split(HELP);
        let reason = parts.next().unwrap_or_default();
        // Skips a cause that the message before it contains.
        if !text.ends_with(reason) {
            let colon = if text.is_empty() { "" } else { ": " };
            let _ = write!(text, "{colon}{reason}");
        }
        let probe = cause.downcast_ref::<ProbeError>();
        for help in parts.chain(probe.and_then(ProbeError::help)) {
            if !helps.contains(help) {
                let _ = write!(helps, "{HELP}{help}");
            }
        }
    }
    text + &helps
}

/// Converts clap's message, in which tips and the reference to `--help` are paragraphs, to help lines.
fn usage_text(text: &str) -> String {
    let text = text.trim_end();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.replace("\n\n  tip: ", HELP)
        .replace("\n  tip: ", HELP)
        .replace(
            "\n\nFor more information, try '--help'.",
            "\nhelp: see `--help` for all options",
        )
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn help_follows_the_causes() {
        let error = Err::<(), _>(anyhow!("permission denied\nhelp: run as root"))
            .context("cannot attach to sys_enter_close")
            .unwrap_err();
        assert_eq!(
            text(&error),
            "cannot attach to sys_enter_close: permission denied\nhelp: run as root"
        );
    }

    #[test]
    fn usage_error_has_help_lines() {
        let error = Cli::try_parse_from(["fdwatch", "scan", "--jsn"]).unwrap_err();
        let text = usage_text(&error.render().to_string());
        assert!(
            text.starts_with("unexpected argument '--jsn' found\nhelp: a similar argument"),
            "{text}"
        );
        assert!(!text.contains("tip:"), "{text}");
        assert!(
            text.ends_with("\nhelp: see `--help` for all options"),
            "{text}"
        );
    }
}
