//! Checks of the PIDs in arguments, before anything is loaded.

use anyhow::{Result, bail};
use fdwatch_host::proc;

/// Fails if one of the processes does not exist.
pub(super) fn check_all(pids: &[u32]) -> Result<()> {
    pids.iter().try_for_each(|&pid| check(pid))
}

/// Fails if the process does not exist.
pub(super) fn check(pid: u32) -> Result<()> {
    if !proc::exists(pid) {
        bail!("no such process: {pid}");
    }
    Ok(())
}
