//! Processes that do not outlive what they were started for, whatever becomes of that.

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

/// How long a program may take to end when it is asked to.
const TO_END: Duration = Duration::from_secs(30);

/// How long to wait before looking again.
const AGAIN: Duration = Duration::from_millis(10);

/// Bytes of what a program said that are shown when it failed.
const SHOWN: usize = 2_000;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_interruption(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C and the like are an error of whatever is going on, for everything to be put
/// away on the way out; and who loses its parent becomes a child of this process.
pub(crate) fn take_charge() -> Result<()> {
    let handler = note_interruption as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    // SAFETY: the call takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot become the parent of orphans");
    }
    Ok(())
}

/// Whether this is to end.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Sleeps; fails if this is to end.
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
        thread::sleep(left.min(AGAIN));
    }
}

/// Tries until it works; fails with its last error after some time.
pub(crate) fn eventually<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + TO_END;
    loop {
        match attempt() {
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => pause(AGAIN)?,
            Ok(value) => return Ok(value),
        }
    }
}

/// Bytes of memory that the kernel tells of a process, in the line of its status that begins with `name`.
pub(crate) fn memory(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = kib.with_context(|| format!("the kernel does not tell {name}"))?;
    Ok(kib.parse::<u64>()? << 10)
}

/// A program that was started, and the process group that it leads.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    pub(crate) child: Child,
    log: Option<std::path::PathBuf>,
}

impl Group {
    /// Starts `command`, whose output goes where it says.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).process_group(0);
        // SAFETY: prctl may be called after a fork, whatever other threads did.
        unsafe {
            command.pre_exec(|| {
                // Not even if xtask is killed.
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

    /// Starts `command`, whose output goes to the file `log`.
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

    /// Sends the leader a signal.
    pub(crate) fn signal(&self, signal: libc::c_int) {
        send(self.child.id(), 1, signal);
    }

    /// Waits until it has ended by itself; fails if it does, or takes longer than `limit`.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<()> {
        let Some(status) = self.wait(limit)? else {
            bail!("{} took longer than {} s", self.name, limit.as_secs());
        };
        if !status.success() {
            bail!("{} failed: {status}{}", self.name, self.said());
        }
        Ok(())
    }

    /// Fails if it has ended.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended: {status}{}", self.name, self.said());
        }
        Ok(())
    }

    /// Asks the leader to end, and waits until it has.
    pub(crate) fn end(mut self, signal: libc::c_int) -> Result<()> {
        self.still_runs()?;
        self.signal(signal);
        if self.wait(TO_END)?.is_none() {
            bail!("{} does not end", self.name);
        }
        Ok(())
    }

    /// Stops all that the group does, with all that it holds: it goes on holding it.
    pub(crate) fn freeze(&self) {
        send(self.child.id(), -1, libc::SIGSTOP);
    }

    /// Ends the whole group at once, which is how it is meant to end.
    pub(crate) fn kill(self) {
        drop(self);
    }

    fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            pause(AGAIN)?;
        }
        Ok(None)
    }

    fn said(&self) -> String {
        let said = self.log.as_ref().and_then(|log| fs::read(log).ok());
        let said = said.unwrap_or_default();
        let end = &said[said.len().saturating_sub(SHOWN)..];
        format!("\n{}", String::from_utf8_lossy(end))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Until it was waited for, the number is the group's, of which some may be left.
        if matches!(self.child.try_wait(), Ok(None)) {
            send(self.child.id(), -1, libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// When dropped, ends all that is left of what was started, and waits until it is gone.
///
/// Programs make process groups and sessions of their own; who loses its parent comes here.
#[derive(Debug)]
pub(crate) struct Sweep;

impl Drop for Sweep {
    fn drop(&mut self) {
        loop {
            for pid in children() {
                send(pid, 1, libc::SIGKILL);
            }
            // SAFETY: no status is asked for. Whoever has started children has waited for them.
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
        // After the name, which may hold anything: the state, and the parent.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        fields.split_whitespace().nth(1) == Some(&own)
    })
    .collect()
}

/// Sends a signal to a process that was not waited for, or (`-1`) to the group that it leads.
fn send(pid: u32, sign: libc::pid_t, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: the call takes numbers only.
        unsafe { libc::kill(sign * pid, signal) };
    }
}
