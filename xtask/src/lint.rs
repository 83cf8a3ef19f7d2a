//! `cargo xtask lint`: the checks that a change must pass before its tests are worth running.

use anyhow::Result;
use xtask_support::{
    cargo::{cargo, run_cargo},
    shell::run_in_front,
};

use crate::{cycles, deny, layers, names, setup, shear};

/// Stops at the first check that fails.
pub(crate) fn lint() -> Result<()> {
    // clippy and rustdoc run the build script that builds the BPF programs.
    setup::setup_quietly()?;
    let userspace = ["--workspace", "--exclude", "fdwatch-ebpf"];

    run_cargo(&["fmt", "--all", "--check"])?;
    run_cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])?;
    names::check()?;
    layers::check()?;
    cycles::check()?;
    deny::check()?;
    shear::check()?;
    run_in_front(cargo().arg("clippy").args(userspace).args([
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    // The BPF toolchain may have no clippy, and clippy's own needs `core` for the BPF target. So the BPF
    // crate is checked as if for the host, where a binary without std must not unwind.
    run_in_front(cargo().env("CARGO_PROFILE_DEV_PANIC", "abort").args([
        "clippy",
        "--package",
        "fdwatch-ebpf",
        "--",
        "-D",
        "warnings",
    ]))?;
    // fdwatch without its optional parts.
    run_cargo(&["check", "--package", "fdwatch", "--no-default-features"])?;
    run_in_front(
        cargo()
            .env("RUSTDOCFLAGS", "-D warnings")
            .arg("doc")
            .args(userspace)
            .args(["--no-deps", "--document-private-items"]),
    )
}
