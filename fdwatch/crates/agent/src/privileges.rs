//! Gives up what the agent does not need once its programs are loaded.
//!
//! A thread's capabilities are its own, and new threads take those of the thread that starts them:
//! this is called once, before the agent starts its threads.

use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use caps::{CapSet, Capability, CapsHashSet};

/// What the agent goes on to need, and what for.
pub const KEPT: [(Capability, &str); 5] = [
    (
        Capability::CAP_BPF,
        "audits open the snapshot anew, and programs for detail are attached later",
    ),
    (
        Capability::CAP_PERFMON,
        "programs that trace are attached, and their links made",
    ),
    (
        Capability::CAP_SYS_PTRACE,
        "/proc/PID/fd, exe, maps and root of other users' processes",
    ),
    (
        Capability::CAP_DAC_READ_SEARCH,
        "files and directories that only their owners may read: programs for their symbols, \
         configurations of supervisord, tracefs",
    ),
    // Kernels before 5.9 want CAP_SYS_ADMIN there, which is more than symbols are worth.
    (
        Capability::CAP_CHECKPOINT_RESTORE,
        "/proc/PID/map_files: what is mapped, for the symbols of stacks",
    ),
];

/// What was given up, and what could not be kept as it was not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Names of capabilities that are kept.
    pub kept: Vec<String>,
    /// Names of those that are needed and were not there: something will not work.
    pub missing: Vec<String>,
}

impl Given {
    /// Whether `CAP_SYS_ADMIN` is kept, which is nearly all there is.
    #[must_use]
    pub fn has_admin(&self) -> bool {
        let admin = Capability::CAP_SYS_ADMIN.to_string();
        self.kept.contains(&admin)
    }
}

/// Gives up all capabilities but [`KEPT`], for good: nothing that is started gets any back. Where
/// programs cannot be attached without `CAP_SYS_ADMIN`, that is kept as well.
///
/// # Errors
///
/// If there is more than one thread already, or the kernel refuses. Nothing is undone then.
pub fn give_up() -> Result<Given> {
    only_thread()?;
    give_up_in_this_thread()
}

/// The same, for a thread that is on its own and ends.
///
/// # Errors
///
/// If the kernel refuses.
pub fn give_up_in_this_thread() -> Result<Given> {
    let mut keep = KEPT.map(|(capability, _)| capability).to_vec();
    if is_admin_needed()? {
        keep.push(Capability::CAP_SYS_ADMIN);
    }
    give_up_but(&keep)
}

/// Whether events cannot be opened without `CAP_SYS_ADMIN`, which is there. It is tried, without it:
/// the setting that it depends on has numbers of their own in each distribution.
fn is_admin_needed() -> Result<bool> {
    let admin = Capability::CAP_SYS_ADMIN;
    let effective = read(CapSet::Effective)?;
    if !effective.contains(&admin) {
        return Ok(false);
    }
    let without = effective.iter().copied().filter(|&it| it != admin);
    caps::set(None, CapSet::Effective, &without.collect())
        .context("cannot do without CAP_SYS_ADMIN for a moment")?;
    let may_open = fdwatch_probe::may_open_events();
    caps::set(None, CapSet::Effective, &effective).context("cannot have CAP_SYS_ADMIN again")?;
    Ok(!may_open)
}

/// The same, with what is to be kept.
///
/// # Errors
///
/// If the kernel refuses.
pub(crate) fn give_up_but(keep: &[Capability]) -> Result<Given> {
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
    let given = Given {
        kept: names(keep.intersection(&permitted).collect()),
        missing: names(keep.difference(&permitted).collect()),
    };
    let kept: CapsHashSet = keep.intersection(&permitted).copied().collect();
    // What is started afterwards is bound by this: where that may not be said, no_new_privs is left.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in read(CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability)
                .with_context(|| format!("cannot drop {capability} from the bounding set"))?;
        }
    }
    // Kernels know of none in ambient sets, where there never were any.
    if !read(CapSet::Ambient)?.is_empty() {
        caps::clear(None, CapSet::Ambient).context("cannot clear the ambient capabilities")?;
    }
    caps::clear(None, CapSet::Inheritable).context("cannot clear inheritable capabilities")?;
    caps::set(None, CapSet::Effective, &kept).context("cannot reduce the capabilities")?;
    caps::set(None, CapSet::Permitted, &kept).context("cannot give up capabilities")?;
    Ok(given)
}

fn read(set: CapSet) -> Result<CapsHashSet> {
    caps::read(None, set).context("cannot read the capabilities")
}

fn only_thread() -> Result<()> {
    let threads = fs::read_dir("/proc/self/task").context("cannot read /proc/self/task")?;
    match threads.count() {
        0 | 1 => Ok(()),
        more => bail!(
            "there are {more} threads already, and each has its own capabilities: they are given \
             up before others are started"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_is_given_up_is_gone_from_all_sets() {
        // Of this thread alone, which ends.
        let after = thread::spawn(|| {
            let before = read(CapSet::Permitted).unwrap();
            let given = give_up_but(&[Capability::CAP_SYS_PTRACE]).unwrap();
            let sets = [
                CapSet::Permitted,
                CapSet::Effective,
                CapSet::Inheritable,
                CapSet::Ambient,
            ];
            (before, given, sets.map(|set| read(set).unwrap()))
        });
        let (before, given, [permitted, effective, inheritable, ambient]) = after.join().unwrap();
        let keep = Capability::CAP_SYS_PTRACE;
        let expected: CapsHashSet = before.iter().copied().filter(|&it| it == keep).collect();
        assert_eq!((&permitted, &effective), (&expected, &expected));
        assert!(inheritable.is_empty() && ambient.is_empty());
        assert_eq!(given.kept.len() + given.missing.len(), 1);
        assert_eq!(given.missing.is_empty(), before.contains(&keep));
    }

    #[test]
    fn other_threads_are_a_reason_to_refuse() {
        // Tests have threads.
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = thread::spawn(move || wait.recv());
        let error = give_up().unwrap_err();
        assert!(error.to_string().contains("threads already"), "{error}");
        drop(stop);
        let _ = other.join();
    }
}
