//! What the tests that drive the binary have in common: how it is run, and what it is held against.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test crate uses some of it, and none uses all"
)]

pub(crate) mod agent;
pub(crate) mod clickhouse;
pub(crate) mod fleet;
pub(crate) mod hosts;
pub(crate) mod lines;
mod log;
pub(crate) mod procfs;
pub(crate) mod puppet;
pub(crate) mod schema;
pub(crate) mod supervisord;
pub(crate) mod tls;
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

pub(crate) use self::{agent::Agent, log::Log, puppet::Puppet, watch::Watch};

/// Until when what must happen has to have happened. Generous, for machines that have other things
/// to do.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How long to wait before looking again.
const AGAIN: Duration = Duration::from_millis(5);

/// The Python of the distribution, which is also supervisord's.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Whether fdwatch can watch here and the programs it watches in tests are there. Where not, why is
/// printed, or with `FDWATCH_REQUIRE_BPF=1` it is a failure.
pub(crate) fn bpf() -> bool {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    let reason = REASON.get_or_init(|| {
        if !is_root() {
            return Some("not root".to_owned());
        }
        let doctor = run(fdwatch(["doctor"]));
        if doctor.code == Some(2) {
            return Some(format!("fdwatch doctor says:\n{}", doctor.stdout()));
        }
        None
    });
    reason.as_deref().is_none_or(skip) && program(PYTHON)
}

/// Whether a program that a test needs is there. As for [`bpf`], if it is not.
pub(crate) fn program(path: &str) -> bool {
    Path::new(path).exists() || skip(&format!("there is no {path}"))
}

/// Whether the tests are run by root. As for [`bpf`], if they are not.
pub(crate) fn root() -> bool {
    is_root() || skip("not root")
}

/// A Python that has what tests need of PyPI (`cargo xtask test` gets it), if there is one.
pub(crate) fn python_with_packages() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_fdwatch"))
        .ancestors()
        .nth(2)?;
    let python = target.join("python/bin/python");
    program(python.to_str()?).then_some(python)
}

fn skip(reason: &str) -> bool {
    let required = env::var_os("FDWATCH_REQUIRE_BPF").is_some_and(|value| value == "1");
    assert!(!required, "cannot be skipped: {reason}");
    println!("skipped: {reason}");
    false
}

/// Whether the tests are run by root.
pub(crate) fn is_root() -> bool {
    // SAFETY: the call has no requirements.
    unsafe { libc::geteuid() == 0 }
}

/// A command line of fdwatch.
pub(crate) fn fdwatch<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fdwatch"));
    command.args(arguments).stdin(Stdio::null());
    // An agent of the host is not what is tested.
    command.env("FDWATCH_AGENT", "none");
    command
}

/// The same command, run by the program and the arguments of `prefix`.
pub(crate) fn under(prefix: &[String], command: Command) -> Command {
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

/// What came of a command.
pub(crate) struct Finished {
    /// Its exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote.
    pub(crate) output: Vec<u8>,
    /// What it said on standard error.
    pub(crate) stderr: String,
}

impl Finished {
    /// What it wrote, as text.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.output.clone()).expect("standard output is not UTF-8")
    }

    /// What it wrote, an object on each line.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout().lines().map(parse).collect()
    }

    /// Holds that it failed as fdwatch does, and gives what it said.
    pub(crate) fn error(&self) -> &str {
        assert_eq!(self.code, Some(2), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let lines = self.stderr.lines();
        let mut errors = lines.filter(|line| line.starts_with("fdwatch: error: "));
        assert!(
            errors.next().is_some() && errors.next().is_none(),
            "not one error: {}",
            self.stderr
        );
        &self.stderr
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Finished {
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
        from.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

/// A line of JSON. What is fdwatch's has the form that is documented.
#[track_caller]
pub(crate) fn parse(line: &str) -> Value {
    let value = serde_json::from_str(line);
    let value = value.unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
    schema::hold(&value);
    value
}

/// Looks again and again until there is what is looked for.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "in vain waited for: {what}");
        thread::sleep(AGAIN);
    }
}

/// A child process that does not outlive its test.
pub(crate) struct Guard(pub(crate) Child);

impl Guard {
    /// Starts `command` as a child of this thread, and as the leader of a process group.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        use std::os::unix::process::CommandExt as _;
        command.process_group(0);
        // SAFETY: prctl may be called after a fork, whatever other threads did.
        unsafe {
            command.pre_exec(|| {
                // Not even if the test is killed.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a pid is an i32");
        // SAFETY: the call takes numbers only; the child was not waited for, so that its pid is its.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    /// Waits for its end, and gives the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let status = eventually("the end of a child", || {
            self.0.try_wait().expect("a child can be waited for")
        });
        status.code()
    }

    /// Ends it, and what it has started, at once.
    pub(crate) fn kill(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let group = i32::try_from(self.pid()).expect("a pid is an i32");
            // SAFETY: the call takes numbers only; the group's leader was not waited for.
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
