//! `fdwatch watch --json`, and what it tells.

use std::process::Stdio;

use serde_json::Value;

use super::{Guard, fdwatch, lines::Lines, parse};

/// A watch that is going on.
pub(crate) struct Watch {
    process: Guard,
    lines: Lines,
    stderr: Lines,
    /// What it told when it had started.
    pub(crate) started: Value,
}

/// What a watch told after it was asked to end.
pub(crate) struct Ended {
    /// What it told of findings that had not been taken yet.
    pub(crate) findings: Vec<Value>,
    /// What it told of losses, likewise.
    pub(crate) losses: Vec<Value>,
    /// The last line.
    pub(crate) summary: Value,
    /// The exit code.
    pub(crate) code: Option<i32>,
}

impl Watch {
    /// Starts one, and waits until it follows all processes.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = fdwatch(["watch", "--json"]);
        if !arguments.contains(&"--max-cpu") {
            // Not optimized, it would soon be beyond the default.
            command.args(["--max-cpu", "100"]);
        }
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let lines = Lines::of(process.0.stdout.take().expect("it was asked for"));
        let stderr = Lines::of(process.0.stderr.take().expect("it was asked for"));
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

    /// Watches one process, with what else there is to say.
    pub(crate) fn of(pid: u32, arguments: &[&str]) -> Self {
        let pid = pid.to_string();
        Self::start(&[&["--pid", &pid], arguments].concat())
    }

    /// What it tells next.
    fn next(&mut self) -> Value {
        let Some(line) = self.lines.next() else {
            let ended = self.process.0.try_wait().ok().flatten();
            self.process.kill();
            let said = self.stderr.rest().join("\n");
            panic!("nothing was told; fdwatch ended: {ended:?}; it said:\n{said}");
        };
        let line = parse(&line);
        assert_eq!(line["schema"], 1, "{line}");
        line
    }

    /// What it tells next of this type, whatever else comes before.
    pub(crate) fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let line = self.next();
            if line["type"] == kind {
                return line;
            }
        }
    }

    /// The next finding, which is to be of this `change`.
    pub(crate) fn finding(&mut self, change: &str) -> Value {
        let line = self.next();
        assert_eq!(line["type"], "finding", "{line}");
        assert_eq!(line["change"], change, "{line}");
        line
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Interrupts it, and takes what it has still to tell.
    pub(crate) fn end(self) -> Ended {
        self.signal(libc::SIGINT);
        self.ended()
    }

    /// Takes what it has still to tell, when it ends by itself.
    pub(crate) fn ended(mut self) -> Ended {
        let lines = self.lines.rest();
        let lines: Vec<_> = lines.iter().map(|line| parse(line)).collect();
        let code = self.process.wait();
        let of = |kind: &str| {
            let lines = lines.iter().filter(|line| line["type"] == kind);
            lines.cloned().collect()
        };
        let summary = lines.last().cloned().unwrap_or_default();
        let said = self.stderr.rest().join("\n");
        assert_eq!(summary["type"], "summary", "code {code:?}; {said}");
        Ended {
            findings: of("finding"),
            losses: of("loss"),
            summary,
            code,
        }
    }
}

impl Ended {
    /// Holds that nothing but the summary was left to tell, that nothing was lost, and how many
    /// findings were told in all: found, changed, gone.
    pub(crate) fn assert_told(&self, found: u64, changed: u64, gone: u64) {
        assert_eq!(self.code, Some(0));
        assert!(self.findings.is_empty(), "{:?}", self.findings);
        let counts = &self.summary["findings"];
        let counts = [&counts["found"], &counts["changed"], &counts["gone"]];
        assert_eq!(counts, [found, changed, gone], "{}", self.summary);
        assert_eq!(self.summary["lost"]["total"], 0, "{}", self.summary);
    }
}
