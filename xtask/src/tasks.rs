//! Building, running and testing fdwatch.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    apt, setup,
    shell::{self, Shell, say},
    toolchain,
};

const SHELL: Shell = Shell { dry_run: false };

/// `cargo xtask build`
pub(crate) fn build(release: bool) -> Result<()> {
    setup::setup_quietly()?;
    let mut build = cargo();
    build
        .args(["build", "--package", "fdwatch"])
        .args(release.then_some("--release"));
    SHELL.run(&mut build)
}

/// `cargo xtask run`: becomes fdwatch, so that signals and the exit status are its own.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let mut fdwatch = shell::as_root(fdwatch()?).context(
        "fdwatch needs root, and there is no sudo; run this as root, or build with `cargo xtask \
         build --release` and run target/release/fdwatch as root",
    )?;
    build(true)?;
    let error = fdwatch.args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", fdwatch.get_program().display()))
}

/// `cargo xtask test`: builds as the user, and runs the tests as root, who may load programs.
pub(crate) fn test(arguments: &[OsString]) -> Result<()> {
    let mut test = cargo();
    test.args(["test", "--workspace", "--exclude", "fdwatch-ebpf"])
        .args(arguments);
    if !shell::is_root() {
        let (variable, runner) = root_runner()?;
        test.env(variable, runner);
    }
    setup::setup_quietly()?;
    driven_programs();
    python_packages();
    shell::run_in_front(&mut test)
}

/// `cargo xtask fleet-sim`
pub(crate) fn fleet_sim(url: &str, numbers: [u64; 4]) -> Result<()> {
    setup::setup_quietly()?;
    let mut run = cargo();
    run.args(["run", "--release", "--package", "fdwatch"])
        .args(["--example", "fleet_sim", "--", url])
        .args(numbers.map(|number| number.to_string()));
    shell::run_in_front(&mut run)
}

/// The cargo that runs xtask.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo has told xtask of xtask's own package. ring's build script asks to be run again
    // when these are others: it would be, and all that needs ring built again, whenever cargo is
    // called by xtask after it was called by the user, or the other way round.
    for (name, _) in env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Where cargo puts the optimized fdwatch.
pub(crate) fn fdwatch() -> Result<PathBuf> {
    Ok(target_directory()?.join("release/fdwatch"))
}

/// The target directory, whatever the user has configured: xtask's own profile is in it.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where xtask is")?;
    let target = own.parent().and_then(Path::parent);
    Ok(target
        .context("xtask is in no target directory")?
        .to_owned())
}

/// Makes cargo run what it built for this machine, and nothing else, through sudo.
fn root_runner() -> Result<(String, &'static str)> {
    shell::as_root("true").context(
        "the tests load BPF programs, which needs root, and there is no sudo; run this as root",
    )?;
    let about = toolchain::output(toolchain::rustc(None).arg("-vV")).map_err(anyhow::Error::msg)?;
    let host = toolchain::field(&about, "host").context("rustc does not tell its host")?;
    Ok((runner_variable(host), "sudo -E"))
}

fn runner_variable(host: &str) -> String {
    format!(
        "CARGO_TARGET_{}_RUNNER",
        host.to_uppercase().replace(['-', '.'], "_")
    )
}

/// Programs that end-to-end tests drive, and the packages of Debian that have them.
const DRIVEN: &[(&str, &str)] = &[
    ("supervisord", "supervisor"),
    ("python3", "python3"),
    ("strace", "strace"),
    ("busybox", "busybox-static"),
    ("make", "make"),
    ("logrotate", "logrotate"),
    ("openssl", "openssl"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("prometheus", "prometheus"),
    ("clickhouse-server", "clickhouse-server"),
    ("java", "default-jre-headless"),
    ("/usr/share/java/zookeeper.jar", "libzookeeper-java"),
    ("ip", "iproute2"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("tmux", "tmux"),
    ("glusterfs", "glusterfs-client"),
];

/// Packages of these that run a service, which is not what they are here for.
const SERVICES: [&str; 3] = ["clickhouse-server", "prometheus", "prometheus-alertmanager"];

/// What end-to-end tests need of Python beyond Debian's packages.
const PYTHON_PACKAGES: [&str; 3] = ["chdb", "opentelemetry-proto", "schemathesis"];

/// Gets what the end-to-end tests drive, as far as it can be had.
fn driven_programs() {
    let missing = DRIVEN.iter().filter(|(program, _)| !shell::which(program));
    let (programs, packages): (Vec<_>, Vec<_>) = missing.copied().unzip();
    if packages.is_empty() {
        return;
    }
    let programs = programs.join(", ");
    say(format!(
        "end-to-end tests drive what is not here: {programs}"
    ));
    let installed = if apt::is_here() {
        apt::install(SHELL, &packages)
    } else {
        Err(anyhow::anyhow!("there is no apt"))
    };
    if let Err(error) = installed {
        say(format!(
            "{error:#}; those tests will be skipped: to have them, install {programs}"
        ));
        return;
    }
    let services = SERVICES.iter().filter(|service| packages.contains(service));
    for service in services.filter(|_| Path::new("/run/systemd/system").exists()) {
        let mut disable = Command::new("systemctl");
        if let Err(error) = SHELL.run(disable.args(["disable", "--now", service])) {
            say(format!("{error:#}; {service} is left running"));
        }
    }
}

/// Gets what the end-to-end tests need of Python, into a place of its own, as far as it can be had.
fn python_packages() {
    let Ok(target) = target_directory() else {
        return;
    };
    let place = target.join("python");
    // Once it is complete: what is not there is asked for again.
    let mark = place.join(PYTHON_PACKAGES.join("+"));
    if mark.exists() {
        return;
    }
    let install = || -> Result<()> {
        let mut create = Command::new("python3");
        create.args(["-m", "venv"]).arg(&place);
        if SHELL.run(&mut create).is_err() {
            apt::install(SHELL, &["python3-venv"])?;
            SHELL.run(&mut create)?;
        }
        let mut install = Command::new(place.join("bin/pip"));
        SHELL.run(install.args(["install", "--quiet"]).args(PYTHON_PACKAGES))?;
        Ok(std::fs::write(&mark, "")?)
    };
    if let Err(error) = install() {
        let packages = PYTHON_PACKAGES.join(", ");
        let place = place.display();
        say(format!(
            "{error:#}; tests that need {packages} in {place} will be skipped"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::runner_variable;

    #[test]
    fn the_runner_is_for_the_host() {
        assert_eq!(
            runner_variable("x86_64-unknown-linux-gnu"),
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER"
        );
    }
}
