//! `cargo xtask setup`: installs the toolchain that builds the BPF programs.
//!
//! Does nothing if a complete toolchain is found. Otherwise tries several methods, from one that changes nothing to one
//! that installs packages, and uses the first that works.

use std::{
    env,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use xtask_support::{
    apt,
    shell::{SHELL, Shell, info, which},
    toolchain::{self, Compiler, LINKED_NAME, TOOLCHAIN_VARIABLE, Unusable},
};

use crate::linker;

/// Timeout of rustup's download of about 3 MB. When exceeded, there is probably no network.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(60);

/// The distribution's packages with rustc, cargo and the source. Debian's `-web` packages are built for Firefox, and
/// much newer than the regular ones.
const PACKAGES: [[&str; 3]; 2] = [
    ["rustc-web", "cargo-web", "rust-web-src"],
    ["rustc", "cargo", "rust-src"],
];

/// Prefix of the distribution's packages.
const DISTRIBUTION_ROOT: &str = "/usr";

/// Installs missing tools and prints the resulting toolchain.
pub(crate) fn setup(shell: Shell) -> Result<()> {
    if let Some(found) = ensure(shell)? {
        info(format!("BPF toolchain: {found}"));
    }
    Ok(())
}

/// Installs missing tools; prints nothing if there are none.
pub(crate) fn setup_quietly() -> Result<()> {
    ensure(SHELL).map(drop)
}

fn ensure(shell: Shell) -> Result<Option<toolchain::Toolchain>> {
    let missing = match toolchain::find() {
        Ok(found) => return Ok(Some(found)),
        Err(missing) => missing,
    };
    info("no complete toolchain for the BPF programs; found:");
    for problem in &missing.problems {
        info(format!("- {problem}"));
    }
    c_compiler(shell)?;
    let Some(compiler) = compiler(shell)? else {
        info("then: build bpf-linker with the LLVM of that rustc");
        return Ok(None);
    };
    if !toolchain::linkers()
        .iter()
        .any(|linker| linker.reads(&compiler))
    {
        info(format!("building bpf-linker for {compiler}"));
        linker::install(shell, &compiler)?;
    }
    if shell.dry_run {
        Ok(None)
    } else {
        Ok(Some(toolchain::find()?))
    }
}

/// Installs a C compiler if needed: rustc links through `cc`.
fn c_compiler(shell: Shell) -> Result<()> {
    if which("cc") {
        return Ok(());
    }
    if !apt::is_available() {
        bail!("no C compiler found: install one that provides `cc`");
    }
    info("installing a C compiler, which rustc links with");
    apt::install(shell, &["gcc", "libc6-dev"])
}

/// Returns the compiler from the first method that works; `None` in a dry run, if that is unknown.
fn compiler(shell: Shell) -> Result<Option<Compiler>> {
    let mut without_source = Vec::new();
    for name in toolchain::candidates() {
        match Compiler::inspect(name.clone()) {
            Ok(compiler) if linker::supports(&compiler) => return Ok(Some(compiler)),
            Err(Unusable::NoSource) => without_source.extend(name),
            Ok(_) | Err(_) => {}
        }
    }
    let named = env::var_os(TOOLCHAIN_VARIABLE).is_some_and(|name| !name.is_empty());
    let found = component(shell, &without_source, named)?;
    if found.is_some() {
        return Ok(found);
    }
    if named && !shell.dry_run {
        bail!("{TOOLCHAIN_VARIABLE} names an unusable toolchain");
    }
    if named {
        return Ok(None);
    }
    distribution(shell)
}

/// Adds `rust-src` to one of rustup's toolchains.
fn component(shell: Shell, names: &[String], named: bool) -> Result<Option<Compiler>> {
    let of_a_channel =
        |name: &&String| named || ["nightly-", "stable-"].iter().any(|c| name.starts_with(c));
    for name in names.iter().filter(of_a_channel) {
        let mut add = Command::new("rustup");
        add.args(["component", "add", "rust-src", "--toolchain", name]);
        // Failure is expected without a network and needs no backtrace.
        add.env_remove("RUST_BACKTRACE");
        let began = Instant::now();
        let added = shell.run_within(DOWNLOAD_LIMIT, &mut add);
        if shell.dry_run {
            info("if that fails:");
            continue;
        }
        match added.map(|()| Compiler::inspect(Some(name.clone()))) {
            Ok(Ok(compiler)) if linker::supports(&compiler) => return Ok(Some(compiler)),
            Ok(Ok(compiler)) => info(format!(
                "{compiler} is too new for bpf-linker; trying the next"
            )),
            Ok(Err(why)) => info(format!("{name}: {why}; trying the next")),
            Err(error) => {
                info(format!("{error}; trying the next"));
                // A download that timed out for one toolchain times out for the next.
                if began.elapsed() >= DOWNLOAD_LIMIT {
                    break;
                }
            }
        }
    }
    Ok(None)
}

/// Installs the distribution's rustc and source, and links them in rustup if there is one.
fn distribution(shell: Shell) -> Result<Option<Compiler>> {
    let inspect = || {
        let rustc = || Command::new(Path::new(DISTRIBUTION_ROOT).join("bin/rustc"));
        Compiler::inspect_program(Some(LINKED_NAME.to_owned()), &rustc)
    };
    if inspect().is_err() {
        install_distribution(shell)?;
    }
    let rustup = which("rustup");
    if rustup {
        let link = ["toolchain", "link", LINKED_NAME, DISTRIBUTION_ROOT];
        shell.run(Command::new("rustup").args(link))?;
    }
    if shell.dry_run {
        return Ok(inspect().ok());
    }
    Compiler::inspect(rustup.then(|| LINKED_NAME.to_owned()))
        .map(Some)
        .map_err(|why| {
            anyhow!("the distribution's rustc in {DISTRIBUTION_ROOT} is unusable: {why}")
        })
}

fn install_distribution(shell: Shell) -> Result<()> {
    if !apt::is_available() {
        bail!(
            "rustup failed to download rust-src, and there is no apt; install rustc {} or newer with \
             rust-src and link it: rustup toolchain link {LINKED_NAME} /usr",
            env!("CARGO_PKG_RUST_VERSION")
        );
    }
    let choose = || {
        PACKAGES.iter().find(|[rustc, ..]| {
            apt::candidate(rustc).is_some_and(|version| toolchain::is_recent(&version))
        })
    };
    let mut packages = choose();
    if packages.is_none() {
        apt::update(shell)?;
        if shell.dry_run {
            info("then install the first of these that is new enough:");
            PACKAGES
                .iter()
                .for_each(|packages| info(format!("- {}", packages.join(" "))));
            return Ok(());
        }
        packages = choose();
    }
    let packages = packages.with_context(|| {
        let minimum = env!("CARGO_PKG_RUST_VERSION");
        format!(
            "no package has rustc {minimum} or newer; install a toolchain with its source, for example: \
             rustup toolchain install nightly --component rust-src"
        )
    })?;
    apt::install(shell, packages)
}
