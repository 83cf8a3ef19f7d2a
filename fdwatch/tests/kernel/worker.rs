//! A child that works step by step, so that the test can check its state in between.

use std::{
    env,
    io::{Read as _, Write as _},
    process::{Child, Stdio},
};

use crate::watching::again;

/// Environment variable that identifies the child.
const CHILD: &str = "FDWATCH_TEST_CHILD";

/// The child, and its last step.
pub(crate) struct Worker {
    pub(crate) child: Child,
    pub(crate) at: String,
}

impl Worker {
    pub(crate) fn start(part: &str) -> Self {
        let child = again(part)
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut worker = Self {
            child,
            at: String::new(),
        };
        assert!(worker.reached());
        worker
    }

    /// Lets it take the next step. Returns whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        self.child.stdin.as_mut().unwrap().write_all(b".").unwrap();
        self.reached()
    }

    fn reached(&mut self) -> bool {
        let mut line = Vec::new();
        let mut byte = [0];
        let output = self.child.stderr.as_mut().unwrap();
        while output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        self.at = String::from_utf8(line).unwrap();
        !self.at.is_empty()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether this process is such a child.
pub(crate) fn is_worker() -> bool {
    env::var_os(CHILD).is_some()
}

/// Reports a step as done, and waits for the next.
pub(crate) fn step(done: &str) {
    eprintln!("{done}");
    let mut byte = [0];
    if std::io::stdin().read(&mut byte).unwrap() == 0 {
        std::process::exit(0);
    }
}

/// Reports that there are no more steps.
pub(crate) fn end() {
    eprintln!();
}
