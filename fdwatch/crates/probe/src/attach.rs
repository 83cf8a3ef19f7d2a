//! Attaches programs to tracepoints, and detaches all of them quickly.
//!
//! Two objects attach a program: a perf event, which enables the tracepoint, and a link, which adds
//! the program to the event (`bpf_perf_link_attach`, kernel/bpf/syscall.c, 5.15 and newer). Both are
//! stored separately, because closing them differs:
//!
//! - Closing a link removes the program, then waits for runs in progress
//!   (`perf_event_detach_bpf_prog`, kernel/trace/bpf_trace.c: from 6.13 on by
//!   `synchronize_rcu_tasks_trace`). 6.18 waits after it releases `bpf_event_mutex`, so that links
//!   closed at the same time share one wait. Kernels that wait under the mutex close one after the
//!   other.
//! - Closing an event waits for every processor under `event_mutex` (`perf_trace_event_unreg`,
//!   kernel/trace/trace_event_perf.c): one after the other, whatever the caller does. An event
//!   without a program does not slow down any process.
//!
//! Before 5.15 there is no such link: the program is set on the event and released with it
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

/// Attached programs; dropping it detaches them.
///
/// Fields drop in this order: closing the links removes all programs, then the events are closed slowly.
#[derive(Default)]
pub(super) struct Attached {
    links: Vec<OwnedFd>,
    events: Vec<Counter>,
}

/// The reason why a program cannot be attached.
#[derive(Debug, Error)]
pub(super) enum AttachError {
    /// The tracepoint's number cannot be read.
    #[error("cannot read {path}: {source}")]
    Id { path: String, source: io::Error },
    /// `CAP_PERFMON` is not enough.
    #[error("kernel.perf_event_paranoid is {paranoid}")]
    Paranoid { paranoid: i32 },
    /// A system call failed.
    #[error("{call}: {source}")]
    Call {
        call: &'static str,
        source: io::Error,
    },
}

/// The largest value that upstream kernels define (Documentation/admin-guide/sysctl/kernel.rst, 6.18).
/// Above it the kernels of Debian and Ubuntu, whose defaults are 3 and 4, require `CAP_SYS_ADMIN` for
/// all events; `CAP_PERFMON` is not enough (seen on Debian's 7.3.4).
const MAX_PARANOID: i32 = 2;

/// The value of `kernel.perf_event_paranoid`, if it is larger than upstream kernels define.
fn paranoid() -> Option<i32> {
    let setting = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?;
    let setting = setting.trim().parse().ok()?;
    (setting > MAX_PARANOID).then_some(setting)
}

/// Returns whether this thread can open perf events with its current capabilities.
pub(super) fn may_open_events() -> bool {
    let mut event = Builder::new(Software::DUMMY);
    let opened = event.any_pid().one_cpu(0).include_kernel().build();
    !opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

impl Attached {
    /// Returns whether no programs are attached.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Attaches a program to a system call tracepoint.
    pub(super) fn attach(
        &mut self,
        program: BorrowedFd<'_>,
        tracefs: &Path,
        tracepoint: &str,
    ) -> Result<(), AttachError> {
        let mut event = open_event(tracefs, tracepoint)?;
        match link(program, &event) {
            Ok(link) => self.links.push(link),
            // The kernel may lack this kind of link. If that is not the reason, the fallback fails too.
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

    /// Moves the programs of `other` to this.
    pub(super) fn append(&mut self, mut other: Self) {
        self.links.append(&mut other.links);
        self.events.append(&mut other.events);
    }

    /// Prepares detaching in a child process that inherits the descriptors.
    pub(super) fn release(&self) -> Release {
        let links: Vec<_> = self.links.iter().map(AsRawFd::as_raw_fd).collect();
        let events = self.events.iter().map(AsRawFd::as_raw_fd);
        let mut retained: Vec<_> = links.iter().copied().chain(events).collect();
        retained.sort_unstable();
        Release {
            stacks: vec![Stack([0; STACK]); links.len()],
            links,
            retained,
        }
    }
}

/// Opens an event on one processor: the program still runs on all of them (`perf_call_bpf_enter`,
/// kernel/trace/trace_syscalls.c).
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

/// `union bpf_attr` of `BPF_LINK_CREATE`, include/uapi/linux/bpf.h.
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
    // SAFETY: the kernel reads no more bytes than the given size.
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
    // SAFETY: it is new and owned here. It is closed on exec, like all links.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Stack size of a thread that makes a single call.
const STACK: usize = 8 << 10;

#[derive(Clone)]
#[repr(C, align(16))]
struct Stack([u8; STACK]);

/// Everything needed to detach programs in a child, allocated before the fork: afterwards nothing may
/// be allocated.
pub(super) struct Release {
    links: Vec<RawFd>,
    stacks: Vec<Stack>,
    /// Links and events, in ascending order. [`Self::run`] closes all other descriptors.
    retained: Vec<RawFd>,
}

impl Release {
    /// Detaches and exits. Each link is closed by its own thread, so that they wait at the same time;
    /// meanwhile all other descriptors that hold references to programs are closed; the exit of the last thread
    /// closes the events.
    ///
    /// # Safety
    ///
    /// Must be called in the only thread of a forked child that is not waited for. Calls only functions
    /// that are allowed after a fork, whatever other threads did.
    pub(super) unsafe fn run(&mut self) -> ! {
        const FLAGS: i32 = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        // SAFETY: signals are blocked, because a handler would overflow these stacks. The threads end
        // before the memory does, and share only errno, which is not read.
        unsafe {
            let mut all = mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
            for (&link, stack) in self.links.iter().zip(&mut self.stacks) {
                let top = (&raw mut *stack).add(1).cast();
                let fd = ptr::without_provenance_mut(link.cast_unsigned() as usize);
                if libc::clone(close_link, top, FLAGS, fd) < 0 {
                    // The limit of threads may be reached. Closing here takes longer.
                    libc::close(link);
                }
            }
            // Kernels with links (5.15) have close_range (5.9).
            let mut first = 0;
            for &fd in &self.retained {
                close_range(first, i64::from(fd) - 1);
                first = i64::from(fd) + 1;
            }
            close_range(first, i64::from(u32::MAX));
            // Ends this thread only: the others must finish.
            libc::syscall(libc::SYS_exit, 0);
            libc::_exit(0)
        }
    }
}

extern "C" fn close_link(fd: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the descriptor is a link's, and only this thread closes it.
    unsafe { libc::close(fd.addr() as RawFd) };
    0
}

/// # Safety
///
/// These descriptors must not be in use.
unsafe fn close_range(first: i64, last: i64) {
    if first <= last {
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_i64) };
    }
}
