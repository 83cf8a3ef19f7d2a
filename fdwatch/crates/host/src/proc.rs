//! What /proc says of processes and files: the details of a finding. Everything in here may fail at
//! any time, for the process may end, and then there is less to tell. What a duplicate or a finding
//! is, is not known here.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
    mem::MaybeUninit,
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::MetadataExt as _,
        },
    },
    sync::OnceLock,
};

use procfs::process::LimitValue;

use fdwatch_core::{
    Usage,
    device::kernel_device,
    diagnose::{Name, ProcessInfo},
    model::{AnonymousDevices, Model},
    workload::Workload,
};

/// Bytes of a command line that are of interest.
const MAX_CMDLINE: usize = 4096;

/// What /proc says of the process `pid`, if that is still the one that was started at `start_time`
/// (nanoseconds since boot; 0 for any).
#[must_use]
pub fn process(pid: u32, start_time: u64) -> Option<ProcessInfo> {
    let process = procfs::process::Process::new(pid.try_into().ok()?).ok()?;
    let stat = process.stat().ok()?;
    if start_time != 0 && ticks(start_time) != stat.starttime {
        return None;
    }
    let cgroup = cgroup(pid);
    Some(ProcessInfo {
        pid,
        start_time: if start_time == 0 {
            stat.starttime
                .saturating_mul(NANOSECONDS / ticks_per_second())
        } else {
            start_time
        },
        ppid: stat.ppid.try_into().unwrap_or(0),
        comm: comm(pid).unwrap_or_else(|| stat.comm.into_bytes()),
        exe: link(&format!("/proc/{pid}/exe")),
        cmdline: cmdline(pid),
        fd_limit: limit(&process),
        uid: process.status().ok().map(|status| status.ruid),
        workload: cgroup
            .as_deref()
            .map_or_else(Workload::default, Workload::of),
        cgroup,
        root: link(&format!("/proc/{pid}/root")).filter(|root| root != b"/"),
        has_own_mounts: has_own_mounts(pid),
        supervisor: supervisor_names(&environment(pid)),
    })
}

/// How many descriptors the process `pid` may have (`RLIMIT_NOFILE`, soft), if that can be read and is
/// limited.
#[must_use]
pub fn fd_limit(pid: u32) -> Option<u64> {
    let process = procfs::process::Process::new(pid.try_into().ok()?).ok()?;
    limit(&process)
}

fn limit(process: &procfs::process::Process) -> Option<u64> {
    match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(most) => Some(most),
        LimitValue::Unlimited => None,
    }
}

const NANOSECONDS: u64 = 1_000_000_000;

/// Nanoseconds since boot as /proc shows them: `nsec_to_clock_t`, kernel/time/time.c, rounds down.
fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds / (NANOSECONDS / ticks_per_second())
}

fn ticks_per_second() -> u64 {
    static TICKS: OnceLock<u64> = OnceLock::new();
    *TICKS.get_or_init(|| procfs::ticks_per_second().clamp(1, NANOSECONDS))
}

fn comm(pid: u32) -> Option<Vec<u8>> {
    let mut comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    if comm.last() == Some(&b'\n') {
        comm.pop();
    }
    Some(comm)
}

fn cmdline(pid: u32) -> Option<Vec<Vec<u8>>> {
    let mut line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    line.truncate(MAX_CMDLINE);
    while line.last() == Some(&0) {
        line.pop();
    }
    Some(line.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect())
}

/// Bytes of a list of control groups that are of interest.
const MAX_CGROUPS: u64 = 64 << 10;

/// The path of the control group that a process is in: of the unified hierarchy, or where that has
/// none, of systemd's own, or of any.
#[must_use]
pub fn cgroup(pid: u32) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/cgroup")).ok()?;
    file.take(MAX_CGROUPS).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // Number, controllers, path.
    let groups = text.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        // That of another cgroup namespace than ours begins with the way there.
        Some((number, controllers, path.trim_start_matches("/..")))
    });
    let rank = |&(number, controllers, path): &(&str, &str, &str)| {
        let is_root = path.is_empty() || path == "/";
        (is_root, number != "0", controllers != "name=systemd")
    };
    let best = groups.min_by_key(rank);
    best.map(|(_, _, path)| if path.is_empty() { "/" } else { path }.to_owned())
}

/// The control group that a process is in, if it is not the one all are in.
#[must_use]
pub fn own_cgroup(pid: u32) -> Option<String> {
    cgroup(pid).filter(|path| path != "/")
}

/// The names by which a supervisord has the process: of its group, and its own.
#[must_use]
pub fn supervisor_names(environment: &[(String, String)]) -> Option<(String, String)> {
    let value = |name: &str| {
        let mut pairs = environment.iter();
        let (_, value) = pairs.find(|(own, _)| own == name)?;
        Some(value.chars().take(MAX_NAME).collect())
    };
    let process: String = value("SUPERVISOR_PROCESS_NAME")?;
    let group = value("SUPERVISOR_GROUP_NAME").unwrap_or_else(|| process.clone());
    Some((group, process))
}

/// Whether the process has another mount namespace than this one and than the host: a service of
/// systemd that is not to write everywhere is itself in one of its own, with the host's files.
fn has_own_mounts(pid: u32) -> bool {
    static COMMON: OnceLock<[Option<Vec<u8>>; 2]> = OnceLock::new();
    let namespace = |of: &str| link(&format!("/proc/{of}/ns/mnt"));
    let common = COMMON.get_or_init(|| ["self", "1"].map(namespace));
    namespace(&pid.to_string()).is_some_and(|theirs| !common.contains(&Some(theirs)))
}

/// Characters of a name in an environment that are kept.
const MAX_NAME: usize = 256;

/// Bytes of an environment that are of interest.
const MAX_ENVIRONMENT: u64 = 256 << 10;

/// What a process was given as its environment, as far as that can be read.
#[must_use]
pub fn environment(pid: u32) -> Vec<(String, String)> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/environ")) {
        let _ = file.take(MAX_ENVIRONMENT).read_to_end(&mut bytes);
    }
    let pairs = bytes.split(|&byte| byte == 0);
    pairs
        .filter_map(|pair| {
            let text = String::from_utf8_lossy(pair);
            let (name, value) = text.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn link(path: &str) -> Option<Vec<u8>> {
    Some(fs::read_link(path).ok()?.into_os_string().into_vec())
}

/// Appended to the path of a file that was deleted: `d_path`, fs/d_path.c.
const DELETED: &[u8] = b" (deleted)";

/// The name of what the descriptor `fd` of `pid` refers to.
#[must_use]
pub fn name(pid: u32, fd: u32) -> Option<Name> {
    let path = link(&format!("/proc/{pid}/fd/{fd}"))?;
    // A file may be called that as well; then it has links.
    match path.strip_suffix(DELETED) {
        Some(name) if let Some(bytes) = bytes_without_links(pid, fd) => Some(Name {
            path: name.to_vec(),
            deleted: true,
            pinned: Some(bytes),
        }),
        _ => Some(Name {
            path,
            deleted: false,
            pinned: None,
        }),
    }
}

/// The space a file takes that has no name.
fn bytes_without_links(pid: u32, fd: u32) -> Option<u64> {
    /// Of `st_blocks`, whatever the file system's are.
    const BLOCK: u64 = 512;
    let metadata = fs::metadata(format!("/proc/{pid}/fd/{fd}")).ok()?;
    (metadata.nlink() == 0).then(|| metadata.blocks() * BLOCK)
}

/// Whether there is something at the path, as the process `pid` sees it.
#[must_use]
pub fn leads_somewhere(pid: u32, path: &[u8]) -> bool {
    let mut own = format!("/proc/{pid}/root").into_bytes();
    own.extend(path);
    fs::symlink_metadata(OsStr::from_bytes(&own)).is_ok()
}

/// Whether the process `pid` is there.
#[must_use]
pub fn exists(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}/stat")).unwrap_or(false)
}

/// Whether `model` is to forget the process `pid`, which a snapshot does not show: because it has
/// ended, or has none of the descriptors that the model has of it. One that is there and has
/// descriptors is hidden: its events are all there is to know.
#[must_use]
pub fn is_to_be_forgotten(model: &Model, pid: u32) -> bool {
    !exists(pid) || (model.has_descriptors(pid) && has_no_descriptors(pid))
}

/// Whether the process `pid` is known to have no descriptors.
#[must_use]
pub fn has_no_descriptors(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|mut entries| entries.next().is_none())
}

/// The devices of files that are none.
#[must_use]
pub fn anonymous_devices() -> AnonymousDevices {
    // SAFETY: the calls take numbers only, and their results are ours alone.
    let (event, process) = unsafe {
        (
            owned(libc::eventfd(0, libc::EFD_CLOEXEC).into()),
            owned(libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0)),
        )
    };
    AnonymousDevices([event, process].map(|fd| {
        let metadata = fd.and_then(|fd| File::from(fd).metadata().ok());
        metadata.map_or(0, |metadata| kernel_device(metadata.dev()))
    }))
}

/// The descriptor that a call has returned, if it has.
///
/// # Safety
///
/// No one else closes it.
unsafe fn owned(result: libc::c_long) -> Option<OwnedFd> {
    let fd = RawFd::try_from(result).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: it is open, and the caller says that it is ours.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The path of what the descriptor `fd` of `pid` refers to, if that is the file of this inode. The
/// file itself is not asked: the server it is on may not answer.
#[must_use]
pub fn path_of(pid: u32, fd: u32, ino: u64) -> Option<Vec<u8>> {
    let path = link(&format!("/proc/{pid}/fd/{fd}"))?;
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    // From 5.14 on.
    let mut lines = info.lines();
    let told = lines.find_map(|line| line.strip_prefix("ino:"));
    let is_other = told.is_some_and(|told| told.trim().parse() != Ok(ino));
    (!is_other).then_some(path)
}

/// The user whose rights this process has.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: the call has no requirements.
    unsafe { libc::geteuid() }
}

/// The name of this host.
#[must_use]
pub fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// What tells this boot from others; nothing, where /proc does not have it.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// Memory that this process has now, in bytes.
#[must_use]
pub fn resident() -> u64 {
    let statm = procfs::process::Process::myself().and_then(|own| own.statm());
    statm.map_or(0, |statm| statm.resident * procfs::page_size())
}

/// What this process has used so far.
#[must_use]
pub fn usage() -> Usage {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: there is room for what is written, and zeroes are valid if nothing is.
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

/// Nanoseconds since boot: `CLOCK_BOOTTIME`.
#[must_use]
pub fn boottime() -> u64 {
    clock(libc::CLOCK_BOOTTIME)
}

/// Nanoseconds since 1970.
#[must_use]
pub fn wall_time() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: there is room for what is written, and both clocks are in all kernels.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * NANOSECONDS + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let own = process(std::process::id(), 0).unwrap();
        assert!(own.fd_limit.is_some_and(|most| most > 0));
        assert_eq!(fd_limit(std::process::id()), own.fd_limit);
        assert_eq!(own.exe, link("/proc/self/exe"));
        assert!(process(std::process::id(), own.start_time + NANOSECONDS).is_none());
        assert!(process(std::process::id(), own.start_time).is_some());
    }

    #[test]
    fn a_deleted_file_is_told_from_one_that_is_called_so() {
        use std::os::fd::AsRawFd as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x (deleted)");
        let file = File::create(&path).unwrap();
        let fd = file.as_raw_fd().try_into().unwrap();
        let own = std::process::id();
        let before = name(own, fd).unwrap();
        assert!(!before.deleted && before.path.ends_with(b"x (deleted)"));
        fs::remove_file(&path).unwrap();
        let after = name(own, fd).unwrap();
        assert!(after.deleted && after.path == before.path);
    }
}
