//! The timed system calls.

use std::{
    ffi::{CStr, CString},
    hint::black_box,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    ptr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Duration of one measurement.
const DURATION: Duration = Duration::from_millis(40);

/// Measurements of a call in one round. The fastest one counts: disturbances only add time.
const TRIES: u32 = 5;

/// A timed call.
pub(super) struct Call {
    pub(super) name: &'static str,
    once: unsafe fn(&Files),
    /// Calls between two reads of the clock.
    batch: u32,
}

/// All timed calls.
pub(super) const CALLS: [Call; 5] = [
    Call {
        name: "open+close",
        once: open_close,
        batch: 256,
    },
    Call {
        name: "dup+close",
        once: dup_close,
        batch: 256,
    },
    Call {
        name: "fork+exec+exit",
        once: fork_exec_exit,
        batch: 4,
    },
    Call {
        name: "getppid",
        once: getppid,
        batch: 1024,
    },
    Call {
        name: "read",
        once: read,
        batch: 1024,
    },
];

/// The files that the calls use.
pub(super) struct Files {
    path: CString,
    zero: i32,
    program: &'static CStr,
}

impl Files {
    /// Opens the files, with the regular one at `path`.
    pub(super) fn new(path: &Path) -> Result<Self> {
        // SAFETY: the path lives.
        let zero = unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        ensure!(zero >= 0, "cannot open /dev/zero");
        Ok(Self {
            path: CString::new(path.as_os_str().as_bytes()).context("the path has a NUL")?,
            zero,
            program: c"/bin/true",
        })
    }
}

impl Call {
    /// Measures its duration, in nanoseconds.
    pub(super) fn time(&self, files: &Files) -> f64 {
        // The first is a warm-up and does not count.
        let tries = (0..=TRIES).map(|_| {
            let began = Instant::now();
            let mut count = 0u32;
            while began.elapsed() < DURATION {
                for _ in 0..self.batch {
                    // SAFETY: `files` has the valid path and descriptor that it needs.
                    unsafe { (self.once)(files) };
                }
                count += self.batch;
            }
            began.elapsed().as_secs_f64() * 1e9 / f64::from(count)
        });
        tries.skip(1).fold(f64::INFINITY, f64::min)
    }
}

unsafe fn open_close(files: &Files) {
    // SAFETY: the path lives, and the descriptor is this function's own.
    unsafe {
        let fd = libc::open(files.path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        libc::close(black_box(fd));
    }
}

unsafe fn dup_close(files: &Files) {
    // SAFETY: the descriptor is this function's own.
    unsafe {
        let fd = libc::dup(files.zero);
        libc::close(black_box(fd));
    }
}

unsafe fn fork_exec_exit(files: &Files) {
    let arguments = [files.program.as_ptr(), ptr::null()];
    // SAFETY: all of it lives until the calls return; the child calls nothing but exec and exit.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::execve(
                files.program.as_ptr(),
                arguments.as_ptr(),
                arguments[1..].as_ptr(),
            );
            libc::_exit(1);
        }
        libc::waitpid(pid, ptr::null_mut(), 0);
    }
}

unsafe fn getppid(_: &Files) {
    // SAFETY: the call has no requirements.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

unsafe fn read(files: &Files) {
    let mut byte = 0u8;
    // SAFETY: there is room for one.
    unsafe { libc::read(files.zero, (&raw mut byte).cast(), 1) };
    black_box(byte);
}
