//! Runs commands and prints each before it runs.
//!
//! Messages, and the output of most commands, go to standard error: standard output belongs to the program
//! that `cargo xtask run` starts.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::progress::is_terminal;

/// A [`Shell`] that runs commands.
pub const SHELL: Shell = Shell { dry_run: false };

/// Runs commands, or only prints them.
#[derive(Debug, Clone, Copy)]
pub struct Shell {
    /// Print commands without running them.
    pub dry_run: bool,
}

impl Shell {
    /// Runs `command` to completion.
    ///
    /// # Errors
    ///
    /// If it cannot be started or exits with a failure.
    pub fn run(self, command: &mut Command) -> Result<()> {
        self.wait(command, None)
    }

    /// Runs `command` to completion; kills it after `limit`.
    ///
    /// # Errors
    ///
    /// If it cannot be started, exits with a failure or exceeds the limit.
    pub fn run_within(self, limit: Duration, command: &mut Command) -> Result<()> {
        self.wait(command, Some(limit))
    }

    fn wait(self, command: &mut Command, limit: Option<Duration>) -> Result<()> {
        info(describe(command));
        if self.dry_run {
            return Ok(());
        }
        command.stdin(Stdio::null()).stdout(io::stderr());
        let program = program(command);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let Some(limit) = limit else {
            return succeeded(&program, child.wait()?);
        };
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = child.try_wait()? {
                return succeeded(&program, status);
            }
            if Instant::now() >= deadline {
                // It may have exited just now; it is reaped either way.
                let _ = child.kill();
                child.wait()?;
                bail!("{program} timed out after {} s", limit.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Runs `command` to completion with the caller's standard input and output.
///
/// # Errors
///
/// If it cannot be started or exits with a failure.
pub fn run_in_front(command: &mut Command) -> Result<()> {
    info(describe(command));
    let program = program(command);
    let status = command
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    succeeded(&program, status)
}

/// Runs `command` to completion and returns its standard output.
///
/// # Errors
///
/// If it cannot be started or exits with a failure.
pub fn capture(command: &mut Command) -> Result<String> {
    info(describe(command));
    let program = program(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    succeeded(&program, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` without printing it and returns its standard output.
///
/// # Errors
///
/// The first line of its standard error, if it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| program(command))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}", stderr.lines().next().unwrap_or("failed").to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn program(command: &Command) -> String {
    command.get_program().display().to_string()
}

fn succeeded(program: &str, status: ExitStatus) -> Result<()> {
    if !status.success() {
        let name = Path::new(program)
            .file_name()
            .unwrap_or(OsStr::new(program));
        bail!("{} failed: {status}", name.display());
    }
    Ok(())
}

/// Prints a message to standard error.
pub fn info(message: impl AsRef<str>) {
    // Clears a progress line.
    let clear = if is_terminal() { "\r\x1b[K" } else { "" };
    eprintln!("{clear}xtask: {}", message.as_ref());
}

/// Returns a command that runs as root, through sudo if necessary; `None` if there is no way to become root.
pub fn as_root(program: impl AsRef<OsStr>) -> Option<Command> {
    if is_root() {
        return Some(Command::new(program));
    }
    which("sudo").then(|| {
        let mut sudo = Command::new("sudo");
        sudo.arg(program);
        sudo
    })
}

/// Returns whether the effective user is root.
#[must_use]
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Returns whether `program` is on `PATH`.
#[must_use]
pub fn which(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Returns the command as typed into a shell.
#[must_use]
pub fn describe(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.display(), quote(value)));
        }
    }
    words.push(quote(command.get_program()));
    words.extend(command.get_args().map(quote));
    words.join(" ")
}

/// Quotes `word` for a shell.
#[must_use]
pub fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_quoted_for_a_shell() {
        let mut command = Command::new("cargo");
        command
            .env("RUSTDOCFLAGS", "-D warnings")
            .args(["doc", "it's", ""]);
        assert_eq!(
            describe(&command),
            r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s' ''"
        );
    }

    #[test]
    fn command_is_killed_after_its_limit() {
        let began = Instant::now();
        let limit = Duration::from_millis(100);
        assert!(
            SHELL
                .run_within(limit, Command::new("sleep").arg("60"))
                .is_err()
        );
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(
            SHELL
                .run_within(Duration::from_secs(30), &mut Command::new("true"))
                .is_ok()
        );
        assert!(SHELL.run(&mut Command::new("false")).is_err());
    }

    #[test]
    fn dry_run_runs_nothing() {
        assert!(
            Shell { dry_run: true }
                .run(&mut Command::new("false"))
                .is_ok()
        );
    }
}
