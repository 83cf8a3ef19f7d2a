//! Permissions of this process and this kernel: capabilities and lockdown.

use std::{ffi::CStr, fs, io::ErrorKind, mem::MaybeUninit};

/// Where securityfs is mounted, and its magic number: `SECURITYFS_MAGIC`, include/uapi/linux/magic.h.
const SECURITYFS_PATH: &CStr = c"/sys/kernel/security";
const SECURITYFS_MAGIC: i64 = 0x7363_6673;

/// Capabilities that allow loading and attaching programs (include/uapi/linux/capability.h): the first, or
/// both of the others, which exist since 5.8.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Returns the names of the capabilities that this process lacks to load and attach programs. None are
/// missing with `CAP_SYS_ADMIN`, or if the capabilities cannot be read.
pub(crate) fn missing_capabilities() -> Vec<&'static str> {
    let effective = own_status("CapEff:");
    let effective = effective.and_then(|hex| u64::from_str_radix(&hex, 16).ok());
    let has = |capability: u32| effective.is_none_or(|all| all >> capability & 1 != 0);
    let needed = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")];
    let missing = needed
        .into_iter()
        .filter(|&(capability, _)| !has(capability) && !has(CAP_SYS_ADMIN));
    missing.map(|(_, name)| name).collect()
}

/// Returns the value of a line in `/proc/self/status`.
pub(crate) fn own_status(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

/// What is known about lockdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// The mode: `none`, `integrity` or `confidentiality`.
    Mode(String),
    /// The kernel does not support it, or it is disabled.
    Unsupported,
    /// Unreadable mode.
    Unknown {
        /// The reason.
        reason: String,
    },
}

/// Returns the lockdown mode.
#[must_use]
pub(crate) fn lockdown() -> Lockdown {
    let reason = match fs::read_to_string("/sys/kernel/security/lockdown") {
        Ok(modes) => {
            let mode = modes
                .split_once('[')
                .and_then(|(_, rest)| rest.split_once(']'));
            match mode {
                Some((mode, _)) => return Lockdown::Mode(mode.to_owned()),
                None => "unexpected content of /sys/kernel/security/lockdown".to_owned(),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if has_securityfs() {
                return Lockdown::Unsupported;
            }
            "securityfs is not mounted on /sys/kernel/security".to_owned()
        }
        Err(error) => format!("cannot read /sys/kernel/security/lockdown: {error}"),
    };
    Lockdown::Unknown { reason }
}

fn has_securityfs() -> bool {
    let mut status = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path is NUL-terminated, the structure has room for the result, and zeroes are valid.
    let status = unsafe {
        libc::statfs(SECURITYFS_PATH.as_ptr(), status.as_mut_ptr());
        status.assume_init()
    };
    status.f_type == SECURITYFS_MAGIC
}
