//! Support for integration tests: runs the fdwatch binary and programs for it to watch, and reads their state
//! from /proc.
//!
//! Cargo builds the binary for the integration tests of package `fdwatch`, so this crate serves those only.

pub mod agent;
pub mod lines;
mod log;
pub mod procfs;
pub mod puppet;
pub mod schema;
pub mod supervisord;
pub mod tls;
mod watch;

use std::{
    env,
    ffi::OsStr,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

pub use self::{agent::Agent, log::Log, puppet::Puppet, watch::Watch};

/// Limit of all waits. Long, because the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Interval between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Python of the distribution, which supervisord also uses.
pub const PYTHON: &str = "/usr/bin/python3";

/// Returns whether fdwatch can load its programs and Python is installed. Prints the reason if not; with
/// `FDWATCH_REQUIRE_BPF=1` panics instead.
pub fn bpf() -> bool {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    let reason = REASON.get_or_init(|| {
        if !is_root() {
            return Some("not root".to_owned());
        }
        let doctor = run(fdwatch(["doctor"]));
        if doctor.code == Some(2) {
            return Some(format!("fdwatch doctor reports:\n{}", doctor.stdout()));
        }
        None
    });
    reason.as_deref().is_none_or(skip) && program(PYTHON)
}

/// Returns whether a program is installed. If not, prints or panics as [`bpf`] does.
pub fn program(path: &str) -> bool {
    Path::new(path).exists() || skip(&format!("{path} is not installed"))
}

/// Returns whether the tests run as root. If not, prints or panics as [`bpf`] does.
pub fn root() -> bool {
    is_root() || skip("not root")
}

/// Returns a Python that has the packages of PyPI that tests need (`cargo xtask test` installs them), if it
/// exists.
pub fn python_with_packages() -> Option<PathBuf> {
    let python = binary().ancestors().nth(2)?.join("python/bin/python");
    program(python.to_str()?).then_some(python)
}

fn skip(reason: &str) -> bool {
    let required = env::var_os("FDWATCH_REQUIRE_BPF").is_some_and(|value| value == "1");
    assert!(!required, "cannot be skipped: {reason}");
    println!("skipped: {reason}");
    false
}

/// Returns whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no requirements.
    unsafe { libc::geteuid() == 0 }
}

/// Returns the path of the fdwatch binary: cargo places it beside the directory of the running test binary.
fn binary() -> PathBuf {
    let tests = env::current_exe().expect("/proc is mounted");
    let profile = tests.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    profile.join("fdwatch")
}

/// Returns a command that runs fdwatch, without using the host's agent.
pub fn fdwatch<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    command.env("FDWATCH_AGENT", "none");
    command
}

/// Returns the same command, run by the program and arguments of `prefix`.
pub fn under(prefix: &[String], command: Command) -> Command {
    let Some((program, arguments)) = prefix.split_first() else {
        return command;
    };
    let mut whole = Command::new(program);
    whole.args(arguments).arg(command.get_program());
    whole.args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            whole.env(name, value);
        }
    }
    whole
}

/// Exit code and output of a command.
pub struct Finished {
    /// Exit code, `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Returns standard output as text.
    pub fn stdout(&self) -> String {
        String::from_utf8(self.output.clone()).expect("standard output is not UTF-8")
    }

    /// Parses standard output as JSON, one object per line.
    pub fn json(&self) -> Vec<Value> {
        self.stdout().lines().map(parse).collect()
    }

    /// Asserts exit code 2 and exactly one error message. Returns standard error.
    pub fn error(&self) -> &str {
        assert_eq!(self.code, Some(2), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let lines = self.stderr.lines();
        let mut errors = lines.filter(|line| line.starts_with("error: "));
        assert!(
            errors.next().is_some() && errors.next().is_none(),
            "not exactly one error: {}",
            self.stderr
        );
        &self.stderr
    }
}

/// Runs a command until it exits.
pub fn run(mut command: Command) -> Finished {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Guard::spawn(&mut command);
    let output = child.0.stdout.take().map(read_all);
    let stderr = child.0.stderr.take().map(read_all);
    let code = child.wait();
    let read = |reader: Option<JoinHandle<Vec<u8>>>| {
        reader.map_or_else(Vec::new, |reader| reader.join().expect("a reader panicked"))
    };
    Finished {
        code,
        output: read(output),
        stderr: String::from_utf8_lossy(&read(stderr)).into_owned(),
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("cannot read a pipe");
        bytes
    })
}

/// Parses a line of JSON and validates fdwatch's objects against their schemas.
#[track_caller]
pub fn parse(line: &str) -> Value {
    let value = serde_json::from_str(line);
    let value = value.unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
    schema::validate(&value);
    value
}

/// Polls `look` until it returns a value.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "timed out waiting for {what}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// A child process that is killed when dropped.
pub struct Guard(
    /// The child.
    pub Child,
);

impl Guard {
    /// Starts `command` as a child of this thread and as leader of a process group.
    pub fn spawn(command: &mut Command) -> Self {
        use std::os::unix::process::CommandExt as _;
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                // Also ends it if the test process is killed.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("pid exceeds i32");
        // SAFETY: the child was not waited for, so the pid is still its own.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// Waits until it exits, and returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let status = eventually("the exit of a child", || {
            self.0.try_wait().expect("cannot wait for a child")
        });
        status.code()
    }

    /// Kills its process group and waits for it.
    pub fn kill(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let group = i32::try_from(self.pid()).expect("pid exceeds i32");
            // SAFETY: the leader was not waited for, so the group id is still its own.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            let _ = self.0.wait();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
    }
}
