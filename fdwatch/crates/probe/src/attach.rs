//! Programs on tracepoints: how each is attached, and how all are let go, fast. It does not know
//! which program goes where.
//!
//! A program is on a tracepoint by two things: a perf event, which is what makes the kernel come by
//! at all, and a link, which puts the program into that event's array (`bpf_perf_link_attach`,
//! kernel/bpf/syscall.c, 5.15 and newer). Both are kept, because their ends differ:
//!
//! - A link's takes the program out, and then waits for those that still run it
//!   (`perf_event_detach_bpf_prog`, kernel/trace/bpf_trace.c: from 6.13 on by
//!   `synchronize_rcu_tasks_trace`). In 6.18 that is after `bpf_event_mutex` is given back, so that as
//!   many links as end at the same time share one wait; where it is before that, they go one after the
//!   other.
//! - An event's waits for every processor under `event_mutex` (`perf_trace_event_unreg`,
//!   kernel/trace/trace_event_perf.c): one after the other, whoever does it. Without a program on it
//!   no one is hurt by that.
//!
//! Before 5.15 there is no such link: the program is set on the event, and goes with it
//! (`_free_event`, kernel/events/core.c).

use std::{
    fs,
    io::{self, ErrorKind},
    mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
    ptr,
};

use perf_event::{
    Builder, Counter,
    events::{Software, Tracepoint},
};
use thiserror::Error;

/// What keeps programs attached, as long as it is there.
///
/// Dropped in this order: with the first of them all programs are out, and what is slow comes after.
#[derive(Default)]
pub(super) struct Attached {
    links: Vec<OwnedFd>,
    events: Vec<Counter>,
}

/// Why a program cannot be attached.
#[derive(Debug, Error)]
pub(super) enum AttachError {
    /// The tracepoint's number cannot be read.
    #[error("`{path}`: {source}")]
    Id { path: String, source: io::Error },
    /// `CAP_PERFMON` is not enough.
    #[error(
        "this kernel lets only CAP_SYS_ADMIN open events (kernel.perf_event_paranoid is {paranoid}): \
         add that capability, or run `sysctl kernel.perf_event_paranoid=2`"
    )]
    Paranoid { paranoid: i32 },
    /// A call fails.
    #[error("{call}: {source}")]
    Call {
        call: &'static str,
        source: io::Error,
    },
}

/// The most that a kernel of kernel.org knows of (Documentation/admin-guide/sysctl/kernel.rst, 6.18).
/// Beyond it those of Debian and Ubuntu, where it is 3 and 4 by default, want `CAP_SYS_ADMIN` for all
/// events; `CAP_PERFMON` does not do (seen on Debian's 7.3.4).
const MAX_PARANOID: i32 = 2;

/// What `kernel.perf_event_paranoid` is, where it is beyond what all kernels know of.
fn paranoid() -> Option<i32> {
    let setting = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?;
    let setting = setting.trim().parse().ok()?;
    (setting > MAX_PARANOID).then_some(setting)
}

/// Whether this thread may open events, with the capabilities that it has now.
pub(super) fn may_open_events() -> bool {
    let mut event = Builder::new(Software::DUMMY);
    let opened = event.any_pid().one_cpu(0).include_kernel().build();
    !opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

impl Attached {
    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Attaches a program to one more of the tracepoints of syscalls.
    pub(super) fn attach(
        &mut self,
        program: BorrowedFd<'_>,
        tracefs: &Path,
        tracepoint: &str,
    ) -> Result<(), AttachError> {
        let mut event = open_event(tracefs, tracepoint)?;
        match link(program, &event) {
            Ok(link) => self.links.push(link),
            // It knows no links of this kind. If that is not the reason, then so says the other way.
            Err(error) if error.kind() == ErrorKind::InvalidInput => event
                .set_bpf(program.as_raw_fd())
                .map_err(|source| AttachError::Call {
                    call: "PERF_EVENT_IOC_SET_BPF",
                    source,
                })?,
            Err(source) => {
                return Err(AttachError::Call {
                    call: "BPF_LINK_CREATE",
                    source,
                });
            }
        }
        self.events.push(event);
        Ok(())
    }

    /// Puts what the other holds to what this does.
    pub(super) fn append(&mut self, mut other: Self) {
        self.links.append(&mut other.links);
        self.events.append(&mut other.events);
    }

    /// The way to let go of these, in a child that has inherited them.
    pub(super) fn release(&self) -> Release {
        let links: Vec<_> = self.links.iter().map(AsRawFd::as_raw_fd).collect();
        let events = self.events.iter().map(AsRawFd::as_raw_fd);
        let mut kept: Vec<_> = links.iter().copied().chain(events).collect();
        kept.sort_unstable();
        Release {
            stacks: vec![Stack([0; STACK]); links.len()],
            links,
            kept,
        }
    }
}

/// Any processor will do: a program is run on all of them (`perf_call_bpf_enter`,
/// kernel/trace/trace_syscalls.c), of whichever its event counts.
fn open_event(tracefs: &Path, tracepoint: &str) -> Result<Counter, AttachError> {
    let path = tracefs.join("events/syscalls").join(tracepoint).join("id");
    let id = fs::read_to_string(&path)
        .and_then(|id| id.trim().parse().map_err(io::Error::other))
        .map_err(|source| AttachError::Id {
            path: path.display().to_string(),
            source,
        })?;
    Builder::new(Tracepoint::with_id(id))
        .any_pid()
        .one_cpu(0)
        .include_kernel()
        .enabled(true)
        .build()
        .map_err(|source| match paranoid() {
            Some(paranoid) if source.kind() == ErrorKind::PermissionDenied => {
                AttachError::Paranoid { paranoid }
            }
            _ => AttachError::Call {
                call: "perf_event_open",
                source,
            },
        })
}

/// The part of `union bpf_attr` that makes a link, include/uapi/linux/bpf.h.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// include/uapi/linux/bpf.h.
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PERF_EVENT: u32 = 41;

fn link(program: BorrowedFd<'_>, event: &Counter) -> io::Result<OwnedFd> {
    let create = LinkCreate {
        program: program.as_raw_fd().cast_unsigned(),
        target: event.as_raw_fd().cast_unsigned(),
        attach_type: BPF_PERF_EVENT,
        flags: 0,
    };
    // SAFETY: the kernel reads as many bytes as it is told there are.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_LINK_CREATE,
            &raw const create,
            size_of::<LinkCreate>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: it is new, and no one else's. It closes on exec, as all links do.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Bytes of a thread's stack that does nothing but one call.
const STACK: usize = 8 << 10;

/// Such a stack.
#[derive(Clone)]
#[repr(C, align(16))]
struct Stack([u8; STACK]);

/// All it takes to let go of programs in a child, made before the fork: after it nothing may be
/// allocated.
pub(super) struct Release {
    links: Vec<RawFd>,
    stacks: Vec<Stack>,
    /// Links and events, in order.
    kept: Vec<RawFd>,
}

impl Release {
    /// Ends the process, and with it all programs before all else: every link by a thread of its own,
    /// for all of them to wait at once; meanwhile what else keeps a program; and the events last, by
    /// the exit of the last of the threads, whose descriptors they are as well.
    ///
    /// # Safety
    ///
    /// To be called in the only thread of a forked child, for which no one waits. It calls nothing
    /// that may not be called after a fork, whatever other threads did.
    pub(super) unsafe fn run(&mut self) -> ! {
        const FLAGS: i32 = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        // SAFETY: a signal's handler would find no room on these stacks. The threads end before the
        // memory does, and share nothing but errno, which no one reads.
        unsafe {
            let mut all = mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
            for (&link, stack) in self.links.iter().zip(&mut self.stacks) {
                let top = (&raw mut *stack).add(1).cast();
                let fd = ptr::without_provenance_mut(link.cast_unsigned() as usize);
                if libc::clone(close_link, top, FLAGS, fd) < 0 {
                    // There may be no more threads. Then it takes longer.
                    libc::close(link);
                }
            }
            // Where there are links there is this call, which is of 5.9.
            let mut first = 0;
            for &fd in &self.kept {
                close_range(first, i64::from(fd) - 1);
                first = i64::from(fd) + 1;
            }
            close_range(first, i64::from(u32::MAX));
            // This thread alone: the others are to come to their end.
            libc::syscall(libc::SYS_exit, 0);
            libc::_exit(0)
        }
    }
}

extern "C" fn close_link(fd: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the descriptor is of a link, and this thread's to close.
    unsafe { libc::close(fd.addr() as RawFd) };
    0
}

/// # Safety
///
/// No one may be using these descriptors.
unsafe fn close_range(first: i64, last: i64) {
    if first <= last {
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_i64) };
    }
}
