//! A descriptor that only an audit finds, for one to see that there was an audit.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Two descriptors of this process on one terminal. The first is opened by an ioctl, of which no
/// event tells: that the two are a duplicate, and one was missing, is known after the two looks it
/// takes to tell drift from what is on its way. Both looks are then later than the canary.
#[derive(Debug)]
pub(super) struct Canary {
    _terminal: File,
    unseen: OwnedFd,
    seen: OwnedFd,
}

/// How many descriptors are missing because of a canary.
pub(super) const MISSING: u64 = 1;

impl Canary {
    /// Makes one.
    pub(super) fn new() -> Result<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/ptmx");
        let terminal = terminal.context("cannot open /dev/ptmx")?;
        // SAFETY: the descriptor is open.
        if unsafe { libc::unlockpt(terminal.as_raw_fd()) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot unlock a terminal");
        }
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: the request takes a number, and the result is a descriptor of its own.
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

    /// Whether this line of fdwatch's tells of it.
    pub(super) fn is_told_by(&self, line: &Value) -> bool {
        // No other file of this process is a terminal that it has on these two.
        let holds = |descriptor: &OwnedFd| {
            let mut fds = line["fds"].as_array().into_iter().flatten();
            fds.any(|fd| fd["fd"] == descriptor.as_raw_fd())
        };
        line["process"]["pid"] == std::process::id()
            && line["file"]["type"] == "character"
            && holds(&self.unseen)
            && holds(&self.seen)
    }
}
