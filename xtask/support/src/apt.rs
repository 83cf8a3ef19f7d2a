//! Debian packages, on systems with apt.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell::{Shell, as_root, describe, info, output, which};

/// Returns whether this system has apt.
#[must_use]
pub fn is_available() -> bool {
    which("apt-get") && which("apt-cache")
}

/// Returns the version that `apt-get install` would install.
#[must_use]
pub fn candidate(package: &str) -> Option<String> {
    let policy = output(
        Command::new("apt-cache")
            .env("LC_ALL", "C")
            .args(["policy", package]),
    );
    parse_candidate(&policy.ok()?)
}

/// Updates the package lists.
///
/// # Errors
///
/// If there is no way to become root, or apt fails.
pub fn update(shell: Shell) -> Result<()> {
    shell.run(&mut apt_get(&["update"])?)
}

/// Installs `packages`; if that fails, updates the package lists and retries.
///
/// # Errors
///
/// If there is no way to become root, or apt fails twice.
pub fn install(shell: Shell, packages: &[&str]) -> Result<()> {
    // --no-remove: conflicts with installed packages are for the user to resolve.
    let mut arguments = vec!["install", "-y", "--no-install-recommends", "--no-remove"];
    arguments.extend(packages);
    if let Err(error) = shell.run(&mut apt_get(&arguments)?) {
        info(format!("{error}; updating the package lists and retrying"));
        update(shell)?;
        shell.run(&mut apt_get(&arguments)?)?;
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<Command> {
    // Through env, because sudo drops the caller's environment.
    let env = ["DEBIAN_FRONTEND=noninteractive", "apt-get"];
    let complete = |mut command: Command| {
        command.args(env).args(arguments);
        command
    };
    as_root("env").map(complete).with_context(|| {
        let command = describe(&complete(Command::new("env")));
        format!("no root privileges and no sudo; run as root: {command}")
    })
}

fn parse_candidate(policy: &str) -> Option<String> {
    let candidate = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (candidate != "(none)").then(|| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_candidate;

    #[test]
    fn candidate_is_parsed() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n";
        assert_eq!(
            parse_candidate(policy).as_deref(),
            Some("1.96.0+dfsg1-1~deb12u2")
        );
        assert_eq!(
            parse_candidate("x:\n  Installed: (none)\n  Candidate: (none)\n"),
            None
        );
        assert_eq!(parse_candidate(""), None);
    }
}
