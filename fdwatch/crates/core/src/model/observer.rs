//! Receives the changes of a model.

use super::{fd_entry::FdEntry, moment::Moment, table::Table};

/// Receives each change right after the model has applied it.
pub trait Observer {
    /// Called when `fd` was opened. If it replaced an open descriptor, `replaced` is that descriptor.
    fn opened(&mut self, table: &mut Table, fd: u32, entry: &FdEntry, replaced: Option<&FdEntry>);
    /// Called when `fd`, whose entry was `entry`, was closed at `at`.
    fn closed(&mut self, table: &mut Table, fd: u32, entry: &FdEntry, at: Moment);
    /// Called when `table` was created as a copy of another, by fork or by a process that stopped
    /// sharing it.
    fn forked(&mut self, table: &Table, at: Moment);
    /// Called when the process of `table` ran another program, after [`Self::closed`] for its
    /// close-on-exec descriptors.
    fn execed(&mut self, table: &Table, at: Moment);
    /// Called when the last holder of `table` is gone.
    fn table_dropped(&mut self, table: &Table, at: Moment);
    /// Called when the file of `fd` turned out to have no name any more.
    fn unlinked(&mut self, _table: &mut Table, _fd: u32, _entry: &FdEntry) {}
}

/// Ignores all changes.
impl Observer for () {
    fn opened(&mut self, _: &mut Table, _: u32, _: &FdEntry, _: Option<&FdEntry>) {}
    fn closed(&mut self, _: &mut Table, _: u32, _: &FdEntry, _: Moment) {}
    fn forked(&mut self, _: &Table, _: Moment) {}
    fn execed(&mut self, _: &Table, _: Moment) {}
    fn table_dropped(&mut self, _: &Table, _: Moment) {}
}
