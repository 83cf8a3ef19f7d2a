//! Calls on descriptors as they happen, for selected processes.
//!
//! No I/O: built from records, right after the model has applied them.

use std::sync::Arc;

use fdwatch_common::{Event, Exit, FdOpen, Fork, NO_CALL, RequestedPath, SetCloexec};
use globset::GlobSet;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    diagnose::call_name,
    model::{Access, FileType, Model, Moment},
};

/// Maximum number of calls that wait to be shown; further ones are counted.
const MAX: usize = 1 << 16;

/// Maximum number of threads with a requested path and no open yet.
const MAX_WAITING: usize = 4096;

/// A call on a descriptor, or an event of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When its record was read.
    pub at: Moment,
    /// The process.
    pub pid: u32,
    /// Its name at that time.
    pub comm: Vec<u8>,
    /// The thread.
    pub tid: u32,
    /// The action.
    pub what: CallKind,
}

/// The action of a call. Failed calls are not recorded, except for closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Opened a descriptor.
    Made {
        /// The system call.
        call: &'static str,
        /// The descriptor.
        fd: u32,
        /// The access mode.
        access: Access,
        /// Whether writes append.
        append: bool,
        /// Whether close-on-exec is set.
        cloexec: bool,
        /// The file's type.
        file_type: FileType,
        /// The requested path, and whether it was truncated.
        asked: Option<(Arc<[u8]>, bool)>,
        /// Kernel address of its description; not for display.
        file: u64,
    },
    /// Closed a descriptor.
    Closed {
        /// The descriptor.
        fd: u32,
        /// Whether it was open.
        was_open: bool,
    },
    /// Closed or marked a range of descriptors.
    Range {
        /// The system call.
        call: &'static str,
        /// The lowest descriptor.
        from: u32,
    },
    /// Set or cleared a close-on-exec flag.
    ClosesOnExec {
        /// The descriptor.
        fd: u32,
        /// Whether it was set.
        closes: bool,
    },
    /// Created a process.
    Forked {
        /// The child.
        child: u32,
    },
    /// Ran another program; the name is the new one.
    Execed,
    /// Ended.
    Exited,
}

/// Selects the calls to trace.
#[derive(Debug)]
pub struct Tracer {
    pids: FxHashSet<u32>,
    comm: Option<GlobSet>,
    follows_children: bool,
    paths: FxHashMap<u32, (Arc<[u8]>, bool)>,
    calls: Vec<Call>,
    /// Processes selected since the last call of [`Self::fresh`].
    fresh: Vec<u32>,
    left_out: u64,
}

impl Tracer {
    /// Traces `pids`, processes whose name matches `comm`, and children of both if
    /// `follows_children`.
    #[must_use]
    pub fn new(pids: &[u32], comm: Option<GlobSet>, follows_children: bool) -> Self {
        Self {
            pids: pids.iter().copied().collect(),
            comm,
            follows_children,
            paths: FxHashMap::default(),
            calls: Vec::new(),
            fresh: Vec::new(),
            left_out: 0,
        }
    }

    /// Selects running processes by name.
    pub fn search(&mut self, model: &Model) {
        for process in model.processes() {
            self.look_at(process.tgid, process.name());
        }
    }

    fn look_at(&mut self, tgid: u32, name: &[u8]) {
        let Some(comm) = &self.comm else { return };
        if comm.is_match(String::from_utf8_lossy(name).as_ref()) && self.pids.insert(tgid) {
            self.fresh.push(tgid);
        }
    }

    /// Processes a record that the model has just applied.
    pub fn take(&mut self, record: &[u8], model: &Model) {
        let Ok(event) = Event::parse(record) else {
            return;
        };
        let header = event.header();
        match &event {
            Event::Fork(fork) if !fork.has(Fork::THREAD) => {
                if self.pids.contains(&fork.parent_tgid) {
                    let what = CallKind::Forked { child: header.tgid };
                    self.push(model, fork.parent_tgid, fork.parent_tid, what);
                    if self.follows_children && self.pids.insert(header.tgid) {
                        self.fresh.push(header.tgid);
                    }
                }
                return;
            }
            Event::Exec(exec) => {
                let end = exec.comm.iter().position(|&byte| byte == 0);
                self.look_at(header.tgid, &exec.comm[..end.unwrap_or(exec.comm.len())]);
            }
            _ => {}
        }
        if !self.pids.contains(&header.tgid) {
            return;
        }
        let what = match &event {
            Event::RequestedPath(path) => {
                if self.paths.len() >= MAX_WAITING {
                    // These belong to failed calls.
                    self.paths.clear();
                }
                let asked = (path.bytes().into(), path.has(RequestedPath::TRUNCATED));
                self.paths.insert(header.tid, asked);
                return;
            }
            Event::FdOpen(open) => {
                let asked = self.paths.remove(&header.tid);
                let table = model.table(open.table);
                // Another thread may have closed it already.
                let Some(entry) = table.and_then(|table| table.get(header.fd)) else {
                    return;
                };
                CallKind::Made {
                    call: call_name(header.call),
                    fd: header.fd,
                    access: entry.access(),
                    append: entry.appends(),
                    cloexec: open.has(FdOpen::CLOEXEC),
                    file_type: entry.file_type(),
                    asked: asked.filter(|(path, _)| !path.is_empty()),
                    file: entry.file,
                }
            }
            Event::FdClose(close) => CallKind::Closed {
                fd: header.fd,
                was_open: close.file != 0,
            },
            Event::SetCloexec(set) => CallKind::ClosesOnExec {
                fd: header.fd,
                closes: set.has(SetCloexec::CLOEXEC),
            },
            Event::TableBits(_) if header.call != NO_CALL => {
                let what = CallKind::Range {
                    call: range_name(header.call),
                    from: header.fd,
                };
                // A call is recorded in several pieces.
                let is_more = self.calls.last().is_some_and(|last| {
                    last.tid == header.tid && matches!(last.what, CallKind::Range { .. })
                });
                if is_more {
                    return;
                }
                what
            }
            Event::Exec(_) => CallKind::Execed,
            Event::Exit(exit) if exit.has(Exit::LAST_THREAD) => CallKind::Exited,
            _ => return,
        };
        let ended = what == CallKind::Exited;
        self.push(model, header.tgid, header.tid, what);
        if ended {
            self.pids.remove(&header.tgid);
        }
    }

    fn push(&mut self, model: &Model, pid: u32, tid: u32, what: CallKind) {
        if self.calls.len() >= MAX {
            self.left_out += 1;
            return;
        }
        let process = model.process_or_ended(pid);
        self.calls.push(Call {
            at: model.now(),
            pid,
            comm: process.map_or_else(Vec::new, |process| process.name().to_vec()),
            tid,
            what,
        });
    }

    /// Returns the calls since the last call of this, in order.
    pub fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    /// Returns the processes selected since the last call of this.
    pub fn fresh(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.fresh)
    }

    /// Returns the number of calls that were dropped.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Returns whether no process is left and none can be added.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.pids.is_empty() && self.comm.is_none()
    }
}

fn range_name(call: u16) -> &'static str {
    match i64::from(call) {
        libc::SYS_close_range => "close_range",
        libc::SYS_unshare => "unshare",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use fdwatch_common::{FdClose, FdOpen, Fork, Header, Kind, Payload};

    use super::*;
    use crate::model::AnonymousDevices;

    fn header(kind: Kind, tgid: u32, fd: u32) -> Header {
        Header {
            kind: kind as u8,
            call: libc::SYS_openat as u16,
            tid: tgid,
            tgid,
            fd,
            ..Header::default()
        }
    }

    #[test]
    fn children_are_traced_only_if_requested() {
        for follows in [true, false] {
            let mut model = Model::new(AnonymousDevices::default());
            let mut tracer = Tracer::new(&[1], None, follows);
            let mut at = 0;
            let mut apply = |record: &[u8]| {
                at += 1;
                let event = Event::parse(record).unwrap();
                model.apply(&event, Moment(at), &mut ());
                tracer.take(record, &model);
            };
            let open = |tgid: u32| FdOpen {
                header: header(Kind::FdOpen, tgid, 3),
                table: tgid.into(),
                payload: Payload {
                    file: 7,
                    ..Payload::default()
                },
            };
            apply(open(1).as_bytes());
            let fork = Fork {
                header: header(Kind::Fork, 2, 0),
                table: 2,
                parent_table: 1,
                parent_tid: 1,
                parent_tgid: 1,
                ..Fork::default()
            };
            apply(fork.as_bytes());
            apply(open(9).as_bytes());
            let close = FdClose {
                header: header(Kind::FdClose, 2, 3),
                table: 2,
                file: 7,
            };
            apply(close.as_bytes());
            let calls = tracer.calls();
            let seen: Vec<_> = calls.iter().map(|call| (call.pid, &call.what)).collect();
            assert!(matches!(
                seen[0],
                (
                    1,
                    CallKind::Made {
                        call: "openat",
                        fd: 3,
                        ..
                    }
                )
            ));
            assert_eq!(seen[1], (1, &CallKind::Forked { child: 2 }));
            let closed = CallKind::Closed {
                fd: 3,
                was_open: true,
            };
            let rest: &[_] = if follows { &[(2, &closed)] } else { &[] };
            assert_eq!(&seen[2..], rest);
        }
    }
}
