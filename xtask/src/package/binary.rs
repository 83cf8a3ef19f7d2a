//! Builds the binary against an old glibc, and checks that it needs no newer one.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use xtask_support::{
    cargo::{Profile, WORKSPACE, target_directory},
    shell::{SHELL, capture, info},
    toolchain::cargo_home,
};

use super::{
    target::{GLIBC, TARGET},
    tools::Tools,
};

/// The profile of packages.
const PROFILE: Profile = Profile::Dist;

/// Shared libraries that it may need: those of glibc.
const LIBRARIES: [&str; 7] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
];

/// Builds the binary and returns its path.
pub(super) fn build(tools: &Tools, source_date: u64) -> Result<PathBuf> {
    let (major, minor) = GLIBC;
    info(format!(
        "building fdwatch for glibc {major}.{minor}; the first build takes minutes"
    ));
    let mut build = tools.zigbuild()?;
    build
        .env("SOURCE_DATE_EPOCH", source_date.to_string())
        .env("CARGO_ENCODED_RUSTFLAGS", remapped_paths()?)
        .args([
            "--locked",
            "--profile",
            PROFILE.name(),
            "--package",
            "fdwatch",
            "--bin",
            "fdwatch",
        ])
        .args(["--target", &format!("{TARGET}.{major}.{minor}")]);
    SHELL.run(&mut build)?;
    let binary = target_directory()?
        .join(TARGET)
        .join(PROFILE.directory())
        .join("fdwatch");
    check(&binary)?;
    Ok(binary)
}

/// Returns rustc flags that keep the paths of this machine out of the binary.
fn remapped_paths() -> Result<OsString> {
    let here = fs::canonicalize(WORKSPACE)?;
    let home = cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let mut flags = OsString::new();
    for (from, to) in [(here, "/fdwatch"), (home, "/cargo")] {
        if !flags.is_empty() {
            // The separator of CARGO_ENCODED_RUSTFLAGS.
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    Ok(flags)
}

/// Checks that `binary` runs with glibc [`GLIBC`].
fn check(binary: &Path) -> Result<()> {
    let symbols = capture(Command::new("objdump").arg("-T").arg(binary))?;
    let newest = newest_glibc(&symbols).context("the binary uses no symbol of glibc")?;
    let headers = capture(Command::new("objdump").arg("-p").arg(binary))?;
    let others = other_libraries(&headers);
    let (major, minor) = newest;
    if newest > GLIBC {
        bail!(
            "{} needs glibc {major}.{minor}; packages support {}.{}",
            binary.display(),
            GLIBC.0,
            GLIBC.1
        );
    }
    if !others.is_empty() {
        bail!(
            "{} needs libraries other than glibc: {}",
            binary.display(),
            others.join(", ")
        );
    }
    info(format!(
        "the binary needs glibc {major}.{minor} and no other library"
    ));
    Ok(())
}

/// Returns the newest glibc version in the output of `objdump -T`. Private symbols, which only glibc itself may use,
/// count as newest.
fn newest_glibc(symbols: &str) -> Option<(u32, u32)> {
    let version = |word: &str| {
        let version = word.trim_matches(['(', ')']).strip_prefix("GLIBC_")?;
        let mut numbers = version.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
            _ => Some((u32::MAX, 0)),
        }
    };
    symbols.split_whitespace().filter_map(version).max()
}

/// Returns the needed libraries in the output of `objdump -p` that are not part of glibc.
fn other_libraries(headers: &str) -> Vec<&str> {
    let needed = headers
        .lines()
        .filter_map(|line| line.trim().strip_prefix("NEEDED"));
    needed
        .map(str::trim)
        .filter(|library| !LIBRARIES.contains(library))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: &str = "\
DYNAMIC SYMBOL TABLE:
0000000000000000      DF *UND*	0000000000000000 (GLIBC_2.2.5) free
0000000000000000      DF *UND*	0000000000000000 (GLIBC_2.9) pipe2
0000000000000000  w   DF *UND*	0000000000000000 (GLIBC_2.28) statx
0000000000000000  w   D  *UND*	0000000000000000  Base        __gmon_start__
";

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(newest_glibc(SYMBOLS), Some((2, 28)));
        assert_eq!(newest_glibc("no table\n"), None);
        let private = format!("{SYMBOLS}0 DF *UND* 0 (GLIBC_PRIVATE) __x\n");
        assert!(newest_glibc(&private) > Some(GLIBC));
        let recent = format!("{SYMBOLS}0 DF *UND* 0 (GLIBC_2.34) dlopen\n");
        assert!(newest_glibc(&recent) > Some(GLIBC));
    }

    #[test]
    fn libraries_other_than_glibc_are_found() {
        let headers = "Dynamic Section:\n  NEEDED               libc.so.6\n  NEEDED               \
                       libssl.so.3\n  INIT   0x1\n";
        assert_eq!(other_libraries(headers), ["libssl.so.3"]);
    }
}
