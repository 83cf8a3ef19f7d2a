//! Processes: identity, command line, limits, control group and environment.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read as _,
    os::unix::ffi::OsStringExt as _,
    sync::OnceLock,
};

use fdwatch_core::{diagnose::ProcessInfo, model::Model, workload::Workload};
use procfs::process::LimitValue;

use super::{file::link, own::NANOS_PER_SECOND};

/// Maximum length of a command line, in bytes; the rest is truncated.
const MAX_CMDLINE: usize = 4096;

/// Arguments of a command line that are retained.
const MAX_ARGUMENTS: usize = 128;

/// Returns the process `pid`, if it is still the one that was started at `start_time` (nanoseconds since
/// boot; 0 for any).
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
                .saturating_mul(NANOS_PER_SECOND / ticks_per_second())
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

/// Returns whether the process `pid` that was started at `start_time` (nanoseconds since boot) is running.
#[must_use]
pub fn is_running(pid: u32, start_time: u64) -> bool {
    let process = pid.try_into().ok();
    let stat = process.and_then(|pid| procfs::process::Process::new(pid).ok()?.stat().ok());
    stat.is_some_and(|stat| stat.starttime == ticks(start_time))
}

/// Returns the real user of the process `pid`. Not the owner of /proc/PID, which is root for processes that
/// must not be dumped.
#[must_use]
pub fn user(pid: u32) -> Option<u32> {
    let process = procfs::process::Process::new(pid.try_into().ok()?).ok()?;
    Some(process.status().ok()?.ruid)
}

/// Returns the soft limit of descriptors (`RLIMIT_NOFILE`) of the process `pid`; `None` if it is unlimited
/// or cannot be read.
#[must_use]
pub fn fd_limit(pid: u32) -> Option<u64> {
    let process = procfs::process::Process::new(pid.try_into().ok()?).ok()?;
    limit(&process)
}

fn limit(process: &procfs::process::Process) -> Option<u64> {
    match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(limit) => Some(limit),
        LimitValue::Unlimited => None,
    }
}

/// Converts nanoseconds to clock ticks, rounding down like `nsec_to_clock_t`, kernel/time/time.c.
fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds / (NANOS_PER_SECOND / ticks_per_second())
}

fn ticks_per_second() -> u64 {
    static TICKS: OnceLock<u64> = OnceLock::new();
    *TICKS.get_or_init(|| procfs::ticks_per_second().clamp(1, NANOS_PER_SECOND))
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
    let arguments = line.split(|&byte| byte == 0).take(MAX_ARGUMENTS);
    Some(arguments.map(<[u8]>::to_vec).collect())
}

/// Maximum number of bytes read from /proc/PID/cgroup.
const MAX_CGROUPS: u64 = 64 << 10;

/// Returns the path of a process's control group. If that is the root of the unified hierarchy, returns the
/// path in systemd's own hierarchy, or else in any other.
fn cgroup(pid: u32) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/cgroup")).ok()?;
    file.take(MAX_CGROUPS).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // Number, controllers, path.
    let groups = text.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        // Paths outside of our cgroup namespace begin with `/..`.
        Some((number, controllers, path.trim_start_matches("/..")))
    });
    let rank = |&(number, controllers, path): &(&str, &str, &str)| {
        let is_root = path.is_empty() || path == "/";
        (is_root, number != "0", controllers != "name=systemd")
    };
    let best = groups.min_by_key(rank);
    best.map(|(_, _, path)| if path.is_empty() { "/" } else { path }.to_owned())
}

/// Returns the path of a process's control group, unless it is the root.
pub(crate) fn non_root_cgroup(pid: u32) -> Option<String> {
    cgroup(pid).filter(|path| path != "/")
}

/// Returns the names of the process in supervisord: group and process.
pub(crate) fn supervisor_names(environment: &[(String, String)]) -> Option<(String, String)> {
    let value = |name: &str| {
        let mut pairs = environment.iter();
        let (_, value) = pairs.find(|(own, _)| own == name)?;
        Some(value.chars().take(MAX_NAME).collect())
    };
    let process: String = value("SUPERVISOR_PROCESS_NAME")?;
    let group = value("SUPERVISOR_GROUP_NAME").unwrap_or_else(|| process.clone());
    Some((group, process))
}

/// Returns whether the mount namespace of the process is neither that of this process nor that of process 1. Both
/// have the host's files: systemd runs services with restricted access in a mount namespace of their own.
fn has_own_mounts(pid: u32) -> bool {
    static COMMON: OnceLock<[Option<Vec<u8>>; 2]> = OnceLock::new();
    let namespace = |of: &str| link(&format!("/proc/{of}/ns/mnt"));
    let common = COMMON.get_or_init(|| ["self", "1"].map(namespace));
    namespace(&pid.to_string()).is_some_and(|theirs| !common.contains(&Some(theirs)))
}

/// Maximum length of supervisord's names, in characters; the rest is truncated.
const MAX_NAME: usize = 256;

/// Maximum number of bytes read from /proc/PID/environ.
const MAX_ENVIRONMENT: u64 = 256 << 10;

/// Returns the environment that a process was started with; empty if it cannot be read.
pub(crate) fn environment(pid: u32) -> Vec<(String, String)> {
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

/// Returns whether `exe`, the path of a running program, is fdwatch: the program of this process, or one of the same name,
/// such as another version.
#[must_use]
pub fn is_fdwatch(exe: &[u8]) -> bool {
    static OWN: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let own = OWN.get_or_init(|| link("/proc/self/exe"));
    // An upgrade replaces the file of a running agent.
    let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
    own.as_deref() == Some(exe) || exe.ends_with(b"/fdwatch")
}

/// Returns the other processes that run fdwatch, with their command lines.
#[must_use]
pub fn other_fdwatches() -> Vec<(u32, Vec<OsString>)> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != own)
        .filter(|pid| link(&format!("/proc/{pid}/exe")).is_some_and(|exe| is_fdwatch(&exe)))
        .filter_map(|pid| {
            let words = cmdline(pid)?.into_iter();
            Some((pid, words.map(OsString::from_vec).collect()))
        })
        .collect()
}

/// Returns whether the process `pid` exists.
#[must_use]
pub fn exists(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}/stat")).unwrap_or(false)
}

/// Returns whether the model's process `pid`, which is missing from a snapshot, is outdated: it has exited,
/// or has no descriptors although the model has some. An existing process with descriptors is hidden from
/// snapshots, and only its events are available.
#[must_use]
pub fn is_stale_process(model: &Model, pid: u32) -> bool {
    !exists(pid) || (model.has_descriptors(pid) && has_no_descriptors(pid))
}

/// Returns whether the process `pid` has no descriptors; false if they cannot be read.
#[must_use]
pub fn has_no_descriptors(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdwatch_is_recognized_by_program() {
        assert!(is_fdwatch(&link("/proc/self/exe").unwrap()));
        assert!(is_fdwatch(b"/usr/bin/fdwatch"));
        assert!(is_fdwatch(b"/usr/bin/fdwatch (deleted)"));
        assert!(!is_fdwatch(b"/usr/bin/notfdwatch"));
        assert!(!is_fdwatch(b"/opt/fdwatch/bin/server"));
    }

    #[test]
    fn process_requires_matching_start_time() {
        let own = process(std::process::id(), 0).unwrap();
        assert!(own.fd_limit.is_some_and(|limit| limit > 0));
        assert_eq!(fd_limit(std::process::id()), own.fd_limit);
        assert_eq!(own.exe, link("/proc/self/exe"));
        assert!(process(std::process::id(), own.start_time + NANOS_PER_SECOND).is_none());
        assert!(process(std::process::id(), own.start_time).is_some());
        assert!(is_running(std::process::id(), own.start_time));
        assert!(!is_running(
            std::process::id(),
            own.start_time + NANOS_PER_SECOND
        ));
    }
}
