//! A snapshot without BPF: the same records, read from /proc. It is slower and less exact: processes
//! change while they are read, and those of other users may be unreadable.

use std::{collections::HashMap, fs, io, os::unix::fs::MetadataExt as _, path::Path};

use fdwatch_common::{COMM_LEN, Header, Kind, NO_CALL, Payload, SnapshotFile, SnapshotTask};
use procfs::process::{Process, Stat};

use fdwatch_core::device::kernel_device;

/// Passes the records of all processes except this one to `on_record`, and returns the number of
/// processes that could not be read.
///
/// # Errors
///
/// If /proc cannot be read.
pub fn take(on_record: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let own = std::process::id();
    let mut unreadable = 0;
    for entry in fs::read_dir("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|&pid| pid != own) else {
            continue;
        };
        match take_process(pid, on_record) {
            Ok(()) => {}
            // The process has exited.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => unreadable += 1,
        }
    }
    Ok(unreadable)
}

fn take_process(pid: u32, on_record: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let directory = format!("/proc/{pid}/fd");
    let mut fds: Vec<u32> = fs::read_dir(&directory)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    if fds.is_empty() {
        return Ok(());
    }
    fds.sort_unstable();
    let stat = i32::try_from(pid)
        .map_err(io::Error::other)
        .and_then(|pid| {
            Process::new(pid)
                .and_then(|process| process.stat())
                .map_err(io::Error::other)
        })?;
    let table = table_address(pid);
    let header = |kind: Kind| Header {
        kind: kind as u8,
        flags: 0,
        call: NO_CALL,
        fd: 0,
        tid: pid,
        tgid: pid,
    };
    on_record(
        SnapshotTask {
            header: header(Kind::SnapshotTask),
            table,
            start_time: start_time(&stat),
            comm: comm(&stat),
            parent: stat.ppid.try_into().unwrap_or(0),
            reserved: 0,
        }
        .as_bytes(),
    );
    let mut descriptions = Descriptions::default();
    let mut denied = None;
    for fd in fds {
        let (mut payload, closes_on_exec) = match payload(pid, fd) {
            Ok(payload) => payload,
            Err(error) => {
                if error.kind() == io::ErrorKind::PermissionDenied {
                    denied = Some(error);
                }
                continue;
            }
        };
        payload.file = descriptions.of(pid, fd, &payload);
        on_record(
            SnapshotFile {
                header: Header {
                    flags: SnapshotFile::CLOEXEC.when(closes_on_exec).bits(),
                    fd,
                    ..header(Kind::SnapshotFile)
                },
                table,
                payload,
            }
            .as_bytes(),
        );
    }
    denied.map_or(Ok(()), Err)
}

/// Returns a substitute for the address of the `files_struct`, at the end of the address space, where
/// there are none.
const fn table_address(pid: u32) -> u64 {
    u64::MAX - pid as u64
}

fn start_time(stat: &Stat) -> u64 {
    stat.starttime
        .saturating_mul(1_000_000_000 / procfs::ticks_per_second().max(1))
}

fn comm(stat: &Stat) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    // Terminated by NUL, like the kernel's.
    for (to, &from) in comm[..COMM_LEN - 1].iter_mut().zip(stat.comm.as_bytes()) {
        *to = from;
    }
    comm
}

/// Returns the file of a descriptor, with 0 as the description, and whether it is closed on exec.
fn payload(pid: u32, fd: u32) -> io::Result<(Payload, bool)> {
    let metadata = fs::metadata(Path::new("/proc").join(format!("{pid}/fd/{fd}")))?;
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}"))?;
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok())
        .unwrap_or(0);
    let payload = Payload {
        file: 0,
        ino: metadata.ino(),
        dev: kernel_device(metadata.dev()),
        flags,
        mode: metadata.mode(),
        nlink: metadata.nlink().try_into().unwrap_or(u32::MAX),
    };
    let closes_on_exec = flags & u32::try_from(libc::O_CLOEXEC).unwrap_or(0) != 0;
    Ok((payload, closes_on_exec))
}

/// Numbers the open file descriptions of one process. Only descriptors of the same file are compared,
/// by kcmp(2).
#[derive(Default)]
struct Descriptions {
    /// By device and inode: one descriptor of each description, and the description's number.
    known: HashMap<(u32, u64), Vec<(u32, u64)>>,
    next: u64,
}

impl Descriptions {
    fn of(&mut self, pid: u32, fd: u32, payload: &Payload) -> u64 {
        let known = self.known.entry((payload.dev, payload.ino)).or_default();
        let same = known.iter().find(|&&(other, _)| is_same(pid, fd, other));
        if let Some(&(_, number)) = same {
            return number;
        }
        self.next += 1;
        // Descriptions are never shared between processes here.
        let number = u64::from(pid) << 32 | self.next;
        known.push((fd, number));
        number
    }
}

/// Returns whether two descriptors have the same description; false if `kcmp` fails, which requires CONFIG_KCMP
/// and ptrace access.
fn is_same(pid: u32, one: u32, other: u32) -> bool {
    /// include/uapi/linux/kcmp.h
    const KCMP_FILE: libc::c_int = 0;
    // SAFETY: the call only takes numbers.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            pid,
            pid,
            KCMP_FILE,
            libc::c_ulong::from(one),
            libc::c_ulong::from(other),
        )
    };
    order == 0
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn dup_shares_description_and_open_does_not() {
        let one = File::open("/proc/self/stat").unwrap();
        let copy = one.try_clone().unwrap();
        let other = File::open("/proc/self/stat").unwrap();
        let own = std::process::id();
        let mut descriptions = Descriptions::default();
        let numbers = [&one, &copy, &other].map(|file| {
            let fd = file.as_raw_fd().try_into().unwrap();
            descriptions.of(own, fd, &Payload::default())
        });
        assert_ne!(numbers[0], numbers[2]);
        // Without kcmp, all descriptions differ.
        let fd = one.as_raw_fd().try_into().unwrap();
        if is_same(own, fd, fd) {
            assert_eq!(numbers[0], numbers[1]);
        }
    }

    #[test]
    fn payload_has_flags_and_mode_of_file() {
        let file = tempfile::tempfile().unwrap();
        let fd = file.as_raw_fd().try_into().unwrap();
        let (payload, closes_on_exec) = payload(std::process::id(), fd).unwrap();
        assert!(closes_on_exec);
        assert_eq!((payload.nlink, payload.mode & 0o170_000), (0, 0o100_000));
        assert_eq!(payload.flags & 3, 2);
    }
}
