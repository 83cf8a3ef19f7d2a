//! Model and duplicates, driven by the records of a probe. Does no I/O of its own.

use fdwatch_common::Event;

use crate::{
    duplicates::{Duplicate, Duplicates, Path, Rotation},
    model::{AnonymousDevices, Model, Moment, Outcome, Slot, Table},
};

/// Snapshots taken until one is complete: another is only needed for what was made during the one
/// before.
const MOST_SNAPSHOTS: u32 = 4;

/// Model and duplicates together.
#[derive(Debug)]
pub struct Engine {
    /// Every process's descriptor table.
    pub model: Model,
    /// What of it is held more than once.
    pub duplicates: Duplicates,
    malformed: u64,
}

impl Engine {
    /// An empty one. See [`Model::new`] and [`Duplicates::new`].
    #[must_use]
    pub fn new(anonymous: AnonymousDevices, all_types: bool) -> Self {
        Self {
            model: Model::new(anonymous),
            duplicates: Duplicates::new(all_types),
            malformed: 0,
        }
    }

    /// Takes in a record that was read at `at`.
    pub fn record(&mut self, record: &[u8], at: Moment) {
        match Event::parse(record) {
            Ok(event) => self.model.apply(&event, at, &mut self.duplicates),
            Err(_) => self.malformed += 1,
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
        for _ in 0..MOST_SNAPSHOTS {
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

    /// The audit has ended.
    pub fn end_audit(&mut self) -> Outcome {
        self.model.end_audit(&mut self.duplicates)
    }

    /// The process is known to have ended, or to have no descriptors.
    pub fn forget(&mut self, tgid: u32) {
        self.model.forget(tgid, &mut self.duplicates);
    }

    /// Tells `judge` what has changed since the last time.
    pub fn settle(&mut self, now: Moment, judge: &mut impl FnMut(&Duplicate<'_>, &Model)) {
        self.duplicates.settle(&self.model, now, judge);
    }

    /// Tells `judge` of rotated files. See [`Duplicates::sweep`].
    pub fn sweep(
        &mut self,
        now: Moment,
        path_of: &mut impl FnMut(u32, u32, &Slot) -> Option<Path>,
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
