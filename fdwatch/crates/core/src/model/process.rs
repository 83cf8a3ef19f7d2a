//! A process in the model.

use fdwatch_common::COMM_LEN;

/// A program run by a process. Addresses are meaningful only within one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// The process.
    pub tgid: u32,
    /// Number of execs before it.
    pub execs: u32,
}

/// Returns a name without its padding.
pub(super) fn name(comm: &[u8; COMM_LEN]) -> &[u8] {
    let end = comm.iter().position(|&byte| byte == 0);
    &comm[..end.unwrap_or(COMM_LEN)]
}

/// A process. Its number and start time together are never reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number in the initial PID namespace.
    pub tgid: u32,
    /// When it was started: nanoseconds since boot (`CLOCK_BOOTTIME`); 0 if unknown.
    pub start_time: u64,
    /// Its parent when it was created or first seen; 0 if unknown.
    pub parent: u32,
    /// Its name after its creation or last exec, NUL-padded. It may have changed its name since.
    pub comm: [u8; COMM_LEN],
    /// Closes of numbers that were not open, not counting loops that close all numbers.
    pub closed_unopened: u32,
    /// Address of the table that its threads share; 0 as long as only some of its threads are
    /// known.
    pub(super) table: u64,
    /// Threads with their own tables, and the addresses of these tables.
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

    /// Returns its name, without padding.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        name(&self.comm)
    }

    /// Thread ID of all threads without their own table, when the leader has one.
    pub(super) const OTHER_THREADS: u32 = 0;

    /// Returns whether the thread is known to use the table at `address` for itself. For the
    /// leader: whether it is the shared table.
    pub(super) fn has_own(&self, tid: u32, address: u64) -> bool {
        if tid == self.tgid {
            return self.table == address;
        }
        let mut threads = self.threads.iter();
        threads.any(|&(of, table)| [tid, Self::OTHER_THREADS].contains(&of) && table == address)
    }

    /// Returns the address of the table that the thread `tid` uses.
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
