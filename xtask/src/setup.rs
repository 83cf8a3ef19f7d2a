//! `cargo xtask setup`: gets what the BPF programs are built with.
//!
//! Nothing is done where a toolchain that fits is there. Otherwise the routes are tried in order,
//! from the one that changes nothing to the one that installs packages, and the first that works
//! is taken.

use std::{
    env,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    apt, linker,
    shell::{Shell, say, which},
    toolchain::{self, Compiler, LINKED_NAME, TOOLCHAIN_VARIABLE, Unusable},
};

/// How long rustup may take for some 3 MB before it is taken to have no network.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(60);

/// The rustc, the cargo and the source that distributions package. Debian's `-web` packages
/// follow Firefox's needs, and are far newer than its plain ones.
const PACKAGES: [[&str; 3]; 2] = [
    ["rustc-web", "cargo-web", "rust-web-src"],
    ["rustc", "cargo", "rust-src"],
];

/// Where the distribution's packages install.
const DISTRIBUTION_ROOT: &str = "/usr";

/// Gets what is missing, and tells what there is then.
pub(crate) fn setup(shell: Shell) -> Result<()> {
    if let Some(found) = ensure(shell)? {
        say(format!("BPF toolchain: {found}"));
    }
    Ok(())
}

/// Gets what is missing; says nothing if nothing is.
pub(crate) fn setup_quietly() -> Result<()> {
    ensure(Shell { dry_run: false }).map(drop)
}

fn ensure(shell: Shell) -> Result<Option<toolchain::Toolchain>> {
    let missing = match toolchain::find() {
        Ok(found) => return Ok(Some(found)),
        Err(missing) => missing,
    };
    say("nothing complete to build the BPF programs with; what there is:");
    for problem in &missing.problems {
        say(format!("- {problem}"));
    }
    c_compiler(shell)?;
    let Some(compiler) = compiler(shell)? else {
        say("then bpf-linker would be built, on the LLVM of that rustc");
        return Ok(None);
    };
    if !toolchain::linkers()
        .iter()
        .any(|linker| linker.reads(&compiler))
    {
        say(format!("{compiler} has no bpf-linker yet"));
        linker::install(shell, &compiler)?;
    }
    if shell.dry_run {
        Ok(None)
    } else {
        Ok(Some(toolchain::find()?))
    }
}

/// rustc links through `cc`.
fn c_compiler(shell: Shell) -> Result<()> {
    if which("cc") {
        return Ok(());
    }
    if !apt::is_here() {
        bail!("there is no C compiler: install one that is called as `cc`");
    }
    say("there is no C compiler, which rustc links with");
    apt::install(shell, &["gcc", "libc6-dev"])
}

/// A compiler by the first route that leads to one; none in a dry run that cannot know.
fn compiler(shell: Shell) -> Result<Option<Compiler>> {
    let mut without_source = Vec::new();
    for name in toolchain::candidates() {
        match Compiler::inspect(name.clone()) {
            Ok(compiler) if linker::is_within_reach(&compiler) => return Ok(Some(compiler)),
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
        bail!("{TOOLCHAIN_VARIABLE} names a toolchain that cannot be used");
    }
    if named {
        return Ok(None);
    }
    distribution(shell)
}

/// The `rust-src` of a toolchain that rustup has.
fn component(shell: Shell, names: &[String], named: bool) -> Result<Option<Compiler>> {
    let of_a_channel =
        |name: &&String| named || ["nightly-", "stable-"].iter().any(|c| name.starts_with(c));
    for name in names.iter().filter(of_a_channel) {
        let mut add = Command::new("rustup");
        add.args(["component", "add", "rust-src", "--toolchain", name]);
        // Without a network rustup fails as expected, which is no matter for a backtrace.
        add.env_remove("RUST_BACKTRACE");
        let began = Instant::now();
        let added = shell.run_within(DOWNLOAD_LIMIT, &mut add);
        if shell.dry_run {
            say("where that fails:");
            continue;
        }
        match added.map(|()| Compiler::inspect(Some(name.clone()))) {
            Ok(Ok(compiler)) if linker::is_within_reach(&compiler) => return Ok(Some(compiler)),
            Ok(Ok(compiler)) => say(format!("{compiler} is too new for bpf-linker; going on")),
            Ok(Err(why)) => say(format!("{name}: {why}; going on")),
            Err(error) => {
                say(format!("{error}; going on"));
                // What rustup cannot fetch for one toolchain in that time, it cannot for the next.
                if began.elapsed() >= DOWNLOAD_LIMIT {
                    break;
                }
            }
        }
    }
    Ok(None)
}

/// The distribution's rustc and source, made known to rustup where there is one.
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
            anyhow!("the distribution's rustc in {DISTRIBUTION_ROOT} cannot be used: {why}")
        })
}

fn install_distribution(shell: Shell) -> Result<()> {
    if !apt::is_here() {
        bail!(
            "this system has no apt, and rustup could not fetch rust-src; install a rustc of {} \
             or newer with its rust-src, and name it to rustup: rustup toolchain link \
             {LINKED_NAME} /usr",
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
            say("then the first of these would be installed that is new enough:");
            PACKAGES
                .iter()
                .for_each(|packages| say(format!("- {}", packages.join(" "))));
            return Ok(());
        }
        packages = choose();
    }
    let packages = packages.with_context(|| {
        let minimum = env!("CARGO_PKG_RUST_VERSION");
        format!(
            "no package has a rustc of {minimum} or newer; what is needed is one toolchain with \
             its source, as from: rustup toolchain install nightly --component rust-src"
        )
    })?;
    apt::install(shell, packages)
}
