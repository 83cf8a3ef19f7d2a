//! Runs fdwatch in containers with podman: with the command in `packaging/docker/Dockerfile`, and as
//! `packaging/kubernetes/daemonset.yaml` would.
//!
//! The image is built from the Dockerfile's last stage. The files of the first stage, which builds fdwatch,
//! are taken from the package.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use xtask_support::{
    apt,
    cargo::WORKSPACE,
    shell::{SHELL, capture, describe, info, which},
    temp::TempDir,
};

use super::{roots, sources::read, target::Packages};

const MANIFEST: &str = "packaging/kubernetes/daemonset.yaml";
const DOCKERFILE: &str = "packaging/docker/Dockerfile";
/// The base image, as the Dockerfile names it.
const BASE: &str = "docker.io/library/debian:bookworm-slim";
/// Files that are copied from the first stage: their paths in the sources and in that stage.
const BUILT: [(&str, &str); 2] = [
    (
        "fdwatch/crates/agent/src/config/example.toml",
        "fdwatch/fdwatch/crates/agent/src/config/example.toml",
    ),
    (
        "packaging/debian/copyright",
        "fdwatch/packaging/debian/copyright",
    ),
];
/// The binary in the first stage.
const BINARY: &str = "fdwatch/fdwatch-stripped";
const NAME: &str = "fdwatch-trial";
/// A user other than the container's, whose processes must be visible.
const NOBODY: &str = "65534";
/// Opens a file twice.
const HOLDER: &str = "exec 3>\"$0\" 4>\"$0\"; exec sleep 600";
/// Limit for the agent to find the duplicate.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn trial(packages: &Packages) -> Result<()> {
    let (dockerfile, manifest) = (read(DOCKERFILE)?, read(MANIFEST)?);
    let engine = Engine::new()?;
    engine.build_image(&dockerfile, &packages.deb)?;
    // Mounts the file systems that the container shares with the host, and prints what the host allows.
    SHELL.run(
        Command::new("sh")
            .args(["-c", "\"$0\" doctor; test $? -le 1"])
            .arg(engine.binary()),
    )?;
    let mut options = options(&dockerfile)?;
    options.retain(|option| !option.contains(":/var/lib/fdwatch"));
    if perf_needs_sys_admin() {
        options.push("--cap-add=SYS_ADMIN".to_owned());
    }
    engine.run_with_default_filter(&options)?;
    agent(&engine, &options)?;
    run_like_manifest(&engine, &manifest)
}

/// Runs the agent, which must find a duplicate in a process of the host.
fn agent(engine: &Engine, options: &[String]) -> Result<()> {
    let state = engine.directory.path().join("state");
    fs::create_dir(&state)?;
    let file = engine.directory.path().join("duplicate.log");
    fs::write(&file, "")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    fs::set_permissions(engine.directory.path(), fs::Permissions::from_mode(0o755))?;
    let mut holder = Command::new("setpriv");
    holder.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    holder.args(["--pdeathsig", "KILL", "sh", "-c", HOLDER]);
    let holder = Killed(holder.arg(&file).spawn().context("cannot run setpriv")?);

    // Without --rm, so that its exit code can be read.
    let options: Vec<_> = options
        .iter()
        .filter(|&option| option != "--rm")
        .cloned()
        .collect();
    let mut run = engine.run(&options);
    run.args(["--detach", "--name", NAME, "--volume"]);
    let volume = format!("{}:/var/lib/fdwatch", state.display());
    capture(run.args([&volume, "fdwatch"]))?;
    let podman = |arguments: &[&str]| capture(engine.podman().args(arguments));
    let watch = [
        "exec",
        NAME,
        "fdwatch",
        "watch",
        "--json",
        "--duration",
        "1s",
    ];
    let path = file.display().to_string();
    let found = within_limit(|| {
        let lines = podman(&watch)?;
        let finding = lines.lines().find(|line| line.contains(&path));
        finding.map(str::to_owned).context("duplicate not found")
    });
    let log = output(engine.podman().args(["logs", NAME]))?;
    let log = String::from_utf8_lossy(&log.stderr).into_owned();
    info(format!("the agent's log: {}", log.trim()));
    let found = found?;
    let pid = format!("\"pid\":{},", holder.0.id());
    ensure!(
        found.contains(&pid),
        "the duplicate is attributed to another process: {found}"
    );
    ensure!(!log.contains("WARN"), "the agent logs a warning");

    let pid = podman(&["inspect", "--format", "{{.State.Pid}}", NAME])?;
    check_confinement(pid.trim(), &options)?;
    let written = podman(&["exec", NAME, "touch", "/etc/fdwatch/written"]);
    ensure!(written.is_err(), "the container's root is writable");
    SHELL.run(engine.podman().args(["stop", "--time", "10", NAME]))?;
    let code = podman(&["inspect", "--format", "{{.State.ExitCode}}", NAME])?;
    ensure!(code.trim() == "0", "the agent exited with {code}");
    ensure!(
        state.join("history.db").is_file(),
        "the agent wrote no history"
    );
    info("the agent works in a container");
    Ok(())
}

/// Checks that a process has a seccomp filter, and no capabilities except the added ones.
fn check_confinement(pid: &str, options: &[String]) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("the agent (PID {pid}) has exited"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
    };
    ensure!(
        field("Seccomp:") == Some("2"),
        "the agent has no seccomp filter"
    );
    ensure!(
        field("NoNewPrivs:") == Some("1"),
        "the agent can gain privileges"
    );
    let bounding = field("CapBnd:").context("no CapBnd in its status")?;
    let names = capture(Command::new("capsh").arg(format!("--decode={bounding}")))?;
    let (_, names) = names.trim().split_once('=').unwrap_or_default();
    let has: BTreeSet<String> = names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.trim_start_matches("cap_").to_uppercase())
        .collect();
    let added = added(options);
    // Capabilities that the host lacks cannot be added.
    ensure!(
        has.iter().all(|name| added.contains(name.as_str())),
        "the agent has {has:?}, but only these were added: {added:?}"
    );
    Ok(())
}

/// Runs doctor with the capabilities and mounts of the manifest's first container. Uses the shipped seccomp
/// filter, as not every engine's default allows what fdwatch needs.
fn run_like_manifest(engine: &Engine, manifest: &str) -> Result<()> {
    let mut options: Vec<String> = ["--rm", "--pid=host", "--read-only", "--cap-drop=ALL"]
        .map(str::to_owned)
        .to_vec();
    options.push(profile());
    options.push("--security-opt=no-new-privileges".to_owned());
    options.extend(
        capabilities(manifest)
            .iter()
            .map(|name| format!("--cap-add={name}")),
    );
    if perf_needs_sys_admin() {
        options.push("--cap-add=SYS_ADMIN".to_owned());
    }
    let mounts = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("mountPath: "));
    let mounts: BTreeSet<_> = mounts.filter(|path| path.starts_with("/sys/")).collect();
    options.extend(
        mounts
            .iter()
            .map(|path| format!("--volume={path}:{path}:ro")),
    );
    let mut run = engine.run(&options);
    run.args(["--entrypoint", "/bin/sh", "fdwatch", "-c"]);
    SHELL.run(run.arg("fdwatch doctor; test $? -le 1"))
}

/// podman, with its storage in a temporary directory.
struct Engine {
    directory: TempDir,
}

impl Engine {
    fn new() -> Result<Self> {
        let programs = [
            ("podman", "podman"),
            ("runc", "runc"),
            ("capsh", "libcap2-bin"),
        ];
        let missing = programs.iter().filter(|(program, _)| !which(program));
        let missing: Vec<_> = missing.map(|&(_, package)| package).collect();
        if !missing.is_empty() {
            info("installing podman and runc to run containers");
            apt::install(SHELL, &missing)?;
        }
        let directory = TempDir::new("fdwatch-containers-").context("cannot create a directory")?;
        let place = directory.path().display();
        // The driver vfs works on every file system.
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{place}/run\"\ngraphroot = \"{place}/graph\"\n"
        );
        fs::write(directory.path().join("storage.conf"), storage)?;
        // Limits that do not exceed the caller's own. crun does not work on hosts that have both versions of
        // cgroups.
        let engine = "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
            [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        fs::write(directory.path().join("containers.conf"), engine)?;
        Ok(Self { directory })
    }

    fn podman(&self) -> Command {
        let mut podman = Command::new("podman");
        let place = self.directory.path();
        podman.current_dir(WORKSPACE);
        podman.env("CONTAINERS_STORAGE_CONF", place.join("storage.conf"));
        podman.env("CONTAINERS_CONF", place.join("containers.conf"));
        podman
    }

    /// Returns a `podman run` command without a network.
    fn run(&self, options: &[String]) -> Command {
        let mut run = self.podman();
        run.args(["run", "--network=none"]).args(options);
        run
    }

    /// Returns the binary that the image is built from.
    fn binary(&self) -> PathBuf {
        self.directory.path().join("built").join(BINARY)
    }

    /// Builds the image `fdwatch` from the last stage of `dockerfile`, with the binary in `deb`.
    fn build_image(&self, dockerfile: &str, deb: &Path) -> Result<()> {
        let base = roots::packed(roots::CURRENT)?;
        SHELL.run(self.podman().arg("import").arg(base).arg(BASE))?;

        let unpacked = self.directory.path().join("unpacked");
        SHELL.run(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(deb)
                .arg(&unpacked),
        )?;
        let built = self.directory.path().join("built");
        let copies = BUILT.map(|(from, to)| (Path::new(WORKSPACE).join(from), to));
        let binary = (unpacked.join("usr/bin/fdwatch"), BINARY);
        for (from, to) in copies.into_iter().chain([binary]) {
            let to = built.join(to);
            fs::create_dir_all(to.parent().unwrap_or(&built))?;
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        let packed = self.directory.path().join("built.tar");
        let mut pack = Command::new("tar");
        pack.arg("--create").arg("--file").arg(&packed);
        SHELL.run(pack.arg("--directory").arg(&built).arg("."))?;
        SHELL.run(
            self.podman()
                .arg("import")
                .arg(&packed)
                .arg("localhost/builder"),
        )?;

        let context = self.directory.path().join("context");
        fs::create_dir(&context)?;
        fs::write(context.join("Dockerfile"), last_stage(dockerfile)?)?;
        let mut build = self.podman();
        // A single copy of the root, which has hundreds of megabytes, instead of one per line.
        build.args([
            "build",
            "--layers=false",
            "--isolation=chroot",
            "--pull=never",
        ]);
        SHELL.run(build.args(["--tag", "fdwatch"]).arg(&context))
    }

    /// Checks that fdwatch works with the engine's default filter, or that doctor names the filter as the cause.
    fn run_with_default_filter(&self, options: &[String]) -> Result<()> {
        let mut options = options.to_vec();
        options.retain(|option| !option.starts_with("--security-opt=seccomp="));
        let mut run = self.run(&options);
        run.args(["fdwatch", "doctor"]);
        let Output { status, stdout, .. } = output(&mut run)?;
        let report = String::from_utf8_lossy(&stdout);
        match status.code() {
            Some(0 | 1) => info("the engine's default seccomp filter allows all required calls"),
            Some(2) if report.contains("missing  seccomp") => {
                info("the engine's default seccomp filter is too strict, and doctor reports it");
            }
            code => anyhow::bail!("doctor with the engine's default filter: {code:?}: {report}"),
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let mut remove = self.podman();
        remove.args(["rm", "--force", "--all", "--time", "1"]);
        let _ = output(&mut remove);
    }
}

/// A child process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have exited; it is reaped either way.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Retries until it succeeds. Fails with the last error after [`LIMIT`].
fn within_limit<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(100)),
            result => return result,
        }
    }
}

/// Runs a command and returns its output and status.
fn output(command: &mut Command) -> Result<Output> {
    info(describe(command));
    let output = command.stdin(Stdio::null()).output();
    output.with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Returns whether this host requires `CAP_SYS_ADMIN` for perf events: a patch of some distributions.
fn perf_needs_sys_admin() -> bool {
    let setting = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    setting
        .trim()
        .parse::<i32>()
        .is_ok_and(|setting| setting > 2)
}

/// Returns the Dockerfile from its last `FROM` on.
fn last_stage(dockerfile: &str) -> Result<&str> {
    let begin = dockerfile
        .rfind("\nFROM ")
        .context("the Dockerfile has no FROM")?;
    Ok(&dockerfile[begin + 1..])
}

/// Returns the option for the shipped seccomp filter.
fn profile() -> String {
    "--security-opt=seccomp=packaging/docker/seccomp.json".to_owned()
}

/// Returns the options of `docker run` in the Dockerfile's first comment, each as one word.
fn options(dockerfile: &str) -> Result<Vec<String>> {
    let lines = dockerfile
        .lines()
        .map(|line| line.trim_start_matches('#').trim());
    let mut lines = lines.skip_while(|line| !line.starts_with("docker run "));
    let mut words = Vec::new();
    for line in &mut lines {
        let (line, continues) = line
            .strip_suffix('\\')
            .map_or((line, false), |line| (line, true));
        words.extend(line.split_whitespace());
        if !continues {
            break;
        }
    }
    let words = words
        .strip_prefix(&["docker", "run"])
        .and_then(|words| words.strip_suffix(&["fdwatch"]));
    let words = words.context("no `docker run ... fdwatch` in the Dockerfile")?;
    let mut options: Vec<String> = Vec::new();
    for word in words {
        match options.last_mut() {
            // The option's value.
            Some(option) if !word.starts_with("--") => *option = format!("{option}={word}"),
            _ => options.push((*word).to_owned()),
        }
    }
    Ok(options)
}

/// Returns the capabilities that these options add.
fn added(options: &[String]) -> BTreeSet<&str> {
    let added = options
        .iter()
        .filter_map(|option| option.strip_prefix("--cap-add="));
    added.collect()
}

/// Returns the items of the manifest's first list `add`.
fn capabilities(manifest: &str) -> Vec<&str> {
    let listed = manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "add:");
    let items = listed.skip(1).map_while(|line| line.strip_prefix("- "));
    items
        .filter_map(|item| item.split_whitespace().next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_of_manifest_are_parsed() {
        let manifest =
            "drop: [\"ALL\"]\n  add:\n    - BPF # why\n    - PERFMON\nresources:\n  - X\n";
        assert_eq!(capabilities(manifest), ["BPF", "PERFMON"]);
        assert_eq!(capabilities("add: []\n"), [""; 0]);
        let own = read(MANIFEST).unwrap();
        let image = concat!("image: &image fdwatch:", env!("CARGO_PKG_VERSION"), "\n");
        assert!(own.contains(image), "the manifest names another version");
    }

    #[test]
    fn options_are_joined_with_values() {
        let text = "# x\n#     docker run --rm --pid=host \\\n#   --cap-add A --cap-add B \\\n#  fdwatch\n# y\n";
        let options = options(text).unwrap();
        assert_eq!(
            options,
            ["--rm", "--pid=host", "--cap-add=A", "--cap-add=B"]
        );
        assert_eq!(added(&options), BTreeSet::from(["A", "B"]));
    }

    #[test]
    fn containers_and_unit_have_same_capabilities() {
        let unit = read("packaging/systemd/fdwatch.service").unwrap();
        let bounding = unit
            .lines()
            .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let names = bounding
            .unwrap()
            .split(' ')
            .map(|name| name.trim_start_matches("CAP_"));
        // SYS_ADMIN is for some hosts only; SYS_RESOURCE replaces LimitMEMLOCK=.
        let mut expected: BTreeSet<_> = names.filter(|name| *name != "SYS_ADMIN").collect();
        expected.insert("SYS_RESOURCE");
        let manifest = read(MANIFEST).unwrap();
        assert_eq!(
            capabilities(&manifest).into_iter().collect::<BTreeSet<_>>(),
            expected
        );
        let options = options(&read(DOCKERFILE).unwrap()).unwrap();
        assert_eq!(added(&options), expected);
        assert!(options.contains(&profile()), "{options:?}");
    }
}
