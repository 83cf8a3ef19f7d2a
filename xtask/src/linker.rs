//! Builds `bpf-linker` on an LLVM that reads what the chosen rustc writes.
//!
//! bpf-linker needs a shared libLLVM at its own build and ever after. Every toolchain of rustup
//! and of the distributions brings the one its rustc runs on: the best match there can be, and
//! nothing to install. Where rustc has LLVM built in, a development package of LLVM is next.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    apt,
    shell::Shell,
    tasks::cargo,
    toolchain::{self, Compiler},
};

/// The release that is built: one that is known to work with the pinned aya.
const RELEASE: &str = "0.13.0";

/// The LLVM majors it builds on; a cargo feature for each.
const MAJORS: std::ops::RangeInclusive<u32> = 21..=23;

/// Builds and installs a bpf-linker for `compiler` among cargo's programs.
pub(crate) fn install(shell: Shell, compiler: &Compiler) -> Result<()> {
    let written = compiler.llvm.unwrap_or(*MAJORS.start());
    let home = toolchain::cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let (major, prefix) = llvm(shell, compiler, written, &home)?;
    // --force: a linker of the same release may be there, on another LLVM or on one that is gone.
    shell
        .run(
            cargo()
                .env("LLVM_PREFIX", prefix)
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
                "bpf-linker could not be built; there are built ones at \
                 https://github.com/aya-rs/bpf-linker/releases: one on LLVM {written} or newer, \
                 anywhere on PATH, will do"
            )
        })
}

/// Whether a linker can be built for `compiler`, as far as can be told beforehand.
pub(crate) fn is_within_reach(compiler: &Compiler) -> bool {
    compiler.llvm.is_none_or(|written| written <= *MAJORS.end())
}

/// The LLVM to build on: its major version, and the directory that has it in its `lib`.
fn llvm(shell: Shell, compiler: &Compiler, written: u32, home: &Path) -> Result<(u32, PathBuf)> {
    if let Some(library) = own_library(compiler, written).filter(|_| MAJORS.contains(&written)) {
        let prefix = home.join("bpf-linker-llvm");
        give_prefix(shell, &library, &prefix)?;
        return Ok((written, prefix));
    }
    let fitting = || MAJORS.filter(|major| *major >= written);
    let system = |major: u32| PathBuf::from(format!("/usr/lib/llvm-{major}"));
    if let Some(major) = fitting().find(|major| system(*major).join("lib/libLLVM.so").exists()) {
        return Ok((major, system(major)));
    }
    let package = |major: u32| format!("llvm-{major}-dev");
    let packaged =
        fitting().find(|major| apt::is_here() && apt::candidate(&package(*major)).is_some());
    if let Some(major) = packaged {
        let polly = format!("libpolly-{major}-dev");
        apt::install(
            shell,
            &[&package(major), &polly, "libzstd-dev", "zlib1g-dev"],
        )?;
        return Ok((major, system(major)));
    }
    bail!(
        "{compiler} writes for LLVM {written}; bpf-linker {RELEASE} builds on LLVM {} to {}, and \
         no such shared library is at hand",
        MAJORS.start(),
        MAJORS.end()
    )
}

/// The libLLVM that the compiler itself runs on.
fn own_library(compiler: &Compiler, written: u32) -> Option<PathBuf> {
    let root = toolchain::sysroot(toolchain::rustc(compiler.name.as_deref())).ok()?;
    library_directories(&root)
        .iter()
        .find_map(|directory| library_in(directory, written))
}

/// Where rustup, Debian (`lib/x86_64-linux-gnu`) and Fedora (`lib64`) put shared libraries.
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

/// Makes `library` look like an installed LLVM. The links stay: bpf-linker is built to look for
/// its library in here.
fn give_prefix(shell: Shell, library: &Path, prefix: &Path) -> Result<()> {
    let lib = prefix.join("lib");
    let name = library
        .file_name()
        .ok_or_else(|| anyhow!("{} is no file", library.display()))?;
    shell.run(Command::new("mkdir").arg("-p").arg(&lib))?;
    // By the name it is linked by, and by the name it is loaded by.
    for link in [lib.join("libLLVM.so"), lib.join(name)] {
        shell.run(Command::new("ln").arg("-sf").arg(library).arg(link))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_of_the_right_major_is_found() {
        let root = std::env::temp_dir().join(format!("xtask-linker-{}", std::process::id()));
        let lib = root.join("lib/x86_64-linux-gnu");
        fs::create_dir_all(&lib).unwrap();
        // The second is the linker script that rustup's toolchains carry as well.
        for name in [
            "libLLVM.so.22.1-rust-1.95.0-stable",
            "libLLVM-22-rust-1.95.0-stable.so",
        ] {
            fs::write(lib.join(name), "").unwrap();
        }
        let find = |major| {
            library_directories(&root)
                .iter()
                .find_map(|directory| library_in(directory, major))
        };
        assert_eq!(
            find(22),
            Some(lib.join("libLLVM.so.22.1-rust-1.95.0-stable"))
        );
        assert_eq!(find(21), None);
        fs::remove_dir_all(root).unwrap();
    }
}
