//! Tries the packages in clean systems: installs, upgrades, removes and purges the .deb on Debian 12,
//! and runs what is in both on the oldest glibc, that of Debian 11.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Packages, SHELL, contained,
    roots::{CURRENT, Root, System},
    service,
};
use crate::shell::{capture, is_root, say};

/// Has the oldest glibc.
const OLDEST: System = System {
    suite: "bullseye",
    packages: &[],
};

/// Whether the binary has the command `agent`, which checks the configuration.
const HAS_AGENT: bool = true;

const CONFIGURATION: &str = "/etc/fdwatch/agent.toml";
/// What an administrator adds to it, and what the next version of the package does.
const CHANGED: &str = "# as this host needs it\n";
const CHANGED_UPSTREAM: &str = "# as the next version has it\n";
/// The agent's, which goes when the package is purged.
const STATE: &str = "/var/lib/fdwatch/history.db";
/// The administrator's, which stays.
const KILL_SWITCH: &str = "/run/fdwatch.stop";
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/fdwatch.service";

/// What must be there once it is installed, and may do what; all of root.
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

/// Says beforehand what would fail in the end.
pub(super) fn check_privileges() -> Result<()> {
    ensure!(
        is_root(),
        "clean systems to try packages in are made by root: run this as root"
    );
    Ok(())
}

/// All trials.
pub(super) fn trial(packages: &Packages) -> Result<()> {
    life(packages).context("the .deb on Debian 12")?;
    oldest(packages).context("on Debian 11")?;
    contained::trial(packages).context("in containers")?;
    service::trial(packages).context("the service on Debian 12, under qemu")
}

/// From installation to purge.
fn life(packages: &Packages) -> Result<()> {
    let root = Root::new(CURRENT)?;
    let before = listing(&root)?;
    let deb = root.bring(&packages.deb)?;
    let next = root.bring(&next_version(&packages.deb)?)?;

    say("installs");
    root.run(&["dpkg", "--install", &deb])?;
    files(&root)?;
    root.run(&["dpkg", "--verify", "fdwatch"])?;
    works(&root, &packages.version)?;
    manual(&root)?;
    completion(&root)?;

    say("upgrades, with a configuration that was changed here and there");
    let shipped = read(&root, CONFIGURATION)?;
    fs::write(root.path(CONFIGURATION), format!("{shipped}{CHANGED}"))?;
    fs::set_permissions(root.path(CONFIGURATION), fs::Permissions::from_mode(0o640))?;
    fs::create_dir_all(root.path("/var/lib/fdwatch"))?;
    fs::write(root.path(STATE), "kept")?;
    fs::write(root.path(KILL_SWITCH), "")?;
    root.run(&["dpkg", "--force-confold", "--install", &next])?;
    let kept = read(&root, CONFIGURATION)?;
    ensure!(
        kept.ends_with(CHANGED),
        "the upgrade changed {CONFIGURATION}"
    );
    let offered = read(&root, &format!("{CONFIGURATION}.dpkg-dist"))?;
    ensure!(
        offered.ends_with(CHANGED_UPSTREAM),
        "the new {CONFIGURATION} is not offered"
    );
    let mode = fs::metadata(root.path(CONFIGURATION))?.mode() & 0o7777;
    ensure!(
        mode == 0o640,
        "the upgrade changed the mode of {CONFIGURATION} to {mode:o}"
    );
    ensure!(read(&root, STATE)? == "kept", "the upgrade changed {STATE}");
    is_enabled(&root)?;
    works(&root, &packages.version)?;

    say("removes, which keeps configuration and state");
    root.run(&["dpkg", "--remove", "fdwatch"])?;
    for path in [CONFIGURATION, STATE, KILL_SWITCH] {
        ensure!(root.path(path).exists(), "{path} was removed");
    }
    let gone = FILES.iter().filter(|(path, _)| *path != CONFIGURATION);
    for (path, _) in gone {
        ensure!(!root.path(path).exists(), "{path} was not removed");
    }

    say("installs again, and purges");
    root.run(&["dpkg", "--install", &next])?;
    ensure!(
        read(&root, CONFIGURATION)?.ends_with(CHANGED),
        "{CONFIGURATION} is another now"
    );
    root.run(&["dpkg", "--purge", "fdwatch"])?;
    ensure!(
        root.path(KILL_SWITCH).exists(),
        "the purge removed {KILL_SWITCH}"
    );
    fs::remove_file(root.path(KILL_SWITCH))?;
    let left: Vec<_> = listing(&root)?.difference(&before).cloned().collect();
    ensure!(
        left.is_empty(),
        "the purge left behind: {}",
        left.join(", ")
    );
    say("installed, upgraded, removed and purged; nothing is left of it");
    Ok(())
}

/// What is in both packages runs there.
fn oldest(packages: &Packages) -> Result<()> {
    let root = Root::new(OLDEST)?;
    let libc = root.capture(&["ldd", "--version"])?;
    say(format!(
        "tries the tar.gz on: {}",
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
    // As INSTALL says.
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

    say("installs the .deb there");
    let deb = root.bring(&packages.deb)?;
    root.run(&["dpkg", "--install", &deb])?;
    works(&root, &packages.version)
}

/// All that is to be there is, as it is to be.
fn files(root: &Root) -> Result<()> {
    for (path, mode) in FILES {
        has_mode(root, path, mode)?;
    }
    let installed = root.capture(&["dpkg", "--listfiles", "fdwatch"])?;
    for path in installed.lines().filter(|path| *path != "/.") {
        let metadata = fs::symlink_metadata(root.path(path))
            .with_context(|| format!("{path} is not there"))?;
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        ensure!(
            (uid, gid) == (0, 0),
            "{path} is of {uid}:{gid}, not of root"
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
        "configuration to be kept is {conffiles:?}"
    );
    is_enabled(root)
}

fn has_mode(root: &Root, path: &str, expected: u32) -> Result<()> {
    let metadata = fs::metadata(root.path(path)).with_context(|| format!("{path} is not there"))?;
    let mode = metadata.mode() & 0o7777;
    ensure!(
        mode == expected,
        "{path} has mode {mode:o}, not {expected:o}"
    );
    Ok(())
}

fn is_enabled(root: &Root) -> Result<()> {
    // It leads nowhere outside of that system.
    let enabled = fs::symlink_metadata(root.path(ENABLED)).is_ok();
    ensure!(enabled, "the service is not enabled");
    Ok(())
}

/// The binary runs, and reads descriptors.
fn works(root: &Root, version: &str) -> Result<()> {
    let said = root.capture(&["fdwatch", "--version"])?;
    ensure!(
        said.trim() == format!("fdwatch {version}"),
        "fdwatch --version says: {said}"
    );
    root.run(&["sh", "-c", "fdwatch scan --proc; test $? -le 1"])?;
    // Descriptors of a process that is known: the shell itself, with a file twice.
    let shown = root.capture(&[
        "sh",
        "-ec",
        "exec 3</etc/passwd 4</etc/passwd; fdwatch fds --proc --json $$",
    ])?;
    ensure!(
        shown.contains("/etc/passwd"),
        "fdwatch fds does not show what is open: {shown}"
    );
    if HAS_AGENT {
        root.run(&["fdwatch", "agent", "--check", CONFIGURATION])?;
    }
    Ok(())
}

/// The pages are found by name, and nothing in them is unknown to man.
fn manual(root: &Root) -> Result<()> {
    for (name, word) in [("fdwatch", "SUBCOMMANDS"), ("fdwatch-scan", "--min-fds")] {
        let page = root.capture(&["sh", "-c", "man --warnings \"$0\" 2>/tmp/warned", name])?;
        ensure!(
            page.contains(word),
            "the page {name} does not tell of {word}:\n{page}"
        );
        let warned = read(root, "/tmp/warned")?;
        ensure!(warned.is_empty(), "the page {name}: {warned}");
    }
    Ok(())
}

/// bash finds the completions by the command's name, and they complete commands and options.
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

/// Repacks `deb` as the version that follows it, with another configuration; no more than that is
/// another. Returns where it is.
fn next_version(deb: &Path) -> Result<PathBuf> {
    let dir = deb.with_file_name("next");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    let tree = dir.join("tree");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
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

/// All there is in that system, but for what dpkg and others write of their own doings.
fn listing(root: &Root) -> Result<BTreeSet<String>> {
    let found = capture(
        Command::new("find")
            .arg(root.path("/"))
            .args(["-xdev", "-printf", "/%P\\n"]),
    )?;
    let own = [
        "/var/lib/dpkg/",
        "/var/log/",
        "/var/cache/",
        "/tmp/",
        "/proc/",
    ];
    let is_others = |path: &&str| !own.iter().any(|own| path.starts_with(own));
    Ok(found.lines().filter(is_others).map(str::to_owned).collect())
}
