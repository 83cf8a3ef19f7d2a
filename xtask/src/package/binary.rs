//! The binary: built against an old glibc, and checked to need no newer one.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{GLIBC, SHELL, TARGET, tools::Tools};
use crate::{
    shell::{capture, say},
    tasks::target_directory,
    toolchain::cargo_home,
};

/// Libraries that it may need, which are all of glibc.
const LIBRARIES: [&str; 7] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
];

/// Builds it, and returns where it is.
pub(super) fn build(tools: &Tools, source_date: u64) -> Result<PathBuf> {
    let (major, minor) = GLIBC;
    say(format!(
        "builds fdwatch for glibc {major}.{minor}; from nothing, this takes minutes"
    ));
    let mut build = tools.zigbuild()?;
    build
        .env("SOURCE_DATE_EPOCH", source_date.to_string())
        .env("CARGO_ENCODED_RUSTFLAGS", remapped_paths()?)
        .args([
            "--locked",
            "--release",
            "--package",
            "fdwatch",
            "--bin",
            "fdwatch",
        ])
        .args(["--target", &format!("{TARGET}.{major}.{minor}")]);
    SHELL.run(&mut build)?;
    let binary = target_directory()?.join(TARGET).join("release/fdwatch");
    check(&binary)?;
    Ok(binary)
}

/// Flags of rustc that keep out of the binary where on this machine the sources are.
fn remapped_paths() -> Result<OsString> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let here = here.context("xtask is in no directory")?.to_owned();
    let home = cargo_home().context("neither CARGO_HOME nor HOME is set")?;
    let mut flags = OsString::new();
    for (from, to) in [(here, "/fdwatch"), (home, "/cargo")] {
        if !flags.is_empty() {
            // What cargo separates flags with.
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    Ok(flags)
}

/// Checks that `binary` runs on the oldest glibc.
fn check(binary: &Path) -> Result<()> {
    let symbols = capture(Command::new("objdump").arg("-T").arg(binary))?;
    let newest =
        newest_glibc(&symbols).context("it uses no symbol of glibc: is it what it should be?")?;
    let headers = capture(Command::new("objdump").arg("-p").arg(binary))?;
    let strange = strange_libraries(&headers);
    let (major, minor) = newest;
    if newest > GLIBC {
        bail!(
            "{} needs glibc {major}.{minor}, and is to run on {}.{}",
            binary.display(),
            GLIBC.0,
            GLIBC.1
        );
    }
    if !strange.is_empty() {
        bail!(
            "{} needs libraries besides glibc: {}",
            binary.display(),
            strange.join(", ")
        );
    }
    say(format!(
        "it needs glibc {major}.{minor}, and no other library"
    ));
    Ok(())
}

/// The newest version among the symbols that `objdump -T` shows; what only glibc itself may use
/// counts as newest of all.
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

/// The libraries that `objdump -p` shows to be needed, and that are not of glibc.
fn strange_libraries(headers: &str) -> Vec<&str> {
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
    fn the_newest_symbol_counts_by_number() {
        assert_eq!(newest_glibc(SYMBOLS), Some((2, 28)));
        assert_eq!(newest_glibc("no table\n"), None);
        let private = format!("{SYMBOLS}0 DF *UND* 0 (GLIBC_PRIVATE) __x\n");
        assert!(newest_glibc(&private) > Some(GLIBC));
        let recent = format!("{SYMBOLS}0 DF *UND* 0 (GLIBC_2.34) dlopen\n");
        assert!(newest_glibc(&recent) > Some(GLIBC));
    }

    #[test]
    fn libraries_besides_glibc_are_seen() {
        let headers = "Dynamic Section:\n  NEEDED               libc.so.6\n  NEEDED               \
                       libssl.so.3\n  INIT   0x1\n";
        assert_eq!(strange_libraries(headers), ["libssl.so.3"]);
    }
}
