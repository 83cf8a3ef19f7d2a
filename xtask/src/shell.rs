//! Runs commands, each said before it is done.
//!
//! What xtask says, and what the commands print, goes to standard error: standard output belongs to
//! the program that `cargo xtask run` runs. What the commands are for is not known here.

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

use crate::waiting::is_terminal;

/// Runs commands, or only says them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shell {
    /// Say what would be done, and do nothing.
    pub(crate) dry_run: bool,
}

impl Shell {
    /// Runs `command` to its end; fails if it does.
    pub(crate) fn run(self, command: &mut Command) -> Result<()> {
        self.wait(command, None)
    }

    /// The same, but ends the command, and fails, after `limit`.
    pub(crate) fn run_within(self, limit: Duration, command: &mut Command) -> Result<()> {
        self.wait(command, Some(limit))
    }

    fn wait(self, command: &mut Command, limit: Option<Duration>) -> Result<()> {
        say(describe(command));
        if self.dry_run {
            return Ok(());
        }
        command.stdin(Stdio::null()).stdout(io::stderr());
        let program = command.get_program().display().to_string();
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
                // It may have ended just now; either way it is reaped below.
                let _ = child.kill();
                child.wait()?;
                bail!("{program} took longer than {} s", limit.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Runs `command` on xtask's own input and output.
pub(crate) fn run_in_front(command: &mut Command) -> Result<()> {
    say(describe(command));
    let program = command.get_program().display().to_string();
    let status = command
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    succeeded(&program, status)
}

/// Runs `command` to its end, and returns what it prints on standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    say(describe(command));
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    succeeded(&program, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

/// Tells the user what is going on.
pub(crate) fn say(message: impl AsRef<str>) {
    // What is shown in place there gives way.
    let clear = if is_terminal() { "\r\x1b[K" } else { "" };
    eprintln!("{clear}xtask: {}", message.as_ref());
}

/// A command for root, through sudo if need be; none if there is no way to be root.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Option<Command> {
    if is_root() {
        return Some(Command::new(program));
    }
    which("sudo").then(|| {
        let mut sudo = Command::new("sudo");
        sudo.arg(program);
        sudo
    })
}

/// Whether xtask's effective user is root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Whether `program` is on `PATH`.
pub(crate) fn which(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// The command as one would type it.
pub(crate) fn describe(command: &Command) -> String {
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

/// `word` as a shell reads it.
pub(crate) fn quote(word: &OsStr) -> String {
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
    fn commands_are_said_as_typed() {
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
    fn a_command_that_hangs_is_ended() {
        let shell = Shell { dry_run: false };
        let began = Instant::now();
        let limit = Duration::from_millis(100);
        assert!(
            shell
                .run_within(limit, Command::new("sleep").arg("60"))
                .is_err()
        );
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(
            shell
                .run_within(Duration::from_secs(30), &mut Command::new("true"))
                .is_ok()
        );
        assert!(shell.run(&mut Command::new("false")).is_err());
    }

    #[test]
    fn a_dry_run_runs_nothing() {
        assert!(
            Shell { dry_run: true }
                .run(&mut Command::new("false"))
                .is_ok()
        );
    }
}
