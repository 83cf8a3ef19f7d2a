//! What is attached while the calls are timed: nothing, programs that do nothing, fdwatch, and what
//! people would use instead.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    process::{self, Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{shell::which, tasks};

/// The longest that one takes to attach, or to detach: the kernel waits for a grace period for each
/// tracepoint.
const LIMIT: Duration = Duration::from_secs(60);

/// Something that traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracer {
    None,
    Floor,
    Fdwatch,
    FdwatchDetail,
    Bpftrace,
    PerfTrace,
    Strace,
}

impl Tracer {
    pub(super) const ALL: [Self; 7] = [
        Self::None,
        Self::Floor,
        Self::Fdwatch,
        Self::FdwatchDetail,
        Self::Bpftrace,
        Self::PerfTrace,
        Self::Strace,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Floor => "floor",
            Self::Fdwatch => "fdwatch",
            Self::FdwatchDetail => "fdwatch, detail",
            Self::Bpftrace => "bpftrace",
            Self::PerfTrace => "perf trace",
            Self::Strace => "strace",
        }
    }

    /// Whether it can be run here.
    pub(super) fn is_here(self) -> bool {
        match self {
            Self::None | Self::Floor | Self::Fdwatch | Self::FdwatchDetail => true,
            Self::Bpftrace => which("bpftrace"),
            Self::PerfTrace => which("perf"),
            Self::Strace => which("strace"),
        }
    }

    /// Attaches it, to this process where it attaches to one.
    pub(super) fn start(self) -> Result<Option<Running>> {
        let own = process::id().to_string();
        // What it is, and what it says, on which output, when it is attached.
        let (mut command, ready) = match self {
            Self::None => return Ok(None),
            Self::Floor => {
                let floor = tasks::target_directory()?.join("release/examples/floor");
                (Command::new(floor), Some("attached"))
            }
            Self::Fdwatch | Self::FdwatchDetail => {
                let mut command = Command::new(tasks::fdwatch()?);
                // It is to follow whatever it takes.
                command.args(["watch", "--json", "--max-cpu", "100", "--detail"]);
                command.arg(if self == Self::Fdwatch {
                    "suspects"
                } else {
                    "all"
                });
                (command, Some("\"started\""))
            }
            Self::Bpftrace => {
                let mut command = Command::new("bpftrace");
                command.args(["-B", "line", "-e"]).arg(
                    "BEGIN { printf(\"attached\\n\"); } \
                     tracepoint:syscalls:sys_exit_openat { printf(\"%d %d\\n\", pid, args.ret); } \
                     tracepoint:syscalls:sys_enter_close { printf(\"%d %d\\n\", pid, args.fd); }",
                );
                (command, Some("attached"))
            }
            Self::PerfTrace => {
                let mut command = Command::new("perf");
                command.args(["trace", "-e", "openat,close", "-o", "/dev/null", "-p", &own]);
                (command, None)
            }
            Self::Strace => {
                let mut command = Command::new("strace");
                command.args([
                    "-f",
                    "-e",
                    "trace=openat,close,dup",
                    "-o",
                    "/dev/null",
                    "-p",
                    &own,
                ]);
                (command, None)
            }
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", self.name()))?;
        let mut output = BufReader::new(child.stdout.take().context("it has an output")?);
        if let Some(ready) = ready {
            let mut line = String::new();
            while !line.contains(ready) {
                line.clear();
                if output.read_line(&mut line)? == 0 {
                    bail!("{} ended before it was attached", self.name());
                }
            }
        } else {
            // These do not say when they are there. strace is the tracer of each thread then.
            thread::sleep(Duration::from_secs(2));
            if self == Self::Strace && !is_traced() {
                bail!("strace has not attached");
            }
        }
        let rest = thread::spawn(move || {
            let mut last = String::new();
            let mut rest = String::new();
            while output.read_line(&mut rest).is_ok_and(|len| len > 0) {
                std::mem::swap(&mut last, &mut rest);
                rest.clear();
            }
            let _ = output.read_to_end(&mut Vec::new());
            last
        });
        Ok(Some(Running { child, rest }))
    }
}

/// Whether the thread is traced by way of ptrace.
fn is_traced() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

/// A tracer that is attached.
pub(super) struct Running {
    child: Child,
    rest: thread::JoinHandle<String>,
}

impl Running {
    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Seconds of processor time that it has used.
    pub(super) fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // After the name: user and system time are the 14th and the 15th, in hundredths
        // (`USER_HZ`, which is 100 wherever there is BPF).
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: Vec<f64> = ticks.filter_map(|field| field.parse().ok()).collect();
        ensure!(
            ticks.len() == 2,
            "the kernel does not tell the time it used"
        );
        Ok(ticks.iter().sum::<f64>() / 100.0)
    }

    /// Ends it, waits until nothing of it is attached, and gives its last line.
    pub(super) fn stop(mut self) -> Result<Value> {
        let group = -i32::try_from(self.child.id()).context("a pid is positive")?;
        // Standard input ends, for those that wait for that.
        drop(self.child.stdin.take());
        // SAFETY: the call has no requirements; the group is the child's own.
        unsafe { libc::kill(group, libc::SIGINT) };
        self.child.wait()?;
        let last = self.rest.join().unwrap_or_default();
        // What still holds the links is of its group.
        let deadline = Instant::now() + LIMIT;
        // Where this process is who orphans come to, it is to see to their end.
        // SAFETY: the call writes nothing.
        let reap = || unsafe { libc::waitpid(group, std::ptr::null_mut(), libc::WNOHANG) };
        // SAFETY: as above.
        while reap() >= 0 || unsafe { libc::kill(group, 0) } == 0 {
            if Instant::now() > deadline {
                bail!("it does not detach");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(serde_json::from_str(&last).unwrap_or(Value::Null))
    }
}
