//! Hostile names: escaped in text, unmodified in JSON.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use fdwatch_test_support::{Finished, Puppet, bpf, fdwatch, run};
use tempfile::TempDir;

/// A newline, an escape sequence, invalid UTF-8, and a right-to-left override.
const NAME: &[u8] = b"a\nb\x1b[31mc\xff\xfed\\e\xe2\x80\xaef.log";
const ESCAPED: &str = r"a\nb\x1b[31mc\xff\xfed\\e\u{202e}f.log";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Starts a process that holds a file with this name twice. Returns it with the file's directory.
fn holder(name: &[u8]) -> (Puppet, TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("cannot create a directory");
    let path = directory.path().join(OsStr::from_bytes(name));
    let mut puppet = Puppet::start();
    let bytes = hex(path.as_os_str().as_bytes());
    puppet.exec(&format!("path = bytes.fromhex('{bytes}')"));
    for flags in ["os.O_WRONLY | os.O_CREAT", "os.O_RDONLY"] {
        puppet.number(&format!("libc.open(path, {flags}, 0o644)"));
    }
    (puppet, directory, path)
}

fn report(command: &[&str], pid: u32) -> Finished {
    let mut command = fdwatch(command);
    let pid = pid.to_string();
    if command.get_args().next() == Some(OsStr::new("scan")) {
        command.arg("--pid");
    }
    command.arg(pid);
    run(command)
}

/// Asserts that text has no control characters and nothing that reorders it.
fn assert_harmless(text: &str) {
    for character in text.chars().filter(|&character| character != '\n') {
        assert!(!character.is_control(), "{character:?} in {text:?}");
    }
    assert!(!text.contains(['\u{202e}', '\u{fffd}']), "{text:?}");
}

#[test]
fn path_is_escaped_in_text() {
    if !bpf() {
        return;
    }
    let (puppet, directory, _) = holder(NAME);
    let shown = format!("{}/{ESCAPED}", directory.path().display());
    for command in ["scan", "fds"] {
        let text = report(&[command], puppet.pid()).stdout();
        assert_harmless(&text);
        assert!(text.contains(&shown), "{text}");
    }
}

#[test]
fn non_utf8_path_is_complete_in_json() {
    if !bpf() {
        return;
    }
    let (puppet, _directory, path) = holder(NAME);
    let bytes = path.as_os_str().as_bytes();
    let lossy = String::from_utf8_lossy(bytes);
    let lines = report(&["scan", "--json"], puppet.pid()).json();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["file"]["path_bytes"], hex(bytes));
    assert_eq!(lines[0]["file"]["path"], *lossy);
    let lines = report(&["fds", "--json"], puppet.pid()).json();
    let fds = lines[0]["fds"].as_array().unwrap().iter();
    let on_it = fds.filter(|fd| fd["file"]["path_bytes"] == hex(bytes));
    assert_eq!(on_it.count(), 2);
}

#[test]
fn utf8_path_is_unmodified_in_json() {
    if !bpf() {
        return;
    }
    let name = "größe\n\u{1b}[2J \"quoted\" \u{1f980}";
    let (puppet, _directory, path) = holder(name.as_bytes());
    let lines = report(&["scan", "--json"], puppet.pid()).json();
    let file = &lines[0]["file"];
    let path: &Path = &path;
    assert_eq!(file["path"].as_str().map(Path::new), Some(path));
    assert!(file.get("path_bytes").is_none(), "{file}");
}

#[test]
fn process_name_is_escaped_in_text() {
    if !bpf() {
        return;
    }
    let (mut puppet, _directory, _) = holder(b"x.log");
    puppet.exec("open('/proc/self/comm', 'wb').write(b'\\x1b[31m\\n\\xff)')");
    let text = report(&["scan"], puppet.pid()).stdout();
    assert_harmless(&text);
    assert!(text.contains(r"\x1b[31m\n\xff)["), "{text}");
    let lines = report(&["scan", "--json"], puppet.pid()).json();
    assert_eq!(lines[0]["process"]["comm"], "\u{1b}[31m\n\u{fffd})");
}
