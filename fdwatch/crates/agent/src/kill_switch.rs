//! `fdwatch agent --stop`: the kill switch.

use std::{
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{config::Config, stop::StopFile};
use fdwatch_tracker::message::warn;

/// Time in which the agents must end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sets the kill switch, and waits until the agents have ended: the processes `agents`, and the one that listens on the
/// socket.
///
/// # Errors
///
/// If the switch cannot be set, or an agent keeps running.
pub fn stop(config: &Config, mut agents: Vec<u32>) -> Result<ExitCode> {
    agents.extend(config.api.socket.as_deref().and_then(listener));
    agents.sort_unstable();
    agents.dedup();
    // Those that have ended meanwhile are left out.
    let agents = agents.into_iter();
    let agents: Vec<_> = agents
        .filter_map(|pid| Some((pid, open(pid).ok()?)))
        .collect();
    let mut file = StopFile::new(config.watch.stop_file.clone());
    let path = file.path().display().to_string();
    file.make()
        .with_context(|| format!("cannot create {path}\nhelp: run as root"))?;
    if !file.is_there() {
        bail!("the agent ignores {path}: not owned by root\nhelp: run as root");
    }
    let began = Instant::now();
    for (pid, agent) in &agents {
        if !has_ended(agent, TIMEOUT.saturating_sub(began.elapsed()))? {
            bail!(
                "set {path}, but the agent (process {pid}) still runs after {} s\nhelp: end it with \
                 `kill {pid}`",
                TIMEOUT.as_secs()
            );
        }
    }
    let outcome = if agents.is_empty() {
        "no agent is running".to_owned()
    } else {
        format!(
            "the agent stopped after {:.1} s",
            began.elapsed().as_secs_f64()
        )
    };
    warn(&format!(
        "{outcome}; remove {path} to allow it to start again"
    ));
    Ok(ExitCode::SUCCESS)
}

/// Returns the process that listens on a unix socket; none if it is in another pid namespace.
fn listener(socket: &Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).ok()?;
    let mut peer = MaybeUninit::<libc::ucred>::zeroed();
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: the buffer has room for the result, and zeroes are valid if the call fails.
    let peer = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            peer.as_mut_ptr().cast(),
            &raw mut len,
        );
        peer.assume_init()
    };
    u32::try_from(peer.pid).ok().filter(|&pid| pid != 0)
}

/// Returns a descriptor of a process.
fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: it is new and owned here.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits for the end of a process. Returns false if it still runs after this time.
fn has_ended(process: &OwnedFd, within: Duration) -> Result<bool> {
    let mut poll = libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let milliseconds = within.as_millis().try_into().unwrap_or(i32::MAX);
    // SAFETY: the call gets one structure, which is valid.
    match unsafe { libc::poll(&raw mut poll, 1, milliseconds) } {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(io::Error::last_os_error()).context("cannot wait for the agent"),
    }
}
