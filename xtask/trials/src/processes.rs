//! Child processes that never outlive the trial that started them.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Timeout of a program's start or exit.
const LIMIT: Duration = Duration::from_secs(30);

/// Interval of polling.
const POLL: Duration = Duration::from_millis(10);

/// Maximum number of bytes of a failed program's output that are shown.
const SHOWN: usize = 2_000;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Makes orphans children of this process, and Ctrl-C an error of the running trial, which cleans up.
pub(crate) fn adopt_orphans() -> Result<()> {
    let handler = on_signal as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    // SAFETY: the call takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot become a subreaper");
    }
    Ok(())
}

/// Returns whether Ctrl-C was pressed.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Sleeps for `duration`; fails on Ctrl-C.
pub(crate) fn pause(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        if is_interrupted() {
            bail!("interrupted");
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(POLL));
    }
}

/// Retries until it succeeds. Fails with the last error after [`LIMIT`].
pub(crate) fn eventually<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match attempt() {
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => pause(POLL)?,
            Ok(value) => return Ok(value),
        }
    }
}

/// Returns the bytes in the line `name` of the process's /proc/PID/status.
pub(crate) fn memory(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = kib.with_context(|| format!("no {name} in /proc/{pid}/status"))?;
    Ok(kib.parse::<u64>()? << 10)
}

/// A child process and the process group that it leads. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    pub(crate) child: Child,
    log: Option<std::path::PathBuf>,
}

impl Group {
    /// Starts `command`.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).process_group(0);
        // SAFETY: prctl may be called after a fork, whatever other threads did.
        unsafe {
            command.pre_exec(|| {
                // Even if this process is killed.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let name = command.get_program().display().to_string();
        let child = command.spawn();
        let child = child.with_context(|| format!("cannot run {name}"))?;
        Ok(Self {
            name,
            child,
            log: None,
        })
    }

    /// Starts `command` with its output appended to the file `log`.
    pub(crate) fn logging(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut group = Self::spawn(command.stdout(file.try_clone()?).stderr(file))?;
        group.log = Some(log.to_owned());
        Ok(group)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the leader.
    pub(crate) fn signal(&self, signal: libc::c_int) {
        send(self.child.id(), 1, signal);
    }

    /// Waits until it exits. Fails if it does, or after `limit`.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<()> {
        let Some(status) = self.wait(limit)? else {
            bail!("{} timed out after {} s", self.name, limit.as_secs());
        };
        if !status.success() {
            bail!("{} failed: {status}{}", self.name, self.output());
        }
        Ok(())
    }

    /// Fails if it has exited.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} exited: {status}{}", self.name, self.output());
        }
        Ok(())
    }

    /// Sends `signal` to the leader and waits until it exits.
    pub(crate) fn end(mut self, signal: libc::c_int) -> Result<()> {
        self.still_runs()?;
        self.signal(signal);
        if self.wait(LIMIT)?.is_none() {
            bail!("timed out waiting for {} to exit", self.name);
        }
        Ok(())
    }

    /// Stops the group, which keeps its descriptors open.
    pub(crate) fn freeze(&self) {
        send(self.child.id(), -1, libc::SIGSTOP);
    }

    /// Kills the group.
    pub(crate) fn kill(self) {
        drop(self);
    }

    fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            pause(POLL)?;
        }
        Ok(None)
    }

    fn output(&self) -> String {
        let output = self.log.as_ref().and_then(|log| fs::read(log).ok());
        let output = output.unwrap_or_default();
        let end = &output[output.len().saturating_sub(SHOWN)..];
        format!("\n{}", String::from_utf8_lossy(end))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Until it is reaped, its PID cannot be reused.
        if matches!(self.child.try_wait(), Ok(None)) {
            send(self.child.id(), -1, libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Kills and reaps all remaining descendants when dropped.
///
/// Programs create their own process groups and sessions; their orphans are children of this process.
#[derive(Debug)]
pub(crate) struct Sweep;

impl Drop for Sweep {
    fn drop(&mut self) {
        loop {
            for pid in children() {
                send(pid, 1, libc::SIGKILL);
            }
            // SAFETY: no status is requested. All children that are still in use have been reaped.
            if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } < 0 {
                break;
            }
        }
    }
}

fn children() -> Vec<u32> {
    let own = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The fields after the name, which may contain anything: state and parent.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        fields.split_whitespace().nth(1) == Some(&own)
    })
    .collect()
}

/// Sends a signal to a process that is not reaped, or, with the sign -1, to the group that it leads.
fn send(pid: u32, sign: libc::pid_t, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: the call takes numbers only.
        unsafe { libc::kill(sign * pid, signal) };
    }
}
