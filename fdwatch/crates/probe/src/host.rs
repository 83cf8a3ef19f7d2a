//! Requirements on the host, checked before anything is loaded, so that errors name the cause.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use super::ProbeError;

/// The kernel's type information.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// The usual mount point of tracefs.
pub const TRACEFS_PATH: &str = "/sys/kernel/tracing";

/// The mount point of tracefs inside debugfs.
const OLD_TRACEFS_PATH: &str = "/sys/kernel/debug/tracing";

/// Inode of the initial pid namespace: `PROC_PID_INIT_INO`, include/linux/proc_ns.h.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Capabilities that allow loading programs (include/uapi/linux/capability.h). Either is sufficient; the
/// second exists since 5.8.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Major and minor version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u32, pub u32);

/// The first kernel with a BPF ring buffer and a `task_file` iterator.
pub const OLDEST_KERNEL: KernelVersion = KernelVersion(5, 8);

/// The first kernel that provides the current task as a typed pointer.
pub const BTF_TASK_KERNEL: KernelVersion = KernelVersion(5, 11);

/// The first kernel that provides the registers of a task.
pub const TASK_REGISTERS_KERNEL: KernelVersion = KernelVersion(5, 15);

/// Returns the running kernel's release, such as `6.18.44`.
#[must_use]
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(
        |_| "of unknown version".to_owned(),
        |release| release.trim().to_owned(),
    )
}

impl KernelVersion {
    /// Parses the version of a release such as `6.1.0-28-amd64`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self(
            numbers.next()?.parse().ok()?,
            numbers.next()?.parse().ok()?,
        ))
    }
}

/// Checks the kernel's version. An unreadable version passes: loading fails if it is too old.
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

/// Checks the capabilities that loading BPF programs requires.
///
/// # Errors
///
/// If this process has none of them.
pub fn check_privileges() -> Result<(), ProbeError> {
    let effective = own_status("CapEff:");
    match effective.and_then(|hex| u64::from_str_radix(&hex, 16).ok()) {
        Some(caps) if caps & (1 << CAP_SYS_ADMIN | 1 << CAP_BPF) == 0 => {
            Err(ProbeError::NotPrivileged)
        }
        _ => Ok(()),
    }
}

/// Calls that a seccomp filter may block, with arguments that the kernel rejects as invalid before it
/// checks permissions (`bpf`, kernel/bpf/syscall.c, once [`check_privileges`] has passed;
/// `perf_event_open`, kernel/events/core.c; 5.8 to 6.18).
const FILTERED: [(&str, libc::c_long, [libc::c_long; 5]); 2] = [
    // An invalid command without attributes.
    ("bpf", libc::SYS_bpf, [-1, 0, 0, 0, 0]),
    // Invalid flags without an event.
    (
        "perf_event_open",
        libc::SYS_perf_event_open,
        [0, 0, 0, -1, -1],
    ),
];

/// Checks that no seccomp filter, such as a container engine's, blocks loading or attaching programs.
///
/// # Errors
///
/// If a filter blocks one of the calls.
pub fn check_seccomp() -> Result<(), ProbeError> {
    for (call, number, [first, second, third, fourth, fifth]) in FILTERED {
        // SAFETY: neither call gets a pointer, and both fail without an effect.
        let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth) };
        let error = io::Error::last_os_error().raw_os_error();
        if result < 0 && matches!(error, Some(libc::EPERM | libc::ENOSYS)) && is_filtered() {
            return Err(ProbeError::Filtered { call });
        }
    }
    Ok(())
}

/// Returns whether this process has a seccomp filter: `SECCOMP_MODE_FILTER`, include/uapi/linux/seccomp.h.
#[must_use]
pub fn is_filtered() -> bool {
    own_status("Seccomp:").is_some_and(|mode| mode == "2")
}

/// Returns the value of a line in `/proc/self/status`.
fn own_status(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

/// Checks that process ids here are the kernel's own.
///
/// # Errors
///
/// If this is not the initial pid namespace.
pub fn check_pid_namespace() -> Result<(), ProbeError> {
    match fs::read_link("/proc/self/ns/pid") {
        Ok(namespace) if namespace != Path::new(INITIAL_PID_NAMESPACE) => {
            Err(ProbeError::PidNamespace)
        }
        _ => Ok(()),
    }
}

/// Returns the lockdown mode, if the kernel supports lockdown.
#[must_use]
pub fn lockdown_mode() -> Option<String> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Checks that lockdown lets BPF programs read kernel memory: `LOCKDOWN_BPF_READ_KERNEL` is part of
/// confidentiality, security/lockdown/lockdown.c.
///
/// # Errors
///
/// If lockdown prevents it.
pub fn check_lockdown() -> Result<(), ProbeError> {
    match lockdown_mode() {
        Some(mode) if mode == "confidentiality" => Err(ProbeError::Lockdown { mode }),
        _ => Ok(()),
    }
}

/// Reads the kernel's BTF.
///
/// # Errors
///
/// If the file cannot be read.
pub fn read_btf() -> Result<Vec<u8>, ProbeError> {
    fs::read(BTF_PATH).map_err(|source| ProbeError::NoBtf {
        path: BTF_PATH,
        reason: source,
    })
}

/// Returns the mount point of tracefs.
#[must_use]
pub fn tracefs() -> Option<&'static Path> {
    [TRACEFS_PATH, OLD_TRACEFS_PATH]
        .map(Path::new)
        .into_iter()
        .find(|path| path.join("events/syscalls").is_dir())
}

/// Returns the mount point of tracefs, and mounts it if necessary.
///
/// # Errors
///
/// If it cannot be mounted, or the kernel has no system call tracepoints.
pub fn mounted_tracefs() -> Result<&'static Path, ProbeError> {
    if let Some(path) = tracefs() {
        return Ok(path);
    }
    match mount_tracefs() {
        Ok(()) => tracefs().ok_or_else(|| ProbeError::NoTracepoint {
            name: "syscalls:*".to_owned(),
        }),
        Err(reason) => Err(ProbeError::NoTracefs { reason }),
    }
}

fn mount_tracefs() -> io::Result<()> {
    // SAFETY: all strings are NUL-terminated, and this file system takes no data.
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
        // Mounted, but without these tracepoints.
        (_, error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
        (_, error) => Err(error),
    }
}

/// Raises `RLIMIT_MEMLOCK`: kernels before 5.11 count BPF maps against it, and it is small by default.
/// A failure is ignored: loading fails if it matters.
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
    fn release_is_parsed_as_version() {
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
