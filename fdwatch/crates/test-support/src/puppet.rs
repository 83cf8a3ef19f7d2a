//! A process that opens and closes descriptors on a test's command.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use serde_json::Value;

use crate::{Guard, PYTHON, lines::Lines, parse};

/// A Python process that executes statements: see `fixtures/puppet.py`.
pub struct Puppet {
    process: Guard,
    orders: ChildStdin,
    replies: Lines,
}

impl Puppet {
    /// Starts one and waits until it is ready.
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/puppet.py");
        let mut command = Command::new(PYTHON);
        command
            .args(["-I", "-S", "-B"])
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let orders = process.0.stdin.take().expect("the pipe was requested");
        let replies = Lines::of(process.0.stdout.take().expect("the pipe was requested"));
        let mut puppet = Self {
            process,
            orders,
            replies,
        };
        puppet.exec("None");
        puppet
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Evaluates an expression, or executes statements, and returns the value.
    pub fn exec(&mut self, source: &str) -> Value {
        let order = Value::from(source);
        writeln!(self.orders, "{order}").expect("the puppet has ended");
        let reply = self.replies.next();
        let reply = parse(&reply.unwrap_or_else(|| panic!("no reply to: {source}")));
        let failed = reply.get("failed").and_then(Value::as_str);
        assert!(failed.is_none(), "{source}: {}", failed.unwrap_or(""));
        reply["value"].clone()
    }

    /// Evaluates an expression whose value is an unsigned number.
    pub fn number(&mut self, source: &str) -> u32 {
        let value = self.exec(source);
        let number = value.as_u64().and_then(|number| number.try_into().ok());
        number.unwrap_or_else(|| panic!("{source} is {value}"))
    }

    /// Opens a file and returns the descriptor. `flags` are names of Python's `os` without `O_`, such as
    /// `WRONLY|CREAT`.
    pub fn open(&mut self, path: &Path, flags: &str) -> u32 {
        self.number(&open(path, flags))
    }

    /// Closes a descriptor.
    pub fn close(&mut self, fd: u32) {
        self.exec(&format!("os.close({fd})"));
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// Returns the Python expression that opens a file, without close-on-exec unless `flags` has `CLOEXEC`.
pub fn open(path: &Path, flags: &str) -> String {
    let flags: Vec<_> = flags
        .split('|')
        .map(|flag| format!("os.O_{flag}"))
        .collect();
    let path = PathBuf::from(path).into_os_string().into_string();
    let path = Value::from(path.expect("not UTF-8"));
    // os.open() always sets O_CLOEXEC.
    format!("libc.open({path}.encode(), {}, 0o644)", flags.join(" | "))
}
