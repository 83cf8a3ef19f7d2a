//! Stacks of programs built without frame pointers.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use fdwatch_test_support::{Guard, Puppet, Watch, bpf, program};
use serde_json::Value;

const COMPILER: &str = "/usr/bin/cc";

/// The program `fixtures/nested.c`.
struct Nested {
    process: Guard,
    stdin: ChildStdin,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Nested {
    /// Compiles the program and starts it in one of its modes.
    fn start(mode: &str) -> Self {
        let directory = tempfile::tempdir().expect("cannot create a directory");
        let at = directory.path().canonicalize().expect("missing");
        let (program, log) = (at.join("nested"), at.join("log"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nested.c");
        let built = Command::new(COMPILER)
            .args(["-O2", "-fomit-frame-pointer", "-o"])
            .args([&program, &source])
            .status();
        assert!(built.expect("cannot run the compiler").success());
        let mut command = Command::new(&program);
        command.arg(mode).arg(&log).stdin(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let stdin = process.0.stdin.take().expect("the pipe was requested");
        Self {
            process,
            stdin,
            log,
            _directory: directory,
        }
    }

    fn go_on(&mut self) {
        writeln!(self.stdin).expect("program has exited");
    }
}

/// Returns the names of a stack's functions; unknown ones are empty.
fn symbols(stack: &Value) -> Vec<&str> {
    let frames = stack.as_array().expect("no stack").iter();
    frames
        .map(|frame| frame["symbol"].as_str().unwrap_or_default())
        .collect()
}

/// Asserts that a stack has these functions, innermost first.
#[track_caller]
fn assert_in_order(stack: &Value, names: &[&str]) {
    let symbols = symbols(stack);
    let mut rest = symbols.iter();
    for name in names {
        assert!(rest.any(|symbol| symbol == name), "{name}: {symbols:?}");
    }
}

/// Asserts that a stack reaches the program's start.
#[track_caller]
fn assert_whole(stack: &Value) {
    let symbols = symbols(stack);
    let is_start = |symbol: &&str| symbol.starts_with("__libc_start") || *symbol == "_start";
    assert!(symbols.iter().any(is_start), "{symbols:?}");
}

fn can_compile() -> bool {
    bpf() && program(COMPILER)
}

#[test]
fn python_stacks_reach_main() {
    if !bpf() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut puppet = Puppet::start();
    let mut watch = Watch::of(puppet.pid(), &[]);
    // The stack contains C and Python frames, as in real programs.
    let open = format!(
        "logs = [open({:?}, 'a') for _ in range(2)]",
        log.to_str().unwrap()
    );
    puppet.exec(&open);
    let found = watch.finding("found");
    for fd in found["fds"].as_array().unwrap() {
        let stack = &fd["stack"];
        assert_in_order(stack, &["_PyEval_EvalFrameDefault", "Py_BytesMain"]);
        assert_whole(stack);
        assert!(stack.as_array().unwrap().len() > 8, "{fd}");
    }
    puppet.exec("logs.pop().close()");
    let gone = watch.finding("gone");
    let stack = &gone["closed"][0]["closed_stack"];
    assert!(symbols(stack)[0].contains("close"), "{gone}");
    assert_whole(stack);
    assert_eq!(gone["fds"][0].get("closed_stack"), None, "{gone}");
}

#[test]
fn stack_continues_through_libc_callback() {
    if !can_compile() {
        return;
    }
    let mut nested = Nested::start("sorts");
    let mut watch = Watch::of(nested.process.pid(), &[]);
    nested.go_on();
    let found = watch.finding("found");
    assert_eq!(found["file"]["path"], nested.log.to_str().unwrap());
    for fd in found["fds"].as_array().unwrap() {
        assert_in_order(&fd["stack"], &["opens", "compares", "sorts", "main"]);
        assert_whole(&fd["stack"]);
    }
    nested.go_on();
    let gone = watch.finding("gone");
    let stack = &gone["closed"][0]["closed_stack"];
    assert_in_order(stack, &["closes", "main"]);
    assert_in_order(&gone["closed"][0]["stack"], &["opens", "compares"]);
    watch.end().assert_counts(1, 0, 1);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn code_without_unwind_tables_ends_stack() {
    if !can_compile() {
        return;
    }
    let mut nested = Nested::start("makes-code");
    let mut watch = Watch::of(nested.process.pid(), &[]);
    nested.go_on();
    let found = watch.finding("found");
    for fd in found["fds"].as_array().unwrap() {
        let symbols = symbols(&fd["stack"]);
        let at = symbols.iter().position(|&symbol| symbol == "opens");
        let at = at.unwrap_or_else(|| panic!("{symbols:?}"));
        assert_eq!(symbols[at + 1..], [""], "{fd}");
    }
    watch.end().assert_counts(1, 0, 0);
}

#[test]
fn short_process_has_raw_stack() {
    if !can_compile() {
        return;
    }
    let mut nested = Nested::start("ends");
    let mut watch = Watch::of(nested.process.pid(), &[]);
    nested.go_on();
    // If it was already examined, it is reported twice.
    let gone = loop {
        let finding = watch.next_of("finding");
        if finding["change"] == "gone" {
            break finding;
        }
    };
    let closed = gone["closed"].as_array().unwrap();
    assert_eq!(closed.len(), 2, "{gone}");
    for fd in closed {
        assert!(fd["stack"][0]["address"].is_string(), "{gone}");
    }
    let ended = watch.end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.summary["lost"]["total"], 0, "{}", ended.summary);
}
