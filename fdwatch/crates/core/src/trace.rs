//! Calls on descriptors as they happen, of some processes and what they make.
//!
//! Pure: made of the records, right after the model has taken them in. What /proc would add is not
//! known here.

use std::sync::Arc;

use fdwatch_common::{AskedPath, Event, Exit, FdOpen, Fork, NO_CALL, SetCloexec};
use globset::GlobSet;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    diagnose::call_name,
    model::{Access, FileType, Model, Moment},
};

/// Calls that wait to be shown, at most: what is beyond is counted.
const MAX: usize = 1 << 16;

/// Threads that have told what they open, and have not opened it.
const MAX_WAITING: usize = 4096;

/// A call, or what happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it was read of.
    pub at: Moment,
    /// The process.
    pub pid: u32,
    /// Its name then.
    pub comm: Vec<u8>,
    /// The thread.
    pub tid: u32,
    /// What it did.
    pub what: What,
}

/// What a call did. Those that failed are not told of, but for closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Made a descriptor.
    Made {
        /// The call.
        call: &'static str,
        /// The descriptor.
        fd: u32,
        /// How it may be used.
        access: Access,
        /// What it writes goes to the end.
        append: bool,
        /// It closes on exec.
        cloexec: bool,
        /// What it is.
        file_type: FileType,
        /// The path that was asked for, and whether that went on.
        asked: Option<(Arc<[u8]>, bool)>,
        /// Its description, as an address of the kernel: not to be shown.
        file: u64,
    },
    /// Closed one.
    Closed {
        /// The descriptor.
        fd: u32,
        /// It was one.
        was_open: bool,
    },
    /// Closed several at once, from this one on, or marked them.
    Range {
        /// The call.
        call: &'static str,
        /// The first of them.
        from: u32,
    },
    /// Set or cleared its close-on-exec flag.
    ClosesOnExec {
        /// The descriptor.
        fd: u32,
        /// Set.
        closes: bool,
    },
    /// Made a process.
    Forked {
        /// That.
        child: u32,
    },
    /// Ran another program: the name is the new one.
    Execed,
    /// Ended.
    Exited,
}

/// Takes in what is to be traced.
#[derive(Debug)]
pub struct Tracer {
    pids: FxHashSet<u32>,
    comm: Option<GlobSet>,
    follows_children: bool,
    paths: FxHashMap<u32, (Arc<[u8]>, bool)>,
    calls: Vec<Call>,
    /// Processes that came to be traced.
    fresh: Vec<u32>,
    left_out: u64,
}

impl Tracer {
    /// One of the processes `pids`, and of those whose name `comm` matches.
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

    /// Looks who there is.
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

    /// Takes in a record that the model has taken in.
    pub fn take(&mut self, record: &[u8], model: &Model) {
        let Ok(event) = Event::parse(record) else {
            return;
        };
        let header = event.header();
        match &event {
            Event::Fork(fork) if !fork.has(Fork::THREAD) => {
                if self.pids.contains(&fork.parent_tgid) {
                    let what = What::Forked { child: header.tgid };
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
            Event::AskedPath(path) => {
                if self.paths.len() >= MAX_WAITING {
                    // Of calls that failed.
                    self.paths.clear();
                }
                let asked = (path.bytes().into(), path.has(AskedPath::TRUNCATED));
                self.paths.insert(header.tid, asked);
                return;
            }
            Event::FdOpen(birth) => {
                let asked = self.paths.remove(&header.tid);
                let table = model.table(birth.table);
                // A number that another has closed by now is not the model's.
                let Some(slot) = table.and_then(|table| table.get(header.fd)) else {
                    return;
                };
                What::Made {
                    call: call_name(header.call),
                    fd: header.fd,
                    access: slot.access(),
                    append: slot.appends(),
                    cloexec: birth.has(FdOpen::CLOEXEC),
                    file_type: slot.file_type(),
                    asked: asked.filter(|(path, _)| !path.is_empty()),
                    file: slot.file,
                }
            }
            Event::FdClose(death) => What::Closed {
                fd: header.fd,
                was_open: death.file != 0,
            },
            Event::SetCloexec(set) => What::ClosesOnExec {
                fd: header.fd,
                closes: set.has(SetCloexec::CLOEXEC),
            },
            Event::TableBits(_) if header.call != NO_CALL => {
                let what = What::Range {
                    call: range_name(header.call),
                    from: header.fd,
                };
                // One call is told in pieces.
                let is_more = self.calls.last().is_some_and(|last| {
                    last.tid == header.tid && matches!(last.what, What::Range { .. })
                });
                if is_more {
                    return;
                }
                what
            }
            Event::Exec(_) => What::Execed,
            Event::Exit(exit) if exit.has(Exit::LAST_THREAD) => What::Exited,
            _ => return,
        };
        let ended = what == What::Exited;
        self.push(model, header.tgid, header.tid, what);
        if ended {
            self.pids.remove(&header.tgid);
        }
    }

    fn push(&mut self, model: &Model, pid: u32, tid: u32, what: What) {
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

    /// What happened since this was last asked for, in order.
    pub fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    /// Processes that came to be traced since.
    pub fn fresh(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.fresh)
    }

    /// How many calls there was no room for.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Whether no process is left, and none will come.
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
    fn children_are_traced_if_that_is_wanted_and_others_are_not() {
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
            let birth = |tgid: u32| FdOpen {
                header: header(Kind::FdOpen, tgid, 3),
                table: tgid.into(),
                payload: Payload {
                    file: 7,
                    ..Payload::default()
                },
            };
            apply(birth(1).as_bytes());
            let fork = Fork {
                header: header(Kind::Fork, 2, 0),
                table: 2,
                parent_table: 1,
                parent_tid: 1,
                parent_tgid: 1,
                ..Fork::default()
            };
            apply(fork.as_bytes());
            apply(birth(9).as_bytes());
            let death = FdClose {
                header: header(Kind::FdClose, 2, 3),
                table: 2,
                file: 7,
            };
            apply(death.as_bytes());
            let calls = tracer.calls();
            let told: Vec<_> = calls.iter().map(|call| (call.pid, &call.what)).collect();
            assert!(matches!(
                told[0],
                (
                    1,
                    What::Made {
                        call: "openat",
                        fd: 3,
                        ..
                    }
                )
            ));
            assert_eq!(told[1], (1, &What::Forked { child: 2 }));
            let closed = What::Closed {
                fd: 3,
                was_open: true,
            };
            let rest: &[_] = if follows { &[(2, &closed)] } else { &[] };
            assert_eq!(&told[2..], rest);
        }
    }
}
