//! Runs fdwatch in containers, by podman: of the image that the last stage of `packaging/docker/Dockerfile`
//! makes, as the command in that file says, and as `packaging/kubernetes/daemonset.yaml` would.
//!
//! Of the first stage, which builds fdwatch, there is what is in the package.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{Packages, SHELL, SOURCES, read, roots};
use crate::{
    apt,
    shell::{capture, describe, say, which},
    workloads::processes::{Group, eventually},
};

const MANIFEST: &str = "packaging/kubernetes/daemonset.yaml";
const DOCKERFILE: &str = "packaging/docker/Dockerfile";
/// What the image is made from, as the Dockerfile calls it.
const BASE: &str = "docker.io/library/debian:bookworm-slim";
/// What is copied from the stage that builds, and where from.
const BUILT: [(&str, &str); 2] = [
    (
        "fdwatch/src/agent/config/example.toml",
        "fdwatch/fdwatch/src/agent/config/example.toml",
    ),
    (
        "packaging/debian/copyright",
        "fdwatch/packaging/debian/copyright",
    ),
];
/// Where the binary is in that stage.
const BINARY: &str = "fdwatch/fdwatch-stripped";
const NAME: &str = "fdwatch-trial";
/// Whose process is to be seen: no one's that the container runs as.
const NOBODY: &str = "65534";
/// Whose process holds this, twice.
const HOLDER: &str = "exec 3>\"$0\" 4>\"$0\"; sleep 600";

pub(super) fn trial(packages: &Packages) -> Result<()> {
    let (dockerfile, manifest) = (read(DOCKERFILE)?, read(MANIFEST)?);
    let engine = Engine::new()?;
    engine.make_image(&dockerfile, &packages.deb)?;
    // Mounts what the container gets of the host; and says what the host itself allows.
    SHELL.run(
        Command::new("sh")
            .args(["-c", "\"$0\" doctor; test $? -le 1"])
            .arg(engine.binary()),
    )?;
    let mut options = options(&dockerfile)?;
    options.retain(|option| !option.contains(":/var/lib/fdwatch"));
    if is_perf_closed() {
        options.push("--cap-add=SYS_ADMIN".to_owned());
    }
    engine.filter_of_its_own(&options)?;
    agent(&engine, &options)?;
    as_the_manifest(&engine, &manifest)
}

/// The agent, as it is run for long: of the host's processes it finds what is held twice.
fn agent(engine: &Engine, options: &[String]) -> Result<()> {
    let state = engine.directory.path().join("state");
    fs::create_dir(&state)?;
    let file = engine.directory.path().join("held-twice.log");
    fs::write(&file, "")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    fs::set_permissions(engine.directory.path(), fs::Permissions::from_mode(0o755))?;
    let mut holder = Command::new("setpriv");
    holder.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    let holder = Group::spawn(holder.args(["sh", "-c", HOLDER]).arg(&file))?;

    // It stays there when it has ended, to be asked how it did.
    let options: Vec<_> = options
        .iter()
        .filter(|&option| option != "--rm")
        .cloned()
        .collect();
    let mut run = engine.run(&options);
    run.args(["--detach", "--name", NAME, "--volume"]);
    let volume = format!("{}:/var/lib/fdwatch", state.display());
    capture(run.args([&volume, "fdwatch"]))?;
    let of_agent = |arguments: &[&str]| capture(engine.podman().args(arguments));
    let found = eventually(|| {
        let found = of_agent(&[
            "exec",
            NAME,
            "fdwatch",
            "watch",
            "--json",
            "--duration",
            "1s",
        ])?;
        let path = file.display().to_string();
        let finding = found.lines().find(|line| line.contains(&path));
        finding
            .map(str::to_owned)
            .context("what is held twice is not found")
    });
    let log = output(engine.podman().args(["logs", NAME]))?;
    let log = String::from_utf8_lossy(&log.stderr).into_owned();
    say(format!("the agent says: {}", log.trim()));
    let found = found?;
    let pid = format!("\"pid\":{},", holder.pid());
    ensure!(
        found.contains(&pid),
        "it is told of another process: {found}"
    );
    ensure!(!log.contains("WARN"), "the agent warns");

    let pid = of_agent(&["inspect", "--format", "{{.State.Pid}}", NAME])?;
    confined(pid.trim(), &options)?;
    let written = of_agent(&["exec", NAME, "touch", "/etc/fdwatch/written"]);
    ensure!(written.is_err(), "the container's root can be written");
    SHELL.run(engine.podman().args(["stop", "--time", "10", NAME]))?;
    let code = of_agent(&["inspect", "--format", "{{.State.ExitCode}}", NAME])?;
    ensure!(code.trim() == "0", "the agent ended with {code}");
    ensure!(
        state.join("history.db").is_file(),
        "there is no history where it is to be"
    );
    holder.kill();
    say("the agent does in a container what it is to");
    Ok(())
}

/// Whether a process has the capabilities that were added, and no others, and is behind a filter.
fn confined(pid: &str, options: &[String]) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("the agent, {pid}, has ended"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
    };
    ensure!(field("Seccomp:") == Some("2"), "there is no seccomp filter");
    ensure!(
        field("NoNewPrivs:") == Some("1"),
        "it may get new privileges"
    );
    let bounding = field("CapBnd:").context("the kernel tells no capabilities")?;
    let names = capture(Command::new("capsh").arg(format!("--decode={bounding}")))?;
    let (_, names) = names.trim().split_once('=').unwrap_or_default();
    let has: BTreeSet<String> = names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.trim_start_matches("cap_").to_uppercase())
        .collect();
    let added = added(options);
    // One that the host has not itself cannot be handed on.
    ensure!(
        has.iter().all(|name| added.contains(name.as_str())),
        "it may have {has:?}, of which not all were added: {added:?}"
    );
    Ok(())
}

/// What the first container of the manifest does, with its capabilities and its mounts; and with the filter
/// that is shipped, as not all engines have one that would do.
fn as_the_manifest(engine: &Engine, manifest: &str) -> Result<()> {
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
    if is_perf_closed() {
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

/// podman, with all that it keeps in a directory that is deleted in the end.
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
            say("containers are run by podman and runc, which are not here");
            apt::install(SHELL, &missing)?;
        }
        let directory = tempfile::tempdir().context("cannot make a directory for containers")?;
        let place = directory.path().display();
        // vfs works on every file system.
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{place}/run\"\ngraphroot = \"{place}/graph\"\n"
        );
        fs::write(directory.path().join("storage.conf"), storage)?;
        // Limits that can be set by whoever may not raise his own. crun does not do on hosts with both
        // versions of cgroups.
        let engine = "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
            [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        fs::write(directory.path().join("containers.conf"), engine)?;
        Ok(Self { directory })
    }

    fn podman(&self) -> Command {
        let mut podman = Command::new("podman");
        let place = self.directory.path();
        podman.current_dir(SOURCES);
        podman.env("CONTAINERS_STORAGE_CONF", place.join("storage.conf"));
        podman.env("CONTAINERS_CONF", place.join("containers.conf"));
        podman
    }

    /// Nothing here needs a network.
    fn run(&self, options: &[String]) -> Command {
        let mut run = self.podman();
        run.args(["run", "--network=none"]).args(options);
        run
    }

    /// Where the binary is that the image is made of.
    fn binary(&self) -> PathBuf {
        self.directory.path().join("built").join(BINARY)
    }

    /// Makes the image `fdwatch` of the last stage of `dockerfile`, with the binary in `deb`.
    fn make_image(&self, dockerfile: &str, deb: &Path) -> Result<()> {
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
        let copies = BUILT.map(|(from, to)| (Path::new(SOURCES).join(from), to));
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
        // Of a root of hundreds of megabytes one more copy, not one for each line.
        build.args([
            "build",
            "--layers=false",
            "--isolation=chroot",
            "--pull=never",
        ]);
        SHELL.run(build.args(["--tag", "fdwatch"]).arg(&context))
    }

    /// With the engine's own filter fdwatch works, or says that it is the filter that is in its way.
    fn filter_of_its_own(&self, options: &[String]) -> Result<()> {
        let mut options = options.to_vec();
        options.retain(|option| !option.starts_with("--security-opt=seccomp="));
        let mut run = self.run(&options);
        run.args(["fdwatch", "doctor"]);
        let Output { status, stdout, .. } = output(&mut run)?;
        let said = String::from_utf8_lossy(&stdout);
        match status.code() {
            Some(0 | 1) => say("the engine's own seccomp filter allows what is needed"),
            Some(2) if said.contains("missing  seccomp") => {
                say("the engine's own seccomp filter is too narrow, and fdwatch says so");
            }
            code => anyhow::bail!("with the engine's own filter: {code:?}: {said}"),
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

/// Runs a command to its end, whatever that is.
fn output(command: &mut Command) -> Result<Output> {
    say(describe(command));
    let output = command.stdin(Stdio::null()).output();
    output.with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Whether this host opens perf events for `CAP_SYS_ADMIN` alone, by a patch of distributions.
fn is_perf_closed() -> bool {
    let setting = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    setting
        .trim()
        .parse::<i32>()
        .is_ok_and(|setting| setting > 2)
}

/// From its last `FROM` on.
fn last_stage(dockerfile: &str) -> Result<&str> {
    let begin = dockerfile
        .rfind("\nFROM ")
        .context("the Dockerfile has no stages")?;
    Ok(&dockerfile[begin + 1..])
}

/// The option for the filter that is shipped.
fn profile() -> String {
    "--security-opt=seccomp=packaging/docker/seccomp.json".to_owned()
}

/// The options of the command `docker run` in the Dockerfile's first comment, each as one word.
fn options(dockerfile: &str) -> Result<Vec<String>> {
    let lines = dockerfile
        .lines()
        .map(|line| line.trim_start_matches('#').trim());
    let mut lines = lines.skip_while(|line| !line.starts_with("docker run "));
    let mut words = Vec::new();
    for line in &mut lines {
        let (line, goes_on) = line
            .strip_suffix('\\')
            .map_or((line, false), |line| (line, true));
        words.extend(line.split_whitespace());
        if !goes_on {
            break;
        }
    }
    let words = words
        .strip_prefix(&["docker", "run"])
        .and_then(|words| words.strip_suffix(&["fdwatch"]));
    let words = words.context("the Dockerfile does not say how it is run")?;
    let mut options: Vec<String> = Vec::new();
    for word in words {
        match options.last_mut() {
            // Its value.
            Some(option) if !word.starts_with("--") => *option = format!("{option}={word}"),
            _ => options.push((*word).to_owned()),
        }
    }
    Ok(options)
}

/// The capabilities that are added by the options of a command.
fn added(options: &[String]) -> BTreeSet<&str> {
    let added = options
        .iter()
        .filter_map(|option| option.strip_prefix("--cap-add="));
    added.collect()
}

/// What is in the first list of the manifest that is called `add`.
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
    fn capabilities_are_the_manifests() {
        let manifest =
            "drop: [\"ALL\"]\n  add:\n    - BPF # why\n    - PERFMON\nresources:\n  - X\n";
        assert_eq!(capabilities(manifest), ["BPF", "PERFMON"]);
        assert_eq!(capabilities("add: []\n"), [""; 0]);
        let own = read(MANIFEST).unwrap();
        let image = concat!("image: &image fdwatch:", env!("CARGO_PKG_VERSION"), "\n");
        assert!(own.contains(image), "the manifest runs another version");
    }

    #[test]
    fn options_have_their_values() {
        let text = "# x\n#     docker run --rm --pid=host \\\n#   --cap-add A --cap-add B \\\n#  fdwatch\n# y\n";
        let options = options(text).unwrap();
        assert_eq!(
            options,
            ["--rm", "--pid=host", "--cap-add=A", "--cap-add=B"]
        );
        assert_eq!(added(&options), BTreeSet::from(["A", "B"]));
    }

    #[test]
    fn containers_and_the_unit_have_the_same_capabilities() {
        let unit = read("packaging/systemd/fdwatch.service").unwrap();
        let bounding = unit
            .lines()
            .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let names = bounding
            .unwrap()
            .split(' ')
            .map(|name| name.trim_start_matches("CAP_"));
        // The one is for some hosts alone, the other in place of LimitMEMLOCK=.
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
