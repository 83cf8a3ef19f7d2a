//! A process, as the model knows it.

use fdwatch_common::COMM_LEN;

/// A program that a process runs: the addresses of one mean nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// The process.
    pub tgid: u32,
    /// How many programs it has run before.
    pub execs: u32,
}

/// A name, without what follows it.
pub(super) fn name(comm: &[u8; COMM_LEN]) -> &[u8] {
    let end = comm.iter().position(|&byte| byte == 0);
    &comm[..end.unwrap_or(COMM_LEN)]
}

/// A process: its number, and when it was started, which together are never used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number, in the initial pid namespace.
    pub tgid: u32,
    /// When it was started: nanoseconds since boot, as `CLOCK_BOOTTIME`; 0 if that was not seen.
    pub start_time: u64,
    /// The process that made it, or that it was a child of when it was first seen; 0 if unknown.
    pub parent: u32,
    /// Its name when it was made or last ran a program, NUL-terminated within. It may have changed
    /// it since.
    pub comm: [u8; COMM_LEN],
    /// How often it closed a number that was not open, outside of loops that close all numbers.
    pub closed_unopened: u32,
    /// Address of the table that its threads share; 0 while only threads of it are known.
    pub(super) table: u64,
    /// Threads with tables of their own.
    pub(super) threads: Vec<(u32, u64)>,
}

impl Process {
    pub(super) const fn new(tgid: u32, table: u64) -> Self {
        Self {
            tgid,
            start_time: 0,
            parent: 0,
            comm: [0; COMM_LEN],
            closed_unopened: 0,
            table,
            threads: Vec::new(),
        }
    }

    /// Its name, without what follows it.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        name(&self.comm)
    }

    /// In the place of a thread's number: all threads that have no table of their own, but the
    /// leader does.
    pub(super) const OTHER_THREADS: u32 = 0;

    /// Whether the table at `address` is the leader's, if `tid` is that, or is known to be that
    /// thread's and not the leader's.
    pub(super) fn has_own(&self, tid: u32, address: u64) -> bool {
        if tid == self.tgid {
            return self.table == address;
        }
        let mut threads = self.threads.iter();
        threads.any(|&(of, table)| [tid, Self::OTHER_THREADS].contains(&of) && table == address)
    }

    /// Address of the table that the thread `tid` uses.
    pub(super) fn table_of(&self, tid: u32) -> u64 {
        let table_of = |tid| {
            let own = self.threads.iter().find(|(thread, _)| *thread == tid);
            own.map(|&(_, table)| table)
        };
        if tid == self.tgid {
            return self.table;
        }
        table_of(tid)
            .or_else(|| table_of(Self::OTHER_THREADS))
            .unwrap_or(self.table)
    }
}
