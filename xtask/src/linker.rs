//! Builds `bpf-linker` with an LLVM that reads the bitcode of the chosen rustc.
//!
//! bpf-linker needs a shared libLLVM to build and to run. Most toolchains ship the one that their rustc uses,
//! which always matches and needs no installation. If LLVM is linked into rustc, an LLVM development package
//! is used.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, bail};
use xtask_support::{
    apt,
    cargo::cargo,
    shell::Shell,
    toolchain::{self, Compiler},
};

/// The release to build: known to work with the aya in Cargo.lock.
const RELEASE: &str = "0.13.0";

/// The major versions of LLVM that it supports; it has a cargo feature for each.
const MAJORS: std::ops::RangeInclusive<u32> = 21..=23;

/// Builds a bpf-linker for `compiler` and installs it in cargo's home directory.
pub(crate) fn install(shell: Shell, compiler: &Compiler) -> Result<()> {
    let written = compiler.llvm.unwrap_or(*MAJORS.start());
    let home = toolchain::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let (major, prefix) = llvm(shell, compiler, written, &home)?;
    // --force: the same release may be installed, but linked with another LLVM, or with one that was removed.
    shell
        .run(
            cargo()
                .env("LLVM_PREFIX", prefix)
                // Its own profile has full debug information, and most of its work is LLVM's: this builds in
                // half the time and links as fast.
                .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
                .args([
                    "install",
                    "bpf-linker",
                    "--locked",
                    "--force",
                    "--version",
                    RELEASE,
                ])
                .args([
                    "--no-default-features",
                    "--features",
                    &format!("llvm-{major}"),
                ])
                .arg("--root")
                .arg(home),
        )
        .with_context(|| {
            format!(
                "cannot build bpf-linker; as an alternative, put a release from \
                 https://github.com/aya-rs/bpf-linker/releases with LLVM {written} or newer on PATH"
            )
        })
}

/// Returns whether a linker for `compiler` can be built; assumes so if its LLVM is unknown.
pub(crate) fn supports(compiler: &Compiler) -> bool {
    compiler.llvm.is_none_or(|written| written <= *MAJORS.end())
}

/// Returns the LLVM to link with: its major version and its prefix, whose `lib` has the library.
fn llvm(shell: Shell, compiler: &Compiler, written: u32, home: &Path) -> Result<(u32, PathBuf)> {
    if let Some(library) = own_library(compiler, written).filter(|_| MAJORS.contains(&written)) {
        let prefix = home.join("bpf-linker-llvm");
        link_prefix(shell, &library, &prefix)?;
        return Ok((written, prefix));
    }
    let fitting = || MAJORS.filter(|major| *major >= written);
    let system = |major: u32| PathBuf::from(format!("/usr/lib/llvm-{major}"));
    if let Some(major) = fitting().find(|major| system(*major).join("lib/libLLVM.so").exists()) {
        return Ok((major, system(major)));
    }
    let package = |major: u32| format!("llvm-{major}-dev");
    let packaged =
        fitting().find(|major| apt::is_available() && apt::candidate(&package(*major)).is_some());
    if let Some(major) = packaged {
        let polly = format!("libpolly-{major}-dev");
        apt::install(
            shell,
            &[&package(major), &polly, "libzstd-dev", "zlib1g-dev"],
        )?;
        return Ok((major, system(major)));
    }
    bail!(
        "no shared LLVM {written} or newer found for {compiler}; bpf-linker {RELEASE} supports LLVM {} to {}",
        MAJORS.start(),
        MAJORS.end()
    )
}

/// Returns the libLLVM that the compiler itself uses.
fn own_library(compiler: &Compiler, written: u32) -> Option<PathBuf> {
    let root = toolchain::sysroot(toolchain::rustc(compiler.name.as_deref())).ok()?;
    library_directories(&root)
        .iter()
        .find_map(|directory| library_in(directory, written))
}

/// Returns the library directories of rustup (`lib`), Debian (`lib/x86_64-linux-gnu`) and Fedora (`lib64`).
fn library_directories(root: &Path) -> Vec<PathBuf> {
    let lib = root.join("lib");
    let mut directories = vec![lib.clone(), root.join("lib64")];
    for entry in fs::read_dir(lib).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains("-linux-gnu") {
            directories.push(entry.path());
        }
    }
    directories
}

fn library_in(directory: &Path, major: u32) -> Option<PathBuf> {
    let prefix = format!("libLLVM.so.{major}.");
    let mut entries = fs::read_dir(directory).ok()?.flatten();
    entries
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
}

/// Links `library` into `prefix` as an installed LLVM. The links must stay: bpf-linker loads the library
/// through them.
fn link_prefix(shell: Shell, library: &Path, prefix: &Path) -> Result<()> {
    let lib = prefix.join("lib");
    let name = library
        .file_name()
        .ok_or_else(|| anyhow!("{} is not a file", library.display()))?;
    shell.run(Command::new("mkdir").arg("-p").arg(&lib))?;
    // The name for linking, and the name for loading.
    for link in [lib.join("libLLVM.so"), lib.join(name)] {
        shell.run(Command::new("ln").arg("-sf").arg(library).arg(link))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use xtask_support::temp::TempDir;

    use super::*;

    #[test]
    fn library_is_found_by_llvm_major() {
        let root = TempDir::new("xtask-linker-").unwrap();
        let lib = root.path().join("lib/x86_64-linux-gnu");
        fs::create_dir_all(&lib).unwrap();
        // The second is a linker script that rustup's toolchains ship as well.
        for name in [
            "libLLVM.so.22.1-rust-1.95.0-stable",
            "libLLVM-22-rust-1.95.0-stable.so",
        ] {
            fs::write(lib.join(name), "").unwrap();
        }
        let find = |major| {
            library_directories(root.path())
                .iter()
                .find_map(|directory| library_in(directory, major))
        };
        assert_eq!(
            find(22),
            Some(lib.join("libLLVM.so.22.1-rust-1.95.0-stable"))
        );
        assert_eq!(find(21), None);
    }
}
