//! Debian packages, where there is apt. What they are for is not known here.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    shell::{Shell, as_root, describe, say, which},
    toolchain::output,
};

/// Whether this system has apt.
pub(crate) fn is_here() -> bool {
    which("apt-get") && which("apt-cache")
}

/// The version that `apt-get install` would install.
pub(crate) fn candidate(package: &str) -> Option<String> {
    let policy = output(
        Command::new("apt-cache")
            .env("LC_ALL", "C")
            .args(["policy", package]),
    );
    parse_candidate(&policy.ok()?)
}

/// Fetches the lists of packages.
pub(crate) fn update(shell: Shell) -> Result<()> {
    shell.run(&mut apt_get(&["update"])?)
}

/// Installs `packages`; fetches the lists first if they are too old to do it.
pub(crate) fn install(shell: Shell, packages: &[&str]) -> Result<()> {
    // --no-remove: where a package would oust one that the user has, it is theirs to decide.
    let mut arguments = vec!["install", "-y", "--no-install-recommends", "--no-remove"];
    arguments.extend(packages);
    if let Err(error) = shell.run(&mut apt_get(&arguments)?) {
        say(format!("{error}; trying once more, with fresh lists"));
        update(shell)?;
        shell.run(&mut apt_get(&arguments)?)?;
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<Command> {
    // Through env, for sudo drops the caller's environment.
    let env = ["DEBIAN_FRONTEND=noninteractive", "apt-get"];
    let complete = |mut command: Command| {
        command.args(env).args(arguments);
        command
    };
    as_root("env").map(complete).with_context(|| {
        let command = describe(&complete(Command::new("env")));
        format!("this needs root, and there is no sudo; as root, run: {command}")
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
    fn candidates() {
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
