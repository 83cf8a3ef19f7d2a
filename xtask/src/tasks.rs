//! Building, running and testing fdwatch.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};
use xtask_support::{
    apt,
    cargo::{Profile, build_fdwatch, cargo, fdwatch, target_directory},
    shell::{self, SHELL, info, output},
    toolchain,
};

use crate::setup;

/// Runs `cargo xtask build`.
pub(crate) fn build(profile: Profile) -> Result<()> {
    setup::setup_quietly()?;
    build_fdwatch(profile)
}

/// Runs `cargo xtask run`: replaces this process by fdwatch, so that signals and the exit status are fdwatch's own.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let mut fdwatch = shell::as_root(fdwatch(Profile::Release)?).context(
        "fdwatch needs root and there is no sudo: run this as root, or build with `cargo xtask build \
         --release` and run target/release/fdwatch as root",
    )?;
    build(Profile::Release)?;
    become_(fdwatch.args(arguments))
}

/// Runs `cargo xtask schema`.
pub(crate) fn schema() -> Result<()> {
    let mut run = cargo();
    run.args(["run", "--quiet", "--package", "fdwatch-events"]);
    run.args(["--example", "schema"]);
    SHELL.run(&mut run)
}

/// Runs a trial: replaces this process by `fdwatch-trials`, which cleans up when it is interrupted.
pub(crate) fn trial(name: &str, arguments: &[OsString]) -> Result<()> {
    setup::setup_quietly()?;
    let mut run = cargo();
    run.args(["run", "--profile", "xtask", "--package", "fdwatch-trials"]);
    run.args(["--", name]);
    become_(run.args(arguments))
}

fn become_(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Runs `cargo xtask test`: builds as the user and runs the tests as root, which loading BPF programs requires.
pub(crate) fn test(arguments: &[OsString]) -> Result<()> {
    let mut test = cargo();
    test.args(["test", "--workspace", "--exclude", "fdwatch-ebpf"])
        .args(arguments);
    if !shell::is_root() {
        let (variable, runner) = root_runner()?;
        test.env(variable, runner);
    }
    setup::setup_quietly()?;
    install_programs();
    install_python_packages();
    shell::run_in_front(&mut test)
}

/// Makes cargo run only programs built for this machine through sudo.
fn root_runner() -> Result<(String, &'static str)> {
    shell::as_root("true")
        .context("loading BPF programs requires root, and sudo was not found: run this as root")?;
    let about = output(toolchain::rustc(None).arg("-vV"))?;
    let host = toolchain::field(&about, "host").context("rustc -vV prints no host")?;
    Ok((runner_variable(host), "sudo -E"))
}

fn runner_variable(host: &str) -> String {
    format!(
        "CARGO_TARGET_{}_RUNNER",
        host.to_uppercase().replace(['-', '.'], "_")
    )
}

/// Programs that end-to-end tests run, and their Debian packages.
const PROGRAMS: &[(&str, &str)] = &[
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

/// Packages of these that start a service, which the tests do not need.
const SERVICES: [&str; 3] = ["clickhouse-server", "prometheus", "prometheus-alertmanager"];

/// Python packages that end-to-end tests need and Debian lacks.
const PYTHON_PACKAGES: [&str; 3] = ["chdb", "opentelemetry-proto", "schemathesis"];

/// Installs the programs that end-to-end tests run. Tests whose programs are missing are skipped.
fn install_programs() {
    let missing = PROGRAMS
        .iter()
        .filter(|(program, _)| !shell::which(program));
    let (programs, packages): (Vec<_>, Vec<_>) = missing.copied().unzip();
    if packages.is_empty() {
        return;
    }
    let programs = programs.join(", ");
    info(format!("end-to-end tests need {programs}"));
    let installed = if apt::is_available() {
        apt::install(SHELL, &packages)
    } else {
        Err(anyhow::anyhow!("apt not found"))
    };
    if let Err(error) = installed {
        info(format!(
            "warning: {error:#}; skipping the tests that need {programs}"
        ));
        return;
    }
    let services = SERVICES.iter().filter(|service| packages.contains(service));
    for service in services.filter(|_| Path::new("/run/systemd/system").exists()) {
        let mut disable = Command::new("systemctl");
        if let Err(error) = SHELL.run(disable.args(["disable", "--now", service])) {
            info(format!("warning: {error:#}; {service} is still running"));
        }
    }
}

/// Installs the Python packages into their own environment. Without them, the tests that need them are skipped.
fn install_python_packages() {
    let Ok(target) = target_directory() else {
        return;
    };
    let environment = target.join("python");
    // Created when the environment is complete: an interrupted installation is repeated.
    let mark = environment.join(PYTHON_PACKAGES.join("+"));
    if mark.exists() {
        return;
    }
    let install = || -> Result<()> {
        let mut create = Command::new("python3");
        create.args(["-m", "venv"]).arg(&environment);
        if SHELL.run(&mut create).is_err() {
            apt::install(SHELL, &["python3-venv"])?;
            SHELL.run(&mut create)?;
        }
        let mut install = Command::new(environment.join("bin/pip"));
        SHELL.run(install.args(["install", "--quiet"]).args(PYTHON_PACKAGES))?;
        Ok(std::fs::write(&mark, "")?)
    };
    if let Err(error) = install() {
        let packages = PYTHON_PACKAGES.join(", ");
        info(format!(
            "warning: {error:#}; skipping the tests that need {packages}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::runner_variable;

    #[test]
    fn runner_variable_names_the_host() {
        assert_eq!(
            runner_variable("x86_64-unknown-linux-gnu"),
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER"
        );
    }
}
