//! Builds the BPF programs for fdwatch's build script.
//!
//! Runs cargo within cargo, because the programs need their own target, and usually their own toolchain. All
//! diagnostics are passed on: as warnings of the build script if it succeeds, and as its output, which cargo shows, if
//! it fails.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{cargo::WORKSPACE, toolchain, toolchain::Toolchain};

/// The package with the programs, and the name of the object file.
const PACKAGE: &str = "fdwatch-ebpf";

/// Its profile in the workspace's `Cargo.toml`.
const PROFILE: &str = "bpf";

/// Builds the programs and copies the object file to `OUT_DIR/fdwatch-ebpf`.
///
/// # Errors
///
/// If there is no toolchain for it, or the programs do not build.
pub fn build() -> Result<()> {
    for variable in [toolchain::TOOLCHAIN_VARIABLE, "PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let workspace = Path::new(WORKSPACE);
    for source in ["Cargo.lock", "fdwatch-common", PACKAGE] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let directory = target_directory(&out)?;
    let mut build = command(&toolchain::find()?, target)?;
    let output = build
        .arg("--target-dir")
        .arg(&directory)
        .current_dir(workspace)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", build.get_program().display()))?;
    let diagnostics = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprint!("{diagnostics}");
        bail!(
            "cannot build the BPF programs: {build:?}: {}",
            output.status
        );
    }
    for line in diagnostics.lines() {
        println!("cargo::warning={line}");
    }
    let object = directory.join(target).join(PROFILE).join(PACKAGE);
    fs::copy(&object, out.join(PACKAGE))
        .with_context(|| format!("cannot copy {}", object.display()))?;
    Ok(())
}

/// Returns the `cargo build` command for the package, with that toolchain.
fn command(toolchain: &Toolchain, target: &str) -> Result<Command> {
    let mut build = match &toolchain.compiler.name {
        Some(name) => {
            let mut rustup = Command::new("rustup");
            rustup.args(["run", name, "cargo"]);
            rustup
        }
        None => Command::new("cargo"),
    };
    build.args(["build", "--quiet", "--package", PACKAGE, "--bins"]);
    build.args(["--profile", PROFILE, "--target", target]);
    build.args(["-Z", "build-std=core"]);
    if toolchain.compiler.needs_bootstrap {
        build.env("RUSTC_BOOTSTRAP", "1");
    }
    let linker = target.to_uppercase().replace('-', "_");
    build.env(
        format!("CARGO_TARGET_{linker}_LINKER"),
        &toolchain.linker.path,
    );
    // aya's structures differ by the architecture whose kernel loads the programs.
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    let flags = [
        &format!("--cfg=bpf_target_arch=\"{architecture}\""),
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
    ];
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // Set by the outer cargo, for its own toolchain and package.
    for name in ["RUSTC", "RUSTC_WORKSPACE_WRAPPER", "RUSTUP_TOOLCHAIN"] {
        build.env_remove(name);
    }
    Ok(build)
}

/// Returns a target directory that all profiles share, as the programs do not depend on fdwatch's profile.
fn target_directory(out: &Path) -> Result<PathBuf> {
    // cargo marks the root of a target directory, which OUT_DIR is in.
    let mut roots = out.ancestors();
    let root = roots.find(|root| root.join("CACHEDIR.TAG").is_file());
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    Ok(root.unwrap_or(out).join("bpf").join(architecture))
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("{name} is not set: build scripts are run by cargo"))
}
