//! Drops the capabilities that the agent does not need once its programs are loaded.
//!
//! Capabilities belong to threads, and new threads inherit those of their creator: this runs once, before the agent
//! starts threads.

use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use caps::{CapSet, Capability, CapsHashSet};

/// The capabilities that the agent keeps, and their purpose.
pub const KEPT: [(Capability, &str); 5] = [
    (
        Capability::CAP_BPF,
        "reopen the snapshot for audits, and attach programs for detail later",
    ),
    (
        Capability::CAP_PERFMON,
        "attach tracing programs and create their links",
    ),
    (
        Capability::CAP_SYS_PTRACE,
        "read /proc/PID/fd, exe, maps and root of other users' processes",
    ),
    (
        Capability::CAP_DAC_READ_SEARCH,
        "read files and directories that only their owners may read: programs for their symbols, \
         configurations of supervisord, tracefs",
    ),
    // Before Linux 5.9 this requires CAP_SYS_ADMIN, which is not worth keeping for symbols.
    (
        Capability::CAP_CHECKPOINT_RESTORE,
        "read /proc/PID/map_files: mapped files, for the symbols of stacks",
    ),
];

/// The capabilities that remain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Names of capabilities that were kept.
    pub kept: Vec<String>,
    /// Names of capabilities that are needed but missing: some features will not work.
    pub missing: Vec<String>,
}

impl Remaining {
    /// Returns whether `CAP_SYS_ADMIN` was kept.
    #[must_use]
    pub fn has_admin(&self) -> bool {
        let admin = Capability::CAP_SYS_ADMIN.to_string();
        self.kept.contains(&admin)
    }
}

/// Permanently drops all capabilities except [`KEPT`]: child processes cannot regain them. Keeps `CAP_SYS_ADMIN` too if
/// programs cannot be attached without it.
///
/// # Errors
///
/// If there is more than one thread already, or the kernel refuses. A partial change is not reverted.
pub fn drop_unneeded() -> Result<Remaining> {
    check_single_thread()?;
    drop_in_this_thread()
}

/// Drops the same capabilities in the calling thread only.
///
/// # Errors
///
/// If the kernel refuses.
pub fn drop_in_this_thread() -> Result<Remaining> {
    let mut keep = KEPT.map(|(capability, _)| capability).to_vec();
    if is_admin_needed()? {
        keep.push(Capability::CAP_SYS_ADMIN);
    }
    drop_all_but(&keep)
}

/// Returns whether perf events cannot be opened without `CAP_SYS_ADMIN`. This is tried, because distributions define
/// additional values of `kernel.perf_event_paranoid`.
fn is_admin_needed() -> Result<bool> {
    let admin = Capability::CAP_SYS_ADMIN;
    let effective = read(CapSet::Effective)?;
    if !effective.contains(&admin) {
        return Ok(false);
    }
    let without = effective.iter().copied().filter(|&it| it != admin);
    caps::set(None, CapSet::Effective, &without.collect())
        .context("cannot drop CAP_SYS_ADMIN temporarily")?;
    let may_open = fdwatch_probe::may_open_events();
    caps::set(None, CapSet::Effective, &effective).context("cannot restore CAP_SYS_ADMIN")?;
    Ok(!may_open)
}

/// Drops all capabilities of the calling thread except `keep`.
///
/// # Errors
///
/// If the kernel refuses.
pub(crate) fn drop_all_but(keep: &[Capability]) -> Result<Remaining> {
    // SAFETY: the call takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot set no_new_privs");
    }
    let keep: CapsHashSet = keep.iter().copied().collect();
    let permitted = read(CapSet::Permitted)?;
    let names = |set: Vec<&Capability>| {
        let mut names: Vec<_> = set.into_iter().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    };
    let remaining = Remaining {
        kept: names(keep.intersection(&permitted).collect()),
        missing: names(keep.difference(&permitted).collect()),
    };
    let kept: CapsHashSet = keep.intersection(&permitted).copied().collect();
    // Bounds child processes. Without CAP_SETPCAP, no_new_privs has to suffice.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in read(CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability)
                .with_context(|| format!("cannot drop {capability} from the bounding set"))?;
        }
    }
    // Skipped if the set is empty, because kernels before 4.3 have no ambient capabilities.
    if !read(CapSet::Ambient)?.is_empty() {
        caps::clear(None, CapSet::Ambient).context("cannot clear the ambient capabilities")?;
    }
    caps::clear(None, CapSet::Inheritable).context("cannot clear inheritable capabilities")?;
    caps::set(None, CapSet::Effective, &kept).context("cannot drop effective capabilities")?;
    caps::set(None, CapSet::Permitted, &kept).context("cannot drop permitted capabilities")?;
    Ok(remaining)
}

fn read(set: CapSet) -> Result<CapsHashSet> {
    caps::read(None, set).context("cannot read the capabilities")
}

fn check_single_thread() -> Result<()> {
    let threads = fs::read_dir("/proc/self/task").context("cannot read /proc/self/task")?;
    match threads.count() {
        0 | 1 => Ok(()),
        count => bail!("cannot drop capabilities: there are {count} threads already"),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn dropped_capabilities_are_gone_from_all_sets() {
        // In a thread of its own.
        let after = thread::spawn(|| {
            let before = read(CapSet::Permitted).unwrap();
            let remaining = drop_all_but(&[Capability::CAP_SYS_PTRACE]).unwrap();
            let sets = [
                CapSet::Permitted,
                CapSet::Effective,
                CapSet::Inheritable,
                CapSet::Ambient,
            ];
            (before, remaining, sets.map(|set| read(set).unwrap()))
        });
        let (before, remaining, [permitted, effective, inheritable, ambient]) =
            after.join().unwrap();
        let keep = Capability::CAP_SYS_PTRACE;
        let expected: CapsHashSet = before.iter().copied().filter(|&it| it == keep).collect();
        assert_eq!((&permitted, &effective), (&expected, &expected));
        assert!(inheritable.is_empty() && ambient.is_empty());
        assert_eq!(remaining.kept.len() + remaining.missing.len(), 1);
        assert_eq!(remaining.missing.is_empty(), before.contains(&keep));
    }

    #[test]
    fn other_threads_cause_an_error() {
        // The test harness has threads.
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = thread::spawn(move || wait.recv());
        let error = drop_unneeded().unwrap_err();
        assert!(error.to_string().contains("threads already"), "{error}");
        drop(stop);
        let _ = other.join();
    }
}
