//! What the end-to-end tests share: running fdwatch, and programs that do to their descriptors what
//! they are told, step by step.

#![allow(
    dead_code,
    reason = "every test file is a crate of its own, and none needs all of it"
)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The distribution's, for there may be slow wrappers on the path.
pub const PYTHON: &str = "/usr/bin/python3";

/// How long anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the test can run: what it needs is there, and fdwatch can watch here. Says why not.
#[must_use]
pub fn can_run(needed: &[&str]) -> bool {
    let missing = needed.iter().find(|program| !Path::new(program).exists());
    let reason = match missing {
        Some(program) => format!("there is no {program}"),
        None => {
            let doctor = fdwatch(&["doctor"]);
            if doctor.status.code() != Some(2) {
                return true;
            }
            String::from_utf8_lossy(&doctor.stdout).into_owned()
        }
    };
    assert!(
        std::env::var_os("FDWATCH_REQUIRE_BPF").is_none(),
        "FDWATCH_REQUIRE_BPF is set, and {reason}"
    );
    println!("skipped: {reason}");
    false
}

/// Runs fdwatch to its end.
#[must_use]
pub fn fdwatch(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// fdwatch, about to be run.
#[must_use]
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fdwatch"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What was written, line by line.
#[must_use]
pub fn json_lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What was said on standard error.
#[must_use]
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that is ended with the test, however that ends.
pub struct Guarded(pub Child);

impl Guarded {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `fdwatch watch --json`, under way.
pub struct Watch {
    child: Guarded,
    lines: Receiver<Value>,
}

impl Watch {
    /// Begins to watch, and returns when all that happens from now on is seen.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = command(&["watch", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        let mut watch = Self {
            child: Guarded(child),
            lines,
        };
        watch.wait("the start", |line| line["type"] == "started");
        watch
    }

    /// Waits for the first line that is wanted; those before it are passed over.
    pub fn wait(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if is_wanted(&line) => return line,
                Ok(line) => println!("passed over while waiting for {what}: {line}"),
                Err(RecvTimeoutError::Timeout) => panic!("{what} was not told"),
                Err(RecvTimeoutError::Disconnected) => panic!("fdwatch ended before {what}"),
            }
        }
    }

    /// Waits for a finding with this change.
    pub fn finding(&mut self, change: &str) -> Value {
        self.wait(change, |line| {
            line["type"] == "finding" && line["change"] == change
        })
    }

    /// Ends it by a signal, and returns what it said until then: the last is the summary.
    #[must_use]
    pub fn end(mut self, signal: i32) -> Vec<Value> {
        let pid = self.child.pid().try_into().unwrap();
        // SAFETY: the child is there until it is waited for.
        unsafe { libc::kill(pid, signal) };
        let status = self.child.0.wait().unwrap();
        assert!(status.success(), "{status}");
        let rest: Vec<_> = self.lines.iter().collect();
        let summary = rest.last().expect("a summary");
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["lost"]["total"], 0, "{summary}");
        rest
    }
}

/// A Python program that waits at each `step()` to be told to go on.
pub struct Program {
    child: Guarded,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it, and returns when it is at its first step. `arguments` are `sys.argv[1:]`.
    #[must_use]
    pub fn start(code: &str, arguments: &[&str]) -> Self {
        let prelude = "import os, sys, time, fcntl, socket\n\
                       def step(*told):\n    \
                       print(*told, flush=True)\n    \
                       os.read(0, 1) or os._exit(0)\n";
        let mut child = Command::new(PYTHON)
            .args(["-c", &format!("{prelude}{code}\nstep()\n")])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self {
            child: Guarded(child),
            input,
            output,
        };
        program.reached();
        program
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Lets it go on to the next step, and returns what it tells there.
    pub fn step(&mut self) -> String {
        self.input.write_all(b".").unwrap();
        self.reached()
    }

    fn reached(&mut self) -> String {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap();
        assert!(read > 0, "the program has ended");
        line.trim_end().to_owned()
    }
}

/// The numbers of a finding's descriptors.
#[must_use]
pub fn numbers(fds: &Value) -> BTreeSet<u64> {
    let fds = fds.as_array().unwrap().iter();
    fds.map(|fd| fd["fd"].as_u64().unwrap()).collect()
}

/// The access modes of a finding's descriptors, in the order of their numbers.
#[must_use]
pub fn accesses(fds: &Value) -> Vec<&str> {
    let fds = fds.as_array().unwrap().iter();
    fds.map(|fd| fd["access"].as_str().unwrap()).collect()
}

/// The descriptors that /proc shows to be on a file.
#[must_use]
pub fn on_file(pid: u32, file: &Path) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let is_same = fs::read_link(entry.path()).ok()? == file;
            is_same.then(|| entry.file_name().to_str()?.parse().ok())?
        })
        .collect()
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
