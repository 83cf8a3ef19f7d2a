//! A running `fdwatch watch --json` and its lines.

use std::{fs, process::Stdio};

use serde_json::Value;

use crate::{Guard, eventually, fdwatch, lines::Lines, parse};

/// A running watch.
pub struct Watch {
    process: Guard,
    lines: Lines,
    stderr: Lines,
    /// Its first line, `started`.
    pub started: Value,
}

/// Lines of a watch that has ended.
pub struct Ended {
    /// Findings that were not read before.
    pub findings: Vec<Value>,
    /// Losses that were not read before.
    pub losses: Vec<Value>,
    /// The last line.
    pub summary: Value,
    /// Exit code.
    pub code: Option<i32>,
}

impl Watch {
    /// Starts a watch and waits until it follows all processes.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = fdwatch(["watch", "--json"]);
        if !arguments.contains(&"--max-cpu") {
            // A debug build would exceed the default budget.
            command.args(["--max-cpu", "100"]);
        }
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let lines = Lines::of(process.0.stdout.take().expect("the pipe was requested"));
        let stderr = Lines::of(process.0.stderr.take().expect("the pipe was requested"));
        let mut watch = Self {
            process,
            lines,
            stderr,
            started: Value::Null,
        };
        watch.started = watch.next();
        assert_eq!(watch.started["type"], "started");
        watch
    }

    /// Watches one process, with further arguments.
    pub fn of(pid: u32, arguments: &[&str]) -> Self {
        let pid = pid.to_string();
        Self::start(&[&["--pid", &pid], arguments].concat())
    }

    /// Reads the next line.
    fn next(&mut self) -> Value {
        let Some(line) = self.lines.next() else {
            let ended = self.process.0.try_wait().ok().flatten();
            self.process.kill();
            let stderr = self.stderr.rest().join("\n");
            panic!("no line from fdwatch (exit status {ended:?}); stderr:\n{stderr}");
        };
        let line = parse(&line);
        assert_eq!(line["schema"], 1, "{line}");
        line
    }

    /// Reads lines until one has this type.
    pub fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let line = self.next();
            if line["type"] == kind {
                return line;
            }
        }
    }

    /// Reads the next line, which must be a finding with this `change`.
    pub fn finding(&mut self, change: &str) -> Value {
        let line = self.next();
        assert_eq!(line["type"], "finding", "{line}");
        assert_eq!(line["change"], change, "{line}");
        line
    }

    /// Waits until it has ticked about this many times, for what it does only every ten ticks and does not report: it
    /// sleeps between two ticks, which takes longer than 100 ms if the machine is busy.
    pub fn wait_for_ticks(&self, ticks: u64) {
        let sleeps = || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
            let mut lines = status.lines();
            let sleeps = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            sleeps.trim().parse::<u64>().ok()
        };
        let before = sleeps().expect("not running");
        eventually("ticks", || {
            sleeps().filter(|&sleeps| sleeps >= before + ticks)
        });
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Interrupts it and reads the remaining lines.
    pub fn end(self) -> Ended {
        self.signal(libc::SIGINT);
        self.ended()
    }

    /// Reads the remaining lines of a watch that ends by itself.
    pub fn ended(mut self) -> Ended {
        let lines = self.lines.rest();
        let lines: Vec<_> = lines.iter().map(|line| parse(line)).collect();
        let code = self.process.wait();
        let of = |kind: &str| {
            let lines = lines.iter().filter(|line| line["type"] == kind);
            lines.cloned().collect()
        };
        let summary = lines.last().cloned().unwrap_or_default();
        let stderr = self.stderr.rest().join("\n");
        assert_eq!(summary["type"], "summary", "code {code:?}; {stderr}");
        Ended {
            findings: of("finding"),
            losses: of("loss"),
            summary,
            code,
        }
    }
}

impl Ended {
    /// Asserts that only the summary remained, that no event was lost, and how many findings were found,
    /// changed and gone.
    pub fn assert_counts(&self, found: u64, changed: u64, gone: u64) {
        assert_eq!(self.code, Some(0));
        assert!(self.findings.is_empty(), "{:?}", self.findings);
        let counts = &self.summary["findings"];
        let counts = [&counts["found"], &counts["changed"], &counts["gone"]];
        assert_eq!(counts, [found, changed, gone], "{}", self.summary);
        assert_eq!(self.summary["lost"]["total"], 0, "{}", self.summary);
    }
}
