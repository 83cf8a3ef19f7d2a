//! Tests the packages in clean systems: installs, upgrades, removes and purges the .deb on Debian 12, and runs
//! the binaries of both packages with the oldest glibc, that of Debian 11.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use xtask_support::shell::{SHELL, capture, info, is_root};

use super::{
    contained,
    roots::{CURRENT, Root, System},
    service,
    target::Packages,
};

/// Debian 11, with the oldest supported glibc.
const OLDEST: System = System {
    suite: "bullseye",
    packages: &[],
};

const CONFIGURATION: &str = "/etc/fdwatch/agent.toml";
/// A change by an administrator, and a change in the package's next version.
const CHANGED: &str = "# local change\n";
const CHANGED_UPSTREAM: &str = "# change in the next version\n";
/// The agent's state, which a purge removes.
const STATE: &str = "/var/lib/fdwatch/history.db";
/// The administrator's file, which a purge must not remove.
const KILL_SWITCH: &str = "/run/fdwatch.stop";
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/fdwatch.service";

/// Files that must be installed, owned by root, and their modes.
const FILES: [(&str, u32); 15] = [
    ("/etc/fdwatch/agent.toml", 0o644),
    ("/usr/bin/fdwatch", 0o755),
    ("/usr/lib/systemd/system/fdwatch.service", 0o644),
    ("/usr/share/bash-completion/completions/fdwatch", 0o644),
    ("/usr/share/doc/fdwatch/README.md", 0o644),
    ("/usr/share/doc/fdwatch/changelog.Debian.gz", 0o644),
    ("/usr/share/doc/fdwatch/copyright", 0o644),
    ("/usr/share/doc/fdwatch/dependencies.gz", 0o644),
    ("/usr/share/doc/fdwatch/docs/packages.md", 0o644),
    ("/usr/share/doc/fdwatch/examples/agent.toml", 0o644),
    ("/usr/share/fdwatch", 0o755),
    ("/usr/share/fish/vendor_completions.d/fdwatch.fish", 0o644),
    ("/usr/share/man/man1/fdwatch.1.gz", 0o644),
    ("/usr/share/man/man1/fdwatch-scan.1.gz", 0o644),
    ("/usr/share/zsh/vendor-completions/_fdwatch", 0o644),
];

/// Fails early if the tests cannot run.
pub(super) fn check_privileges() -> Result<()> {
    ensure!(is_root(), "testing packages needs root: run this as root");
    Ok(())
}

/// Runs all tests.
pub(super) fn trial(packages: &Packages) -> Result<()> {
    lifecycle(packages).context("installing the .deb on Debian 12")?;
    // The emulated system uses one processor, and waits much of the time.
    thread::scope(|scope| {
        let service = scope.spawn(|| service::trial(packages));
        oldest(packages).context("running on Debian 11")?;
        contained::trial(packages).context("running in containers")?;
        let service = service.join().expect("the trial does not panic");
        service.context("running the service on Debian 12 under qemu")
    })
}

/// Tests the .deb from installation to purge.
fn lifecycle(packages: &Packages) -> Result<()> {
    let root = Root::new(CURRENT)?;
    let before = listing(&root)?;
    let deb = root.bring(&packages.deb)?;
    let next = root.bring(&next_version(&packages.deb)?)?;

    info("installing");
    root.run(&["dpkg", "--install", &deb])?;
    files(&root)?;
    root.run(&["dpkg", "--verify", "fdwatch"])?;
    works(&root, &packages.version)?;
    manual(&root)?;
    completion(&root)?;

    info("upgrading with a changed configuration");
    let shipped = read(&root, CONFIGURATION)?;
    fs::write(root.path(CONFIGURATION), format!("{shipped}{CHANGED}"))?;
    fs::set_permissions(root.path(CONFIGURATION), fs::Permissions::from_mode(0o640))?;
    fs::create_dir_all(root.path("/var/lib/fdwatch"))?;
    fs::write(root.path(STATE), "kept")?;
    fs::write(root.path(KILL_SWITCH), "")?;
    root.run(&["dpkg", "--force-confold", "--install", &next])?;
    let installed = read(&root, CONFIGURATION)?;
    ensure!(
        installed.ends_with(CHANGED),
        "the upgrade changed {CONFIGURATION}"
    );
    let offered = read(&root, &format!("{CONFIGURATION}.dpkg-dist"))?;
    ensure!(
        offered.ends_with(CHANGED_UPSTREAM),
        "the new {CONFIGURATION} is not installed as .dpkg-dist"
    );
    let mode = fs::metadata(root.path(CONFIGURATION))?.mode() & 0o7777;
    ensure!(
        mode == 0o640,
        "the upgrade changed the mode of {CONFIGURATION} to {mode:o}"
    );
    ensure!(read(&root, STATE)? == "kept", "the upgrade changed {STATE}");
    is_enabled(&root)?;
    works(&root, &packages.version)?;

    info("removing; configuration and state must remain");
    root.run(&["dpkg", "--remove", "fdwatch"])?;
    for path in [CONFIGURATION, STATE, KILL_SWITCH] {
        ensure!(root.path(path).exists(), "{path} was removed");
    }
    let removed = FILES.iter().filter(|(path, _)| *path != CONFIGURATION);
    for (path, _) in removed {
        ensure!(!root.path(path).exists(), "{path} was not removed");
    }

    info("reinstalling and purging");
    root.run(&["dpkg", "--install", &next])?;
    ensure!(
        read(&root, CONFIGURATION)?.ends_with(CHANGED),
        "the installation changed {CONFIGURATION}"
    );
    root.run(&["dpkg", "--purge", "fdwatch"])?;
    ensure!(
        root.path(KILL_SWITCH).exists(),
        "the purge removed {KILL_SWITCH}"
    );
    fs::remove_file(root.path(KILL_SWITCH))?;
    let left: Vec<_> = listing(&root)?.difference(&before).cloned().collect();
    ensure!(left.is_empty(), "the purge left: {}", left.join(", "));
    info("installed, upgraded, removed and purged");
    Ok(())
}

/// Runs the binaries of both packages with the oldest glibc.
fn oldest(packages: &Packages) -> Result<()> {
    let root = Root::new(OLDEST)?;
    let libc = root.capture(&["ldd", "--version"])?;
    info(format!(
        "testing the tar.gz with {}",
        libc.lines().next().unwrap_or_default()
    ));
    let tarball = root.bring(&packages.tarball)?;
    root.run(&[
        "tar",
        "--extract",
        "--file",
        &tarball,
        "--directory",
        "/tmp",
    ])?;
    let unpacked = tarball.trim_end_matches(".tar.gz").to_owned();
    // The commands in INSTALL.
    root.run(&[
        "sh",
        "-ec",
        "cd \"$0\"; cp -r --preserve=mode usr /; cp -rn --preserve=mode etc /",
        &unpacked,
    ])?;
    works(&root, &packages.version)?;
    for (path, mode) in FILES {
        has_mode(&root, path, mode)?;
    }
    root.run(&[
        "sh",
        "-ec",
        "cd \"$0\"; find usr -type f -print0 | (cd / && xargs -0 rm -f)",
        &unpacked,
    ])?;

    info("installing the .deb");
    let deb = root.bring(&packages.deb)?;
    root.run(&["dpkg", "--install", &deb])?;
    works(&root, &packages.version)
}

/// Checks the installed files.
fn files(root: &Root) -> Result<()> {
    for (path, mode) in FILES {
        has_mode(root, path, mode)?;
    }
    let installed = root.capture(&["dpkg", "--listfiles", "fdwatch"])?;
    for path in installed.lines().filter(|path| *path != "/.") {
        let metadata =
            fs::symlink_metadata(root.path(path)).with_context(|| format!("{path} is missing"))?;
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        ensure!(
            (uid, gid) == (0, 0),
            "{path} is owned by {uid}:{gid}, not by root"
        );
        ensure!(
            mode & 0o6022 == 0 || metadata.is_symlink(),
            "{path} has mode {mode:o}"
        );
    }
    for kind in [
        "/usr/share/fdwatch/prometheus",
        "/usr/share/fdwatch/grafana",
    ] {
        ensure!(
            fs::read_dir(root.path(kind))?.next().is_some(),
            "{kind} is empty"
        );
    }
    let conffiles = root.capture(&[
        "dpkg-query",
        "--show",
        "--showformat=${Conffiles}",
        "fdwatch",
    ])?;
    let conffiles: Vec<_> = conffiles
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .collect();
    ensure!(
        conffiles == [CONFIGURATION],
        "the conffiles are {conffiles:?}"
    );
    is_enabled(root)
}

fn has_mode(root: &Root, path: &str, expected: u32) -> Result<()> {
    let metadata = fs::metadata(root.path(path)).with_context(|| format!("{path} is missing"))?;
    let mode = metadata.mode() & 0o7777;
    ensure!(
        mode == expected,
        "{path} has mode {mode:o}, not {expected:o}"
    );
    Ok(())
}

fn is_enabled(root: &Root) -> Result<()> {
    // The link's target exists only in that system.
    let enabled = fs::symlink_metadata(root.path(ENABLED)).is_ok();
    ensure!(enabled, "the service is not enabled");
    Ok(())
}

/// Checks that the binary runs and reads descriptors.
fn works(root: &Root, version: &str) -> Result<()> {
    let printed = root.capture(&["fdwatch", "--version"])?;
    ensure!(
        printed.trim() == format!("fdwatch {version}"),
        "fdwatch --version prints {printed}"
    );
    root.run(&["sh", "-c", "fdwatch scan --proc; test $? -le 1"])?;
    // The descriptors of the shell itself, which has a file open twice.
    let shown = root.capture(&[
        "sh",
        "-ec",
        "exec 3</etc/passwd 4</etc/passwd; fdwatch fds --proc --json $$",
    ])?;
    ensure!(
        shown.contains("/etc/passwd"),
        "fdwatch fds does not list an open file: {shown}"
    );
    root.run(&["fdwatch", "agent", "--check", CONFIGURATION])
}

/// Checks that man finds the pages and formats them without warnings.
fn manual(root: &Root) -> Result<()> {
    for (name, word) in [("fdwatch", "SUBCOMMANDS"), ("fdwatch-scan", "--min-fds")] {
        let page = root.capture(&["sh", "-c", "man --warnings \"$0\" 2>/tmp/warned", name])?;
        ensure!(
            page.contains(word),
            "the page {name} has no {word}:\n{page}"
        );
        let warned = read(root, "/tmp/warned")?;
        ensure!(warned.is_empty(), "the page {name}: {warned}");
    }
    Ok(())
}

/// Checks that bash completes commands and options.
fn completion(root: &Root) -> Result<()> {
    let complete = |word: &str, before: &str| {
        let script = format!(
            ". /usr/share/bash-completion/bash_completion
            _completion_loader fdwatch
            COMP_WORDS=(fdwatch {before} {word}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            $(complete -p fdwatch | sed 's/.*-F \\([^ ]*\\).*/\\1/') fdwatch '{word}' '{before}'
            echo \"${{COMPREPLY[@]}}\""
        );
        root.capture(&["bash", "-c", &script])
    };
    let commands = complete("sc", "")?;
    ensure!(
        commands.trim() == "scan",
        "bash completes `fdwatch sc` to: {commands}"
    );
    let options = complete("--min", "scan")?;
    ensure!(
        options.trim() == "--min-fds",
        "bash completes `fdwatch scan --min` to: {options}"
    );
    Ok(())
}

fn read(root: &Root, path: &str) -> Result<String> {
    fs::read_to_string(root.path(path)).with_context(|| format!("cannot read {path}"))
}

/// Repacks `deb` with the next version number and a changed configuration. Returns its path.
fn next_version(deb: &Path) -> Result<PathBuf> {
    let dir = deb.with_file_name("next");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let tree = dir.join("tree");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    SHELL.run(
        Command::new("dpkg-deb")
            .arg("--raw-extract")
            .arg(deb)
            .arg(&tree),
    )?;
    let configuration = tree.join(CONFIGURATION.trim_start_matches('/'));
    let shipped = fs::read_to_string(&configuration)?;
    fs::write(&configuration, format!("{shipped}{CHANGED_UPSTREAM}"))?;
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    let version = text.lines().find(|line| line.starts_with("Version: "));
    let version = version.context("the package has no version")?;
    fs::write(&control, text.replace(version, &format!("{version}+next")))?;
    let next = dir.join("fdwatch-next.deb");
    SHELL.run(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zgzip", "-z1", "--build"])
            .arg(&tree)
            .arg(&next),
    )?;
    Ok(next)
}

/// Returns all files in the system except logs, caches and dpkg's own.
fn listing(root: &Root) -> Result<BTreeSet<String>> {
    let found = capture(
        Command::new("find")
            .arg(root.path("/"))
            .args(["-xdev", "-printf", "/%P\\n"]),
    )?;
    let ignored = [
        "/var/lib/dpkg/",
        "/var/log/",
        "/var/cache/",
        "/tmp/",
        "/proc/",
    ];
    let is_kept = |path: &&str| !ignored.iter().any(|ignored| path.starts_with(ignored));
    Ok(found.lines().filter(is_kept).map(str::to_owned).collect())
}
