//! Finds the toolchain that builds the BPF programs: a rustc with `rust-src`, and a `bpf-linker`.
//!
//! xtask and fdwatch's build script look in the same places, so that a plain `cargo build` finds what
//! `cargo xtask setup` installed.

mod parse;

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

pub use self::parse::{LINKED_NAME, field, is_recent};
use self::parse::{installed, linked_llvm, major};
use crate::shell::output;

/// Environment variable that names the only rustup toolchain to use.
pub const TOOLCHAIN_VARIABLE: &str = "FDWATCH_BPF_TOOLCHAIN";

/// A compiler and a linker that reads its output.
#[derive(Debug)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// The linker.
    pub linker: Linker,
}

/// A rustc that can build `core` for the BPF target.
#[derive(Debug)]
pub struct Compiler {
    /// The toolchain's name in rustup; `None` without rustup, for the rustc on `PATH`.
    pub name: Option<String>,
    /// The release, such as `1.96.0`.
    pub release: String,
    /// Major version of the LLVM it writes bitcode with, if known.
    pub llvm: Option<u32>,
    /// Whether `-Z build-std` needs `RUSTC_BOOTSTRAP=1`: on all toolchains but nightly.
    pub needs_bootstrap: bool,
}

/// A `bpf-linker` that runs.
#[derive(Debug)]
pub struct Linker {
    /// Its path. It need not be on `PATH`.
    pub path: PathBuf,
    /// The release, such as `0.13.0`.
    pub release: String,
    /// Major version of the LLVM it is linked with, if known.
    pub llvm: Option<u32>,
}

/// Why a compiler cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// Compiler without `rust-src`.
    NoSource,
    /// Its release, which is older than the workspace's `rust-version`.
    TooOld(String),
    /// The error of a compiler that does not run or whose version cannot be parsed.
    Broken(String),
}

/// The error that no compiler and linker match.
#[derive(Debug)]
pub struct Missing {
    /// One line per installed toolchain and linker.
    pub problems: Vec<String>,
}

/// Returns the first complete toolchain in order of preference.
///
/// # Errors
///
/// What is missing, if none is complete.
pub fn find() -> Result<Toolchain, Missing> {
    let mut linkers = linkers();
    let mut problems = Vec::new();
    for name in candidates() {
        let label = label(name.as_deref()).to_owned();
        match Compiler::inspect(name) {
            Ok(compiler) => {
                if let Some(i) = linkers.iter().position(|linker| linker.reads(&compiler)) {
                    return Ok(Toolchain {
                        compiler,
                        linker: linkers.swap_remove(i),
                    });
                }
                problems.push(match compiler.llvm {
                    Some(llvm) => format!("{label}: no bpf-linker for LLVM {llvm} or newer"),
                    None => format!("{label}: no bpf-linker"),
                });
            }
            Err(why) => problems.push(format!("{label}: {why}")),
        }
    }
    for Linker {
        path,
        release,
        llvm,
    } in linkers
    {
        let llvm = llvm.map_or_else(|| "an unknown version".to_owned(), |llvm| llvm.to_string());
        problems.push(format!(
            "{}: bpf-linker {release}, linked with LLVM {llvm}",
            path.display()
        ));
    }
    Err(Missing { problems })
}

/// Returns the toolchains to consider, best first: only the one that the user names, or else all in rustup, or,
/// without rustup, the rustc on `PATH` (`None`).
#[must_use]
pub fn candidates() -> Vec<Option<String>> {
    if let Some(name) = env::var(TOOLCHAIN_VARIABLE)
        .ok()
        .filter(|name| !name.is_empty())
    {
        return vec![Some(name)];
    }
    match output(Command::new("rustup").args(["toolchain", "list"])) {
        Ok(list) => installed(&list).into_iter().map(Some).collect(),
        Err(_) => vec![None],
    }
}

/// Returns the `bpf-linker`s on `PATH`, in its order, then those installed by cargo.
#[must_use]
pub fn linkers() -> Vec<Linker> {
    let mut directories: Vec<_> = env::var_os("PATH")
        .iter()
        .flat_map(env::split_paths)
        .collect();
    directories.extend(cargo_home().map(|home| home.join("bin")));
    let mut seen = Vec::new();
    for path in directories
        .into_iter()
        .map(|directory| directory.join("bpf-linker"))
    {
        if path.is_file() && !seen.contains(&path) {
            seen.push(path);
        }
    }
    seen.into_iter().filter_map(Linker::inspect).collect()
}

/// Returns cargo's home directory, whose `bin` holds installed programs.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

impl Compiler {
    /// Inspects the rustup toolchain `name`, or the rustc on `PATH`.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub fn inspect(name: Option<String>) -> Result<Self, Unusable> {
        let rustc = || rustc(name.as_deref());
        Self::inspect_program(name.clone(), &rustc)
    }

    /// Inspects the compiler that the commands made by `rustc` run.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub fn inspect_program(
        name: Option<String>,
        rustc: &dyn Fn() -> Command,
    ) -> Result<Self, Unusable> {
        // The cheaper check first: most toolchains have no source.
        if !has_source(&sysroot(rustc()).map_err(broken)?) {
            return Err(Unusable::NoSource);
        }
        let about = output(rustc().arg("-vV")).map_err(broken)?;
        let release = field(&about, "release")
            .ok_or_else(|| Unusable::Broken("rustc -vV prints no release".to_owned()))?;
        if !is_recent(release) {
            return Err(Unusable::TooOld(release.to_owned()));
        }
        Ok(Self {
            name,
            release: release.to_owned(),
            llvm: field(&about, "LLVM version").and_then(major),
            needs_bootstrap: !release.ends_with("-nightly"),
        })
    }
}

impl Linker {
    fn inspect(path: PathBuf) -> Option<Self> {
        let about = output(Command::new(&path).arg("--version")).ok()?;
        let release = about.split_whitespace().nth(1)?.to_owned();
        // bpf-linker does not print its LLVM's version, but passes this option to LLVM, which prints it and
        // exits before anything is linked.
        let arguments = [
            "--llvm-args=--version",
            "--output",
            "/dev/null",
            "/dev/null",
        ];
        let llvm = output(Command::new(&path).args(arguments)).ok();
        Some(Self {
            llvm: llvm.as_deref().and_then(linked_llvm),
            path,
            release,
        })
    }

    /// Returns whether it can read the bitcode that `compiler` writes: LLVM reads the bitcode of older releases, but
    /// not of newer ones. Unknown versions are assumed to match.
    #[must_use]
    pub fn reads(&self, compiler: &Compiler) -> bool {
        self.llvm
            .zip(compiler.llvm)
            .is_none_or(|(own, written)| own >= written)
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, bpf-linker {}", self.compiler, self.linker.release)
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bootstrap = if self.needs_bootstrap {
            ", RUSTC_BOOTSTRAP"
        } else {
            ""
        };
        write!(
            f,
            "{} (rustc {}{bootstrap})",
            label(self.name.as_deref()),
            self.release
        )
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSource => f.write_str("no rust-src"),
            Self::TooOld(release) => {
                write!(
                    f,
                    "rustc {release} is older than {}",
                    env!("CARGO_PKG_RUST_VERSION")
                )
            }
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the BPF programs need a rustc with rust-src and a matching bpf-linker; found:\n",
        )?;
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        f.write_str("help: run `cargo xtask setup`, which installs what is missing")
    }
}

impl std::error::Error for Missing {}

/// Returns a command for the rustc of the rustup toolchain `name`, or for the rustc on `PATH`.
#[must_use]
pub fn rustc(name: Option<&str>) -> Command {
    match name {
        Some(name) => {
            let mut command = Command::new("rustup");
            command.args(["run", name, "rustc"]);
            command
        }
        None => Command::new("rustc"),
    }
}

/// Returns the directory that the toolchain of `rustc` is installed in.
///
/// # Errors
///
/// If `rustc` fails.
pub fn sysroot(mut rustc: Command) -> Result<PathBuf> {
    Ok(PathBuf::from(
        output(rustc.args(["--print", "sysroot"]))?.trim_end(),
    ))
}

fn broken(error: anyhow::Error) -> Unusable {
    Unusable::Broken(format!("{error:#}"))
}

/// Returns whether `sysroot` has the standard library's source, which `-Z build-std` compiles.
fn has_source(sysroot: &Path) -> bool {
    let library = sysroot.join("lib/rustlib/src/rust/library");
    ["core/Cargo.toml", "Cargo.lock"]
        .iter()
        .all(|file| library.join(file).is_file())
}

/// Returns the toolchain's name in messages.
fn label(name: Option<&str>) -> &str {
    name.unwrap_or("the rustc on PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linker_rejects_newer_bitcode() {
        let linker = |llvm| Linker {
            path: PathBuf::new(),
            release: String::new(),
            llvm,
        };
        let compiler = |llvm| Compiler {
            name: None,
            release: String::new(),
            llvm,
            needs_bootstrap: false,
        };
        assert!(linker(Some(22)).reads(&compiler(Some(21))));
        assert!(linker(Some(22)).reads(&compiler(Some(22))));
        assert!(!linker(Some(21)).reads(&compiler(Some(22))));
        assert!(linker(None).reads(&compiler(Some(22))));
        assert!(linker(Some(21)).reads(&compiler(None)));
    }
}
