//! A descriptor that only an audit finds, which shows that an audit has completed.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Two descriptors of this process on one terminal. The first is opened by an ioctl, which creates no event: the
/// duplicate is found after the two snapshots that an audit takes to distinguish drift from pending events. Both are
/// taken after the canary was created.
#[derive(Debug)]
pub(super) struct Canary {
    _terminal: File,
    unseen: OwnedFd,
    seen: OwnedFd,
}

/// Descriptors that the audit reports as missing because of a canary.
pub(super) const MISSING: u64 = 1;

impl Canary {
    /// Creates one.
    pub(super) fn new() -> Result<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/ptmx");
        let terminal = terminal.context("cannot open /dev/ptmx")?;
        // SAFETY: the descriptor is open.
        if unsafe { libc::unlockpt(terminal.as_raw_fd()) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot unlock a terminal");
        }
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: the request takes a number and returns a new descriptor.
        let unseen = unsafe {
            let fd = libc::ioctl(terminal.as_raw_fd(), libc::TIOCGPTPEER, flags);
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
        };
        let unseen = unseen.ok_or_else(io::Error::last_os_error);
        let unseen = unseen.context("cannot open a terminal by ioctl")?;
        let seen = unseen.try_clone()?;
        Ok(Self {
            _terminal: terminal,
            unseen,
            seen,
        })
    }

    /// Returns whether this line of fdwatch reports it.
    pub(super) fn is_reported_by(&self, line: &Value) -> bool {
        // No other terminal of this process is open on these two.
        let is_listed = |descriptor: &OwnedFd| {
            let mut fds = line["fds"].as_array().into_iter().flatten();
            fds.any(|fd| fd["fd"] == descriptor.as_raw_fd())
        };
        line["process"]["pid"] == std::process::id()
            && line["file"]["type"] == "character"
            && is_listed(&self.unseen)
            && is_listed(&self.seen)
    }
}
