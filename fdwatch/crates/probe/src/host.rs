//! What the probe needs of the host, looked at before anything is loaded, for errors to be about the
//! cause. What the programs are is not known here.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use super::ProbeError;

/// Where the kernel describes its types.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Where tracefs is mounted if it is not.
pub const TRACEFS_PATH: &str = "/sys/kernel/tracing";

/// Where debugfs brings one along.
const OLD_TRACEFS_PATH: &str = "/sys/kernel/debug/tracing";

/// Inode of the initial pid namespace: `PROC_PID_INIT_INO`, include/linux/proc_ns.h.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// include/uapi/linux/capability.h: either allows BPF, the second since 5.8.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// A kernel's version, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u32, pub u32);

/// The first kernel with a BPF ring buffer and a `task_file` iterator.
pub const OLDEST_KERNEL: KernelVersion = KernelVersion(5, 8);

/// The first kernel that gives programs the current task as a typed pointer.
pub const BTF_TASK_KERNEL: KernelVersion = KernelVersion(5, 11);

/// The first that gives them the registers of a task.
pub const TASK_REGISTERS_KERNEL: KernelVersion = KernelVersion(5, 15);

/// The running kernel's release, such as `6.18.44`.
#[must_use]
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(
        |_| "of unknown version".to_owned(),
        |release| release.trim().to_owned(),
    )
}

impl KernelVersion {
    /// The version that a release such as `6.1.0-28-amd64` is of.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self(
            numbers.next()?.parse().ok()?,
            numbers.next()?.parse().ok()?,
        ))
    }
}

/// Checks the kernel's age. An unreadable version is let pass: loading will tell.
///
/// # Errors
///
/// If it is older than [`OLDEST_KERNEL`].
pub fn check_kernel() -> Result<Option<KernelVersion>, ProbeError> {
    let release = kernel_release();
    let version = KernelVersion::parse(&release);
    match version {
        Some(version) if version < OLDEST_KERNEL => Err(ProbeError::OldKernel { release }),
        version => Ok(version),
    }
}

/// Whether this process may load BPF programs, as far as its capabilities tell.
///
/// # Errors
///
/// If it has none of the capabilities that allow it.
pub fn check_privileges() -> Result<(), ProbeError> {
    let effective = own_status("CapEff:");
    match effective.and_then(|hex| u64::from_str_radix(&hex, 16).ok()) {
        Some(caps) if caps & (1 << CAP_SYS_ADMIN | 1 << CAP_BPF) == 0 => {
            Err(ProbeError::NotPrivileged)
        }
        _ => Ok(()),
    }
}

/// What is asked of a seccomp filter: calls that it may let pass or not, and that the kernel refuses as
/// invalid before it looks who asks for what else (`bpf`, kernel/bpf/syscall.c, once [`check_privileges`]
/// is passed; `perf_event_open`, kernel/events/core.c; 5.8 to 6.18).
const FILTERED: [(&str, libc::c_long, [libc::c_long; 5]); 2] = [
    // A command that there is not, of no attributes.
    ("bpf", libc::SYS_bpf, [-1, 0, 0, 0, 0]),
    // Flags that there are not, of no event.
    (
        "perf_event_open",
        libc::SYS_perf_event_open,
        [0, 0, 0, -1, -1],
    ),
];

/// Whether a seccomp filter, as container engines have them, lets pass what the programs are loaded and
/// attached by.
///
/// # Errors
///
/// If it does not.
pub fn check_seccomp() -> Result<(), ProbeError> {
    for (call, number, [first, second, third, fourth, fifth]) in FILTERED {
        // SAFETY: neither call is handed memory, and neither does anything.
        let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth) };
        let error = io::Error::last_os_error().raw_os_error();
        if result < 0 && matches!(error, Some(libc::EPERM | libc::ENOSYS)) && is_filtered() {
            return Err(ProbeError::Filtered { call });
        }
    }
    Ok(())
}

/// Whether there is a seccomp filter: `SECCOMP_MODE_FILTER`, include/uapi/linux/seccomp.h.
#[must_use]
pub fn is_filtered() -> bool {
    own_status("Seccomp:").is_some_and(|mode| mode == "2")
}

/// What the kernel tells of this process in the line that begins with `name`.
fn own_status(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

/// Whether the processes seen here have the numbers the kernel itself gives them.
///
/// # Errors
///
/// If this is another pid namespace than the initial one.
pub fn check_pid_namespace() -> Result<(), ProbeError> {
    match fs::read_link("/proc/self/ns/pid") {
        Ok(namespace) if namespace != Path::new(INITIAL_PID_NAMESPACE) => {
            Err(ProbeError::PidNamespace)
        }
        _ => Ok(()),
    }
}

/// The lockdown mode, if the kernel has that at all.
#[must_use]
pub fn lockdown_mode() -> Option<String> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Whether lockdown leaves BPF programs what they need: `LOCKDOWN_BPF_READ_KERNEL` is part of
/// confidentiality, security/lockdown/lockdown.c.
///
/// # Errors
///
/// If it does not.
pub fn check_lockdown() -> Result<(), ProbeError> {
    match lockdown_mode() {
        Some(mode) if mode == "confidentiality" => Err(ProbeError::Lockdown { mode }),
        _ => Ok(()),
    }
}

/// The kernel's BTF.
///
/// # Errors
///
/// If there is none.
pub fn read_btf() -> Result<Vec<u8>, ProbeError> {
    fs::read(BTF_PATH).map_err(|source| ProbeError::NoBtf {
        path: BTF_PATH,
        source,
    })
}

/// Where tracefs is mounted.
#[must_use]
pub fn tracefs() -> Option<&'static Path> {
    [TRACEFS_PATH, OLD_TRACEFS_PATH]
        .map(Path::new)
        .into_iter()
        .find(|path| path.join("events/syscalls").is_dir())
}

/// Where tracefs is mounted, after mounting it if need be.
///
/// # Errors
///
/// If it is not and cannot be, or the kernel has no tracepoints for syscalls.
pub fn mounted_tracefs() -> Result<&'static Path, ProbeError> {
    if let Some(path) = tracefs() {
        return Ok(path);
    }
    match mount_tracefs() {
        Ok(()) => tracefs().ok_or_else(|| ProbeError::NoTracepoint {
            name: "syscalls:*".to_owned(),
        }),
        Err(source) => Err(ProbeError::NoTracefs { source }),
    }
}

fn mount_tracefs() -> io::Result<()> {
    // SAFETY: all are NUL-terminated strings, and this file system takes no data.
    let result = unsafe {
        libc::mount(
            c"tracefs".as_ptr(),
            c"/sys/kernel/tracing".as_ptr(),
            c"tracefs".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            std::ptr::null(),
        )
    };
    match (result, io::Error::last_os_error()) {
        (0, _) => Ok(()),
        // Mounted, but without what is looked for.
        (_, error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
        (_, error) => Err(error),
    }
}

/// Kernels before 5.11 count BPF maps against `RLIMIT_MEMLOCK`, which is small by default. Failing
/// is no error: loading will tell.
pub(super) fn raise_memlock() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is a valid structure.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_releases() {
        assert_eq!(
            KernelVersion::parse("6.1.0-28-amd64"),
            Some(KernelVersion(6, 1))
        );
        assert_eq!(KernelVersion::parse("5.10.218"), Some(KernelVersion(5, 10)));
        assert_eq!(KernelVersion::parse("7.0-rc1"), Some(KernelVersion(7, 0)));
        assert_eq!(KernelVersion::parse("of unknown version"), None);
        assert!(KernelVersion(5, 10) > OLDEST_KERNEL);
    }
}
