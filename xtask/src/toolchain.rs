//! Finds what the BPF programs are built with: a rustc with its `rust-src`, and a `bpf-linker`.
//!
//! fdwatch's build script includes this very file, so that a plain `cargo build` finds what
//! `cargo xtask setup` found or made. Hence: the standard library only, and nothing in here that
//! only one of the two needs.

// The path is spelt out because the build script includes this file from elsewhere.
#[path = "toolchain/parse.rs"]
mod parse;

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) use self::parse::{field, is_recent};
use self::parse::{installed, linked_llvm, major};

/// Environment variable that names the rustup toolchain to use, and no other.
pub(crate) const TOOLCHAIN_VARIABLE: &str = "FDWATCH_BPF_TOOLCHAIN";

/// Name under which `cargo xtask setup` makes the distribution's toolchain known to rustup.
pub(crate) const LINKED_NAME: &str = "fdwatch-bpf";

/// A compiler and a linker that go together.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: Linker,
}

/// A rustc that can build `core` for the BPF target.
#[derive(Debug)]
pub(crate) struct Compiler {
    /// The toolchain as rustup knows it; none where there is no rustup, and the rustc on `PATH`
    /// is taken.
    pub(crate) name: Option<String>,
    /// The release, such as `1.96.0`.
    pub(crate) release: String,
    /// Major version of the LLVM it writes bitcode with, when it says so.
    pub(crate) llvm: Option<u32>,
    /// Whether it refuses `-Z build-std` without `RUSTC_BOOTSTRAP=1`, as all but nightly do.
    pub(crate) needs_bootstrap: bool,
}

/// A `bpf-linker` that runs.
#[derive(Debug)]
pub(crate) struct Linker {
    /// Not necessarily on `PATH`, where rustc looks for it.
    pub(crate) path: PathBuf,
    /// The release, such as `0.13.0`.
    pub(crate) release: String,
    /// Major version of the LLVM it is linked with, when it says so.
    pub(crate) llvm: Option<u32>,
}

/// Why a compiler cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It runs, but has no `rust-src`.
    NoSource,
    /// It is older than this workspace asks for.
    TooOld(String),
    /// It does not run, or what it says about itself makes no sense.
    Broken(String),
}

/// Nothing fits together; says what was looked at.
#[derive(Debug)]
pub(crate) struct Missing {
    /// One line for each toolchain and linker there is.
    pub(crate) problems: Vec<String>,
}

/// The first toolchain, in order of preference, that has all it needs.
pub(crate) fn find() -> Result<Toolchain, Missing> {
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
                    Some(llvm) => format!("{label}: no bpf-linker on LLVM {llvm} or newer"),
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
        let llvm = llvm.map_or_else(|| "of unknown version".to_owned(), |llvm| llvm.to_string());
        problems.push(format!(
            "{}: bpf-linker {release}, on LLVM {llvm}",
            path.display()
        ));
    }
    Err(Missing { problems })
}

/// The toolchains to look at, the best first: the one the user names and no other, or all that
/// rustup has, or, without rustup, the rustc on `PATH`.
pub(crate) fn candidates() -> Vec<Option<String>> {
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

/// The `bpf-linker`s on `PATH`, in its order, then cargo's own.
pub(crate) fn linkers() -> Vec<Linker> {
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

/// Where cargo installs programs, in its `bin`.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

impl Compiler {
    /// Looks at the toolchain that rustup knows by `name`, or at the rustc on `PATH`.
    pub(crate) fn inspect(name: Option<String>) -> Result<Self, Unusable> {
        let rustc = || rustc(name.as_deref());
        Self::inspect_program(name.clone(), &rustc)
    }

    /// Looks at the compiler that the commands of `rustc` run.
    pub(crate) fn inspect_program(
        name: Option<String>,
        rustc: &dyn Fn() -> Command,
    ) -> Result<Self, Unusable> {
        // The cheaper question first: most toolchains have no source.
        if !has_source(&sysroot(rustc()).map_err(Unusable::Broken)?) {
            return Err(Unusable::NoSource);
        }
        let about = output(rustc().arg("-vV")).map_err(Unusable::Broken)?;
        let release = field(&about, "release")
            .ok_or_else(|| Unusable::Broken("rustc does not tell its release".to_owned()))?;
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
        // bpf-linker says nothing of its LLVM, but lets one put this question to LLVM itself,
        // which answers and exits before anything is linked.
        let question = [
            "--llvm-args=--version",
            "--output",
            "/dev/null",
            "/dev/null",
        ];
        let llvm = output(Command::new(&path).args(question)).ok();
        Some(Self {
            llvm: llvm.as_deref().and_then(linked_llvm),
            path,
            release,
        })
    }

    /// Whether it can read the bitcode that `compiler` writes: LLVM reads what older releases
    /// wrote, not what newer ones did. What cannot be told is taken to be right.
    pub(crate) fn reads(&self, compiler: &Compiler) -> bool {
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
            "the BPF programs need a rustc with rust-src, and a bpf-linker that goes with it:\n",
        )?;
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        f.write_str("get what is missing with: cargo xtask setup")
    }
}

impl std::error::Error for Missing {}

/// The rustc of the toolchain that rustup knows by `name`, or the one on `PATH`.
pub(crate) fn rustc(name: Option<&str>) -> Command {
    match name {
        Some(name) => {
            let mut command = Command::new("rustup");
            command.args(["run", name, "rustc"]);
            command
        }
        None => Command::new("rustc"),
    }
}

/// Where the toolchain of `rustc` is installed.
pub(crate) fn sysroot(mut rustc: Command) -> Result<PathBuf, String> {
    Ok(PathBuf::from(
        output(rustc.args(["--print", "sysroot"]))?.trim_end(),
    ))
}

/// Whether the standard library's source, which `-Z build-std` compiles, lies in `sysroot`.
fn has_source(sysroot: &Path) -> bool {
    let library = sysroot.join("lib/rustlib/src/rust/library");
    ["core/Cargo.toml", "Cargo.lock"]
        .iter()
        .all(|file| library.join(file).is_file())
}

/// What a user calls the toolchain.
fn label(name: Option<&str>) -> &str {
    name.unwrap_or("the rustc on PATH")
}

/// What `command` prints; an error that says why, if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().next().unwrap_or("failed").to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linker_reads_older_bitcode_only() {
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
