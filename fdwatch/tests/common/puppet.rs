//! A process that opens and closes what a test tells it to.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use serde_json::Value;

use super::{Guard, PYTHON, lines::Lines, parse};

/// A Python that does what it is told: see `fixtures/puppet.py`.
pub(crate) struct Puppet {
    process: Guard,
    orders: ChildStdin,
    replies: Lines,
}

impl Puppet {
    /// Starts one, and waits until it is ready.
    pub(crate) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/puppet.py");
        let mut command = Command::new(PYTHON);
        command
            .args(["-I", "-S", "-B"])
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Guard::spawn(&mut command);
        let orders = process.0.stdin.take().expect("it was asked for");
        let replies = Lines::of(process.0.stdout.take().expect("it was asked for"));
        let mut puppet = Self {
            process,
            orders,
            replies,
        };
        puppet.tell("None");
        puppet
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Has it evaluate an expression, or execute statements, and gives the value.
    pub(crate) fn tell(&mut self, source: &str) -> Value {
        let order = Value::from(source);
        writeln!(self.orders, "{order}").expect("the puppet listens");
        let reply = self.replies.next();
        let reply = parse(&reply.unwrap_or_else(|| panic!("no reply to: {source}")));
        let failed = reply.get("failed").and_then(Value::as_str);
        assert!(failed.is_none(), "{source}: {}", failed.unwrap_or(""));
        reply["value"].clone()
    }

    /// Has it evaluate an expression whose value is a number that is not negative.
    pub(crate) fn number(&mut self, source: &str) -> u32 {
        let value = self.tell(source);
        let number = value.as_u64().and_then(|number| number.try_into().ok());
        number.unwrap_or_else(|| panic!("{source} is {value}"))
    }

    /// Has it open a file, and gives the descriptor. `flags` are as in Python's `os`, by words:
    /// `WRONLY|CREAT`.
    pub(crate) fn open(&mut self, path: &Path, flags: &str) -> u32 {
        self.number(&open(path, flags))
    }

    /// Has it close a descriptor.
    pub(crate) fn close(&mut self, fd: u32) {
        self.tell(&format!("os.close({fd})"));
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }
}

/// What a puppet is told for it to open a file. Without a word about close-on-exec that is off, as
/// it is for other programs.
pub(crate) fn open(path: &Path, flags: &str) -> String {
    let flags: Vec<_> = flags
        .split('|')
        .map(|flag| format!("os.O_{flag}"))
        .collect();
    let path = PathBuf::from(path).into_os_string().into_string();
    let path = Value::from(path.expect("the path is UTF-8"));
    // Not os.open(), which sets O_CLOEXEC itself.
    format!("libc.open({path}.encode(), {}, 0o644)", flags.join(" | "))
}
