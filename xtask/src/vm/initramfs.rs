//! Builds fdwatch and its kernel tests, and packs them with the libraries they need.

use std::{
    collections::BTreeSet,
    env, fs,
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use xtask_support::{
    cargo::cargo,
    shell::{SHELL, capture, output, quote, which},
};

use super::{console::MARK, cpio::Archive};

pub(super) const BUSYBOX: &str = "busybox";

/// The kernel tests, which need no other programs.
const TESTS: [&str; 2] = ["--test", "kernel"];

/// System calls of the differential test: few, as emulation is about twenty times slower.
const CALLS: u32 = 9_000;

/// Descriptors of the test with many descriptors in one process.
const MANY: u32 = 5_000;

/// Writes the initramfs to `path`.
pub(super) fn build(path: &Path) -> Result<()> {
    let (fdwatch, tests) = programs()?;
    let busybox = find(BUSYBOX)?;
    let mut libraries = BTreeSet::new();
    for program in [&fdwatch, &tests, &busybox] {
        libraries.extend(libraries_of(program)?);
    }
    let stripped = path.with_extension("stripped");
    let writing = || format!("cannot write {}", path.display());

    let mut archive = Archive::new(BufWriter::new(File::create(path).with_context(writing)?));
    let mut add = |at: &Path, from: &Path| -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        archive.program(at, &content).with_context(writing)
    };
    add(Path::new("/bin/busybox"), &busybox)?;
    for library in &libraries {
        add(library, library)?;
    }
    add(Path::new("/bin/fdwatch"), strip(&fdwatch, &stripped)?)?;
    add(Path::new("/bin/tests"), strip(&tests, &stripped)?)?;

    let finish = || {
        for dir in ["/dev", "/proc", "/sys", "/tmp"] {
            archive.directory(Path::new(dir))?;
        }
        archive.program(Path::new("/init"), init(&fdwatch).as_bytes())?;
        archive.finish().map(drop)
    };
    finish().with_context(writing)
}

/// Returns the init script. `built` is the path at which the tests expect fdwatch.
fn init(built: &Path) -> String {
    // Linked after the mounts, as it may be below /tmp.
    let built = quote(built.as_os_str());
    format!(
        "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin FDWATCH_REQUIRE_BPF=1 FDWATCH_CALLS={CALLS} FDWATCH_MANY={MANY} RUST_BACKTRACE=0 NO_COLOR=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /tmp
mkdir -p \"$(dirname {built})\"
ln -s /bin/fdwatch {built}
cd /tmp
fdwatch doctor
echo \"{MARK} doctor $?\"
tests
echo \"{MARK} tests $?\"
poweroff -f
"
    )
}

/// Builds fdwatch and the tests.
fn programs() -> Result<(PathBuf, PathBuf)> {
    let mut build = cargo();
    build
        .args(["test", "--no-run", "--package", "fdwatch"])
        .args(TESTS)
        .arg("--message-format=json-render-diagnostics");
    let messages = capture(&mut build)?;
    let built = |name, kind| {
        executable(&messages, name, kind).with_context(|| format!("cargo built no {name}"))
    };
    Ok((built("fdwatch", "bin")?, built(TESTS[1], "test")?))
}

/// Finds the executable of a target in cargo's JSON messages.
fn executable(messages: &str, name: &str, kind: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            let target = &message["target"];
            target["name"] == name && target["kind"][0] == kind
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// Strips debug information from `program`, nine tenths of its size, if `strip` is installed: while the kernel unpacks
/// the initramfs, it is in memory twice.
fn strip<'a>(program: &'a Path, stripped: &'a Path) -> Result<&'a Path> {
    if !which("strip") {
        return Ok(program);
    }
    let mut strip = Command::new("strip");
    strip
        .arg("--strip-debug")
        .arg("-o")
        .args([stripped, program]);
    SHELL.run(&mut strip)?;
    Ok(stripped)
}

/// Returns the shared libraries that `program` needs, and their loader.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    // ldd fails for a static program.
    let listed = output(Command::new("ldd").env("LC_ALL", "C").arg(program)).unwrap_or_default();
    parse_libraries(&listed).with_context(|| format!("cannot run {}", program.display()))
}

fn parse_libraries(listed: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in listed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match *words {
            [name, "=>", "not", "found"] => bail!("library {name} is not installed"),
            [_, "=>", path, _] | [path, _] if path.starts_with('/') => {
                libraries.push(PathBuf::from(path));
            }
            // The vDSO, or the message that there are none.
            _ => {}
        }
    }
    Ok(libraries)
}

fn find(program: &str) -> Result<PathBuf> {
    env::var_os("PATH")
        .iter()
        .flat_map(env::split_paths)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("{program} is not on PATH: install it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_parsed() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1c)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f1d)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(
            parse_libraries(listed).unwrap(),
            expected.map(PathBuf::from)
        );
        assert!(parse_libraries("\tstatically linked\n").unwrap().is_empty());
        assert!(parse_libraries("\tlibx.so => not found\n").is_err());
    }

    #[test]
    fn executable_is_found_by_name_and_kind() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"fdwatch"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"fdwatch"},"executable":"/t/debug/fdwatch"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"executable":"/t/debug/deps/kernel-1"}
{"reason":"build-finished","success":true}"#;
        let path = |name, kind| executable(messages, name, kind);
        assert_eq!(path("fdwatch", "bin"), Some("/t/debug/fdwatch".into()));
        assert_eq!(
            path("kernel", "test"),
            Some("/t/debug/deps/kernel-1".into())
        );
        assert_eq!(path("fdwatch", "lib"), None);
    }
}
