//! Every process's descriptor table, built from a snapshot and the events since.
//!
//! No clock and no I/O; depends on BPF only through the format of the records. Changes are passed
//! to an [`Observer`], which interprets them.

mod audit;
mod auditing;
mod bitmaps;
mod chunks;
mod events;
mod fd_entry;
mod holders;
mod index;
mod invalid_closes;
mod lineage;
mod moment;
mod observer;
mod process;
mod racing_fds;
mod snapshot;
mod state;
mod statistics;
mod table;
mod window;

pub use self::{
    audit::{Drift, Outcome},
    fd_entry::{Access, AnonymousDevices, FdEntry, FileType, Identity},
    invalid_closes::InvalidClose,
    lineage::{Lineage, LineageEvent, LineageStep},
    moment::Moment,
    observer::Observer,
    process::{Process, Program},
    state::Model,
    statistics::Statistics,
    table::{Holder, Provenance, Table, TableId},
};

#[cfg(test)]
mod tests;
