//! `cargo xtask lint`: what a change must pass before its tests are worth running.

use anyhow::Result;

use crate::{deny, names, setup, shell::run_in_front, tasks::cargo};

/// Stops at the first check that fails.
pub(crate) fn lint() -> Result<()> {
    // The build script of fdwatch builds the BPF programs for clippy and rustdoc too.
    setup::setup_quietly()?;
    let userspace = ["--workspace", "--exclude", "fdwatch-ebpf"];

    run_in_front(cargo().args(["fmt", "--all", "--check"]))?;
    run_in_front(cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))?;
    names::check()?;
    deny::check()?;
    run_in_front(cargo().arg("clippy").args(userspace).args([
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    // The BPF toolchain need not have a clippy, and clippy's own needs `core` for the BPF target.
    // So the BPF crate is checked as if it were for the host, where a binary without std must
    // not unwind.
    run_in_front(cargo().env("CARGO_PROFILE_DEV_PANIC", "abort").args([
        "clippy",
        "--package",
        "fdwatch-ebpf",
        "--",
        "-D",
        "warnings",
    ]))?;
    run_in_front(
        cargo()
            .env("RUSTDOCFLAGS", "-D warnings")
            .arg("doc")
            .args(userspace)
            .args(["--no-deps", "--document-private-items"]),
    )
}
