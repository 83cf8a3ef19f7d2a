//! This process and its host: names, clocks and resource usage.

use fdwatch_core::Usage;
use std::{fs, mem::MaybeUninit};

pub(super) const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Returns the effective user id of this process.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: the call has no requirements.
    unsafe { libc::geteuid() }
}

/// Returns the name of this host.
#[must_use]
pub fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// Returns the id of this boot; empty if /proc does not have it.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// Returns the resident memory of this process, in bytes.
#[must_use]
pub fn resident() -> u64 {
    let statm = procfs::process::Process::myself().and_then(|own| own.statm());
    statm.map_or(0, |statm| statm.resident * procfs::page_size())
}

/// Returns the resources that this process has used so far.
#[must_use]
pub fn usage() -> Usage {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the buffer has room for the result, and zeroes are valid if the call fails.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds and microseconds are small"
    )]
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Usage {
        user: seconds(usage.ru_utime),
        system: seconds(usage.ru_stime),
        peak_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    }
}

/// Returns the nanoseconds since boot: `CLOCK_BOOTTIME`.
#[must_use]
pub fn boottime() -> u64 {
    clock(libc::CLOCK_BOOTTIME)
}

/// Returns the nanoseconds of CPU time that this thread has used: `CLOCK_THREAD_CPUTIME_ID`.
#[must_use]
pub fn thread_time() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Returns the nanoseconds since 1970: `CLOCK_REALTIME`.
#[must_use]
pub fn wall_time() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// Returns the time of the boot by the current clock: nanoseconds since 1970. It changes when the clock is set, and
/// wraps if the clock is before 1970 plus the time since boot.
#[must_use]
pub fn booted() -> u64 {
    wall_time().wrapping_sub(boottime())
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the buffer has room for the result, and all kernels have these clocks.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * NANOS_PER_SECOND
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}
