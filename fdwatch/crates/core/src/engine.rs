//! Model, duplicates and detail, driven by the records of a probe. Does no I/O of its own. Where the
//! records are from, and who is told, is not known here.

use fdwatch_common::{Event, Exit, Header};

use crate::{
    detail::Details,
    duplicates::{Duplicate, Duplicates, Path, Rotation},
    leaks::Leaks,
    model::{AnonymousDevices, FdEntry, Model, Moment, Observer, Outcome, Table, TableId},
};

/// Snapshots taken until one is complete: another is only needed for what was made during the one
/// before.
const MAX_SNAPSHOTS: u32 = 4;

/// Model and duplicates together.
#[derive(Debug)]
pub struct Engine {
    /// Every process's descriptor table.
    pub model: Model,
    /// What of it is held more than once.
    pub duplicates: Duplicates,
    /// Where and how they were made, as far as that was wanted.
    pub details: Details,
    /// The leaks of a command, if one is followed.
    pub leaks: Option<Box<Leaks>>,
    malformed: u64,
}

/// Those who are told what changes.
struct Observers<'a> {
    duplicates: &'a mut Duplicates,
    leaks: Option<&'a mut Leaks>,
}

impl Observer for Observers<'_> {
    fn born(&mut self, table: &mut Table, fd: u32, slot: &FdEntry, replaced: Option<&FdEntry>) {
        self.duplicates.born(table, fd, slot, replaced);
        if let Some(leaks) = &mut self.leaks {
            leaks.born(table, fd, slot, replaced);
        }
    }

    fn died(&mut self, table: &mut Table, fd: u32, slot: &FdEntry, at: Moment) {
        self.duplicates.died(table, fd, slot, at);
        if let Some(leaks) = &mut self.leaks {
            leaks.died(table, fd, slot, at);
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

    fn unlinked(&mut self, table: &Table, fd: u32, slot: &FdEntry) {
        self.duplicates.unlinked(table, fd, slot);
    }

    fn gone(&mut self, table: &Table, at: Moment) {
        self.duplicates.gone(table, at);
        if let Some(leaks) = &mut self.leaks {
            leaks.gone(table, at);
        }
    }
}

impl Engine {
    /// An empty one. See [`Model::new`] and [`Duplicates::new`].
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

    /// Takes in a record that was read at `at`.
    pub fn record(&mut self, record: &[u8], at: Moment) {
        match Event::parse(record) {
            Ok(event) => {
                if let Some(leaks) = &mut self.leaks {
                    leaks.before(&event);
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

    /// What the event closes and whose thread does, if it is of a process that detail is wanted of.
    fn closing_in_detail(&mut self, event: &Event<'_>) -> Option<(TableId, u32, u32)> {
        if !self.details.is_any_waiting() {
            return None;
        }
        let (address, header) = match event {
            Event::FdOpen(birth) => (birth.table, birth.header),
            Event::FdClose(death) => (death.table, death.header),
            _ => return None,
        };
        let Header { tid, fd, .. } = header;
        if !self.details.is_waiting(tid) {
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
            Event::AskedPath(path) => self.details.path(path),
            Event::Registers(registers) => self.details.registers(registers),
            Event::StackPiece(piece) => self.details.piece(piece),
            Event::Exec(exec) => self.details.execed(exec.header.tgid),
            Event::Exit(exit) => {
                let header = &exit.header;
                let is_last = exit.has(Exit::LAST_THREAD);
                self.details.ended(header.tid, header.tgid, is_last);
            }
            _ if !self.details.is_any_waiting() => {}
            Event::FdOpen(birth) => {
                let table = self.model.table(birth.table);
                let slot = table.and_then(|table| table.get(birth.header.fd));
                if let Some(slot) = slot {
                    let leaks = self.leaks.as_ref();
                    let program = leaks.and_then(|leaks| leaks.program_of(birth.header.tgid));
                    self.details.made(birth.header.tid, slot.born, program);
                }
            }
            Event::FdClose(death) => {
                self.details.closed(death.header.tid, self.model.now());
            }
            _ => {}
        }
    }

    /// Takes in a snapshot. `take` is to hand over the records, and is called again if one
    /// cannot be complete.
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

    /// The records that follow are of a snapshot, among those of events.
    pub fn begin_snapshot(&mut self) {
        self.model.begin_snapshot();
    }

    /// The snapshot has ended.
    pub fn end_snapshot(&mut self) {
        self.model.end_snapshot();
        self.duplicates.search(&self.model);
    }

    /// The records that follow are of a snapshot that is held against the model.
    pub fn begin_audit(&mut self) {
        self.model.begin_audit();
    }

    /// The audit was broken off.
    pub fn break_off_audit(&mut self) {
        self.model.break_off_audit();
    }

    /// The audit has ended.
    pub fn end_audit(&mut self) -> Outcome {
        self.model.end_audit(&mut Observers {
            duplicates: &mut self.duplicates,
            leaks: self.leaks.as_deref_mut(),
        })
    }

    /// The process is known to have ended, or to have no descriptors.
    pub fn forget(&mut self, tgid: u32) {
        if let Some(leaks) = &mut self.leaks {
            leaks.has_ended(tgid);
        }
        let mut observers = Observers {
            duplicates: &mut self.duplicates,
            leaks: self.leaks.as_deref_mut(),
        };
        self.model.forget(tgid, &mut observers);
    }

    /// Tells `judge` what has changed since the last time.
    pub fn settle(&mut self, now: Moment, judge: &mut impl FnMut(&Duplicate<'_>, &Model)) {
        self.duplicates.settle(&self.model, now, judge);
    }

    /// Tells `judge` of rotated files. See [`Duplicates::sweep`].
    pub fn sweep(
        &mut self,
        now: Moment,
        path_of: &mut impl FnMut(u32, u32, &FdEntry) -> Option<Path>,
        judge: &mut impl FnMut(&Rotation<'_>, &Model),
    ) {
        self.duplicates.sweep(&self.model, now, path_of, judge);
    }

    /// How many records could not be understood.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// How many descriptors there are, each table counted once.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.model.tables().map(Table::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use fdwatch_common::{FdOpen, Fork, Kind, SnapshotFile, SnapshotTask, TableBits};

    use super::*;

    /// What no kernel tells and a made-up recording may: the last moment there is, and the last
    /// number.
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

    fn birth(fd: u32) -> FdOpen {
        FdOpen {
            header: header(Kind::FdOpen, fd),
            table: 1,
            ..FdOpen::default()
        }
    }

    #[test]
    fn time_may_come_to_its_end() {
        let mut engine = engine();
        engine.record(birth(0).as_bytes(), LATEST);
        engine.record(birth(1).as_bytes(), LATEST);
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
    fn a_bitmap_may_begin_at_the_last_number() {
        let mut engine = engine();
        engine.record(birth(LAST - 1).as_bytes(), Moment(1));
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
    fn an_audit_may_come_to_the_last_number() {
        let mut engine = engine();
        engine.record(birth(0).as_bytes(), Moment(1));
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
