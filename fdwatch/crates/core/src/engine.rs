//! Model, duplicates and detail, driven by records. No I/O.

use fdwatch_common::{Event, Exit, Header};

use crate::{
    detail::Details,
    duplicates::{Duplicate, Duplicates, Path, Rotation},
    leaks::Leaks,
    model::{AnonymousDevices, FdEntry, Model, Moment, Observer, Outcome, Table, TableId},
};

/// Maximum number of snapshots until one is complete: another is only needed for tables copied
/// during the previous one.
const MAX_SNAPSHOTS: u32 = 4;

/// The model and its observers.
#[derive(Debug)]
pub struct Engine {
    /// Every process's descriptor table.
    pub model: Model,
    /// Files that are open more than once.
    pub duplicates: Duplicates,
    /// Stacks and requested paths, where they were collected.
    pub details: Details,
    /// The leaks of a command, if one is followed.
    pub leaks: Option<Box<Leaks>>,
    malformed: u64,
}

/// Passes each change to all observers.
struct Observers<'a> {
    duplicates: &'a mut Duplicates,
    leaks: Option<&'a mut Leaks>,
}

impl Observer for Observers<'_> {
    fn opened(&mut self, table: &mut Table, fd: u32, entry: &FdEntry, replaced: Option<&FdEntry>) {
        self.duplicates.opened(table, fd, entry, replaced);
        if let Some(leaks) = &mut self.leaks {
            leaks.opened(table, fd, entry, replaced);
        }
    }

    fn closed(&mut self, table: &mut Table, fd: u32, entry: &FdEntry, at: Moment) {
        self.duplicates.closed(table, fd, entry, at);
        if let Some(leaks) = &mut self.leaks {
            leaks.closed(table, fd, entry, at);
        }
    }

    fn forked(&mut self, table: &Table, at: Moment) {
        self.duplicates.forked(table, at);
        if let Some(leaks) = &mut self.leaks {
            leaks.forked(table, at);
        }
    }

    fn execed(&mut self, table: &Table, at: Moment) {
        self.duplicates.execed(table, at);
        if let Some(leaks) = &mut self.leaks {
            leaks.execed(table, at);
        }
    }

    fn unlinked(&mut self, table: &mut Table, fd: u32, entry: &FdEntry) {
        self.duplicates.unlinked(table, fd, entry);
    }

    fn table_dropped(&mut self, table: &Table, at: Moment) {
        self.duplicates.table_dropped(table, at);
        if let Some(leaks) = &mut self.leaks {
            leaks.table_dropped(table, at);
        }
    }
}

impl Engine {
    /// Creates an empty engine. See [`Model::new`] and [`Duplicates::new`].
    #[must_use]
    pub fn new(anonymous: AnonymousDevices, all_types: bool) -> Self {
        Self {
            model: Model::new(anonymous),
            duplicates: Duplicates::new(all_types),
            details: Details::default(),
            leaks: None,
            malformed: 0,
        }
    }

    /// Applies a record that was read at `at`.
    pub fn record(&mut self, record: &[u8], at: Moment) {
        match Event::parse(record) {
            Ok(event) => {
                if let Some(leaks) = &mut self.leaks {
                    leaks.apply(&event);
                }
                let closing = self.closing_in_detail(&event);
                let mut observers = Observers {
                    duplicates: &mut self.duplicates,
                    leaks: self.leaks.as_deref_mut(),
                };
                self.model.apply(&event, at, &mut observers);
                self.take_detail(&event);
                if let Some((table, fd, tid)) = closing {
                    self.duplicates.set_closer(table, fd, tid);
                }
            }
            Err(_) => self.malformed += 1,
        }
    }

    /// Returns the table and number of the descriptor that the event closes, and the closing
    /// thread, if the process has detail.
    fn closing_in_detail(&mut self, event: &Event<'_>) -> Option<(TableId, u32, u32)> {
        if !self.details.has_pending() {
            return None;
        }
        let (address, header) = match event {
            Event::FdOpen(open) => (open.table, open.header),
            Event::FdClose(close) => (close.table, close.header),
            _ => return None,
        };
        let Header { tid, fd, .. } = header;
        if !self.details.is_pending(tid) {
            return None;
        }
        let table = self.model.table(address)?;
        self.duplicates.remember_closings(table.id());
        let is_closed = matches!(event, Event::FdClose(_)) && table.get(fd).is_some();
        is_closed.then_some((table.id(), fd, tid))
    }

    fn take_detail(&mut self, event: &Event<'_>) {
        match event {
            Event::Stack(stack) => self.details.stack(stack),
            Event::RequestedPath(path) => self.details.path(path),
            Event::Registers(registers) => self.details.registers(registers),
            Event::StackPiece(piece) => self.details.piece(piece),
            Event::Exec(exec) => self.details.execed(exec.header.tgid),
            Event::Exit(exit) => {
                let header = &exit.header;
                let is_last = exit.has(Exit::LAST_THREAD);
                self.details.ended(header.tid, header.tgid, is_last);
            }
            _ if !self.details.has_pending() => {}
            Event::FdOpen(open) => {
                let table = self.model.table(open.table);
                let entry = table.and_then(|table| table.get(open.header.fd));
                if let Some(entry) = entry {
                    let leaks = self.leaks.as_ref();
                    let program = leaks.and_then(|leaks| leaks.program_of(open.header.tgid));
                    self.details.opened(open.header.tid, entry.opened, program);
                }
            }
            Event::FdClose(close) => {
                self.details.closed(close.header.tid, self.model.now());
            }
            _ => {}
        }
    }

    /// Takes a snapshot. `take` passes the records, and is called again if the result is
    /// incomplete.
    ///
    /// # Errors
    ///
    /// If `take` fails.
    pub fn snapshot<E>(
        &mut self,
        mut take: impl FnMut(&mut dyn FnMut(&[u8], Moment)) -> Result<(), E>,
    ) -> Result<(), E> {
        for _ in 0..MAX_SNAPSHOTS {
            self.model.begin_snapshot();
            let result = take(&mut |record, at| self.record(record, at));
            let again = self.model.end_snapshot();
            result?;
            if !again {
                break;
            }
        }
        self.duplicates.search(&self.model);
        Ok(())
    }

    /// Begins a snapshot: its records arrive among those of events.
    pub fn begin_snapshot(&mut self) {
        self.model.begin_snapshot();
    }

    /// Ends the snapshot.
    pub fn end_snapshot(&mut self) {
        self.model.end_snapshot();
        self.duplicates.search(&self.model);
    }

    /// Begins an audit: its records arrive among those of events.
    pub fn begin_audit(&mut self) {
        self.model.begin_audit();
    }

    /// Abandons the audit.
    pub fn abandon_audit(&mut self) {
        self.model.abandon_audit();
    }

    /// Ends the audit.
    pub fn end_audit(&mut self) -> Outcome {
        self.model.end_audit(&mut Observers {
            duplicates: &mut self.duplicates,
            leaks: self.leaks.as_deref_mut(),
        })
    }

    /// Removes a process that is known to have ended or to have no descriptors.
    pub fn forget(&mut self, tgid: u32) {
        if let Some(leaks) = &mut self.leaks {
            leaks.mark_ended(tgid);
        }
        let mut observers = Observers {
            duplicates: &mut self.duplicates,
            leaks: self.leaks.as_deref_mut(),
        };
        self.model.forget(tgid, &mut observers);
    }

    /// Passes what has changed since the last call to `report`.
    pub fn settle(&mut self, now: Moment, report: &mut impl FnMut(&Duplicate<'_>, &Model)) {
        self.duplicates.settle_all(&self.model, now, report);
    }

    /// Passes rotated files to `report`. See [`Duplicates::sweep`].
    pub fn sweep(
        &mut self,
        now: Moment,
        path_of: &mut impl FnMut(u32, u32, &FdEntry) -> Option<Path>,
        report: &mut impl FnMut(&Rotation<'_>, &Model),
    ) {
        self.duplicates.sweep(&self.model, now, path_of, report);
    }

    /// Returns the number of records that could not be decoded.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Returns the number of open descriptors, counting shared tables once.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.model.tables().map(Table::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use fdwatch_common::{FdOpen, Fork, Kind, SnapshotFile, SnapshotTask, TableBits};

    use super::*;

    /// Values that no kernel produces and a forged recording can contain.
    const LATEST: Moment = Moment(u64::MAX);
    const LAST: u32 = u32::MAX;

    fn engine() -> Engine {
        Engine::new(AnonymousDevices::default(), false)
    }

    fn header(kind: Kind, fd: u32) -> Header {
        Header {
            kind: kind as u8,
            fd,
            tid: 1,
            tgid: 1,
            ..Header::default()
        }
    }

    fn open(fd: u32) -> FdOpen {
        FdOpen {
            header: header(Kind::FdOpen, fd),
            table: 1,
            ..FdOpen::default()
        }
    }

    #[test]
    fn last_moment_is_accepted() {
        let mut engine = engine();
        engine.record(open(0).as_bytes(), LATEST);
        engine.record(open(1).as_bytes(), LATEST);
        let fork = Fork {
            header: Header {
                tid: 2,
                tgid: 2,
                ..header(Kind::Fork, 0)
            },
            table: 2,
            parent_table: 1,
            parent_tid: 1,
            parent_tgid: 1,
            ..Fork::default()
        };
        engine.record(fork.as_bytes(), LATEST);
        engine.settle(LATEST, &mut |_, _| ());
        assert_eq!(engine.descriptors(), 4);
    }

    #[test]
    fn bitmap_may_start_at_last_number() {
        let mut engine = engine();
        engine.record(open(LAST - 1).as_bytes(), Moment(1));
        let bits = TableBits {
            header: header(Kind::TableBits, LAST - 1),
            table: 1,
            len: 32,
            capacity: LAST,
            ..TableBits::default()
        };
        engine.record(bits.as_bytes(), Moment(2));
        assert_eq!(engine.descriptors(), 0);
    }

    #[test]
    fn audit_may_reach_last_number() {
        let mut engine = engine();
        engine.record(open(0).as_bytes(), Moment(1));
        let task = SnapshotTask {
            header: header(Kind::SnapshotTask, 0),
            table: 1,
            ..SnapshotTask::default()
        };
        let file = SnapshotFile {
            header: header(Kind::SnapshotFile, LAST),
            table: 1,
            ..SnapshotFile::default()
        };
        for at in [2, 3] {
            engine.begin_audit();
            engine.record(task.as_bytes(), Moment(at));
            engine.record(file.as_bytes(), Moment(at));
            engine.end_audit();
        }
        let table = engine.model.table(1).unwrap();
        assert!(table.get(LAST).is_some() && table.get(0).is_none());
    }
}
