//! The tracers under which calls are timed: none, programs that do nothing, fdwatch, and its alternatives.

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
use xtask_support::{
    cargo::{fdwatch, target_directory},
    shell::which,
};

use super::figures::PROFILE;

/// Timeout of detaching: the kernel waits for a grace period for each tracepoint.
const LIMIT: Duration = Duration::from_secs(60);

/// A tracer.
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

    /// Returns whether it is installed.
    pub(super) fn is_installed(self) -> bool {
        match self {
            Self::None | Self::Floor | Self::Fdwatch | Self::FdwatchDetail => true,
            Self::Bpftrace => which("bpftrace"),
            Self::PerfTrace => which("perf"),
            Self::Strace => which("strace"),
        }
    }

    /// Attaches it: to this process, if it traces single processes.
    pub(super) fn start(self) -> Result<Option<Running>> {
        let own = process::id().to_string();
        // The command, and its output once it is attached.
        let (mut command, ready) = match self {
            Self::None => return Ok(None),
            Self::Floor => {
                let directory = target_directory()?.join(PROFILE.directory());
                (
                    Command::new(directory.join("examples/floor")),
                    Some("attached"),
                )
            }
            Self::Fdwatch | Self::FdwatchDetail => {
                let mut command = Command::new(fdwatch(PROFILE)?);
                // Without a CPU budget, so that it drops nothing.
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
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        if let Some(ready) = ready {
            let mut line = String::new();
            while !line.contains(ready) {
                line.clear();
                if output.read_line(&mut line)? == 0 {
                    bail!("{} exited before it was attached", self.name());
                }
            }
        } else {
            // perf and strace do not print when they are attached.
            thread::sleep(Duration::from_secs(2));
            if self == Self::Strace && !is_traced() {
                bail!("strace is not attached");
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

/// Returns whether the calling thread is traced with ptrace.
fn is_traced() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

/// An attached tracer.
pub(super) struct Running {
    child: Child,
    rest: thread::JoinHandle<String>,
}

impl Running {
    /// Its PID.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its CPU time in seconds.
    pub(super) fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // User and system time are the 14th and 15th field, in ticks of 1/100 s (`USER_HZ`, which is 100 on
        // all architectures with BPF).
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: Vec<f64> = ticks.filter_map(|field| field.parse().ok()).collect();
        ensure!(ticks.len() == 2, "cannot parse /proc/PID/stat");
        Ok(ticks.iter().sum::<f64>() / 100.0)
    }

    /// Stops it, waits until it is detached, and returns its last line, parsed as JSON.
    pub(super) fn stop(mut self) -> Result<Value> {
        let group = -i32::try_from(self.child.id()).context("invalid PID")?;
        // Some tracers exit when standard input ends.
        drop(self.child.stdin.take());
        // SAFETY: the call has no requirements; the group is the child's own.
        unsafe { libc::kill(group, libc::SIGINT) };
        self.child.wait()?;
        let last = self.rest.join().unwrap_or_default();
        // Processes that still hold the links are in its group.
        let deadline = Instant::now() + LIMIT;
        // This process may be a subreaper, which has to reap them.
        // SAFETY: the call writes nothing.
        let reap = || unsafe { libc::waitpid(group, std::ptr::null_mut(), libc::WNOHANG) };
        // SAFETY: as above.
        while reap() >= 0 || unsafe { libc::kill(group, 0) } == 0 {
            if Instant::now() > deadline {
                bail!("it does not detach within {} s", LIMIT.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(serde_json::from_str(&last).unwrap_or(Value::Null))
    }
}
