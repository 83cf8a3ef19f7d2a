//! The state of the model, and access to it.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    audit::Audit,
    fd_entry::AnonymousDevices,
    invalid_closes::{InvalidClose, InvalidCloses},
    moment::Moment,
    observer::Observer,
    process::Process,
    racing_fds::RacingFds,
    statistics::Statistics,
    table::{Holder, Table, TableId},
    window::Window,
};

/// Number of ended processes that are remembered, because their findings can follow later.
const MAX_ENDED: usize = 1024;

/// Every process's descriptor table.
#[derive(Debug, Default)]
pub struct Model {
    pub(super) tables: FxHashMap<u64, Table>,
    pub(super) processes: FxHashMap<u32, Process>,
    /// Oldest first.
    pub(super) ended: VecDeque<Process>,
    pub(super) racing: RacingFds,
    pub(super) window: Option<Window>,
    pub(super) audit: Audit,
    pub(super) invalid_closes: InvalidCloses,
    /// Processes that are not followed (`None`), or are followed again and need this many more
    /// audits to be exact.
    pub(super) not_followed: FxHashMap<u32, Option<u32>>,
    /// Addresses of tables that the last snapshot may have missed parts of. `None`, before the
    /// first snapshot, means all tables.
    pub(super) incomplete: Option<FxHashSet<u64>>,
    pub(super) now: Moment,
    pub(super) next_table: u64,
    pub(super) anonymous: AnonymousDevices,
    pub(super) statistics: Statistics,
}

impl Model {
    /// Creates an empty model. Files on `anonymous` devices count as the same only if they share a
    /// description.
    #[must_use]
    pub fn new(anonymous: AnonymousDevices) -> Self {
        Self {
            anonymous,
            ..Self::default()
        }
    }

    /// Iterates over all tables, in no particular order.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// Returns the table at the kernel's `address`.
    #[must_use]
    pub fn table(&self, address: u64) -> Option<&Table> {
        self.tables.get(&address)
    }

    /// Returns the table that the process's threads share.
    #[must_use]
    pub fn table_of(&self, tgid: u32) -> Option<&Table> {
        self.table(self.processes.get(&tgid)?.table)
    }

    /// Returns the process `tgid`, if it is running.
    #[must_use]
    pub fn process(&self, tgid: u32) -> Option<&Process> {
        self.processes.get(&tgid)
    }

    /// Returns whether the process `tgid` is running and was started at `start_time` (nanoseconds
    /// since boot).
    #[must_use]
    pub fn is_running(&self, tgid: u32, start_time: u64) -> bool {
        let process = self.process(tgid);
        process.is_some_and(|process| process.start_time == start_time)
    }

    /// Returns the process `tgid`; if it is not running, the last one of that number among the
    /// recently ended.
    #[must_use]
    pub fn process_or_ended(&self, tgid: u32) -> Option<&Process> {
        let ended = || self.ended.iter().rev().find(|process| process.tgid == tgid);
        self.process(tgid).or_else(ended)
    }

    /// Iterates over all running processes, in no particular order.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// Returns the counters so far.
    #[must_use]
    pub const fn statistics(&self) -> Statistics {
        Statistics {
            racing: self.racing.count,
            ..self.statistics
        }
    }

    /// Drops the indexes of tables that have not changed since the last call.
    pub fn free_caches(&mut self) {
        for table in self.tables.values_mut() {
            table.drop_idle_index();
        }
    }

    /// Returns the moment of the last record.
    #[must_use]
    pub const fn now(&self) -> Moment {
        self.now
    }

    pub(super) fn remove_process(&mut self, tgid: u32, observer: &mut impl Observer) {
        let Some(process) = self.processes.remove(&tgid) else {
            return;
        };
        self.not_followed.remove(&tgid);
        self.release(process.table, Holder { tgid, tid: tgid }, observer);
        for &(tid, table) in &process.threads {
            self.release(table, Holder { tgid, tid }, observer);
        }
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(process);
    }

    /// Returns whether the model has descriptors of the process.
    #[must_use]
    pub fn has_descriptors(&self, tgid: u32) -> bool {
        self.processes.get(&tgid).is_some_and(|process| {
            let threads = process.threads.iter().map(|&(_, table)| table);
            let mut tables = threads.chain([process.table]);
            tables.any(|table| self.table(table).is_some_and(|table| !table.is_empty()))
        })
    }

    /// Returns the closes of numbers that were not open, since the last call. Closes of loops are
    /// omitted, so a close is returned only after some time without a loop.
    pub fn take_invalid_closes(&mut self, now: Moment) -> Vec<InvalidClose> {
        let invalid_closes = self.invalid_closes.take(now);
        for close in &invalid_closes {
            self.statistics.closed_unopened += 1;
            if let Some(process) = self.processes.get_mut(&close.tgid) {
                process.closed_unopened = process.closed_unopened.saturating_add(1);
            }
        }
        invalid_closes
    }

    /// Returns whether there are racing descriptors, which an audit should resolve soon.
    #[must_use]
    pub fn has_racing_fds(&self) -> bool {
        self.racing.is_any()
    }

    /// Returns whether the model's entry for this number may be wrong, because threads raced for
    /// it.
    #[must_use]
    pub fn is_racing(&self, address: u64, fd: u32) -> bool {
        self.racing.is_racing((address, fd))
    }

    /// Returns the table that the thread `tid` of a process uses.
    #[must_use]
    pub fn table_of_thread(&self, tgid: u32, tid: u32) -> Option<&Table> {
        self.table(self.processes.get(&tgid)?.table_of(tid))
    }

    pub(super) const fn next_id(&mut self) -> TableId {
        self.next_table += 1;
        TableId(self.next_table)
    }
}
