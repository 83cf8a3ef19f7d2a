//! The live loop: loads the probe, takes the snapshot, drains the ring into the engine, audits the model,
//! and keeps to the CPU budget. What is reported, and to whom, is decided by a [`Follower`].

mod allocator;
mod collector;
mod detail_targets;
pub mod explain;
mod live;
mod load_shedder;
pub mod message;
pub mod rows;
pub mod snapshot;
mod steps;

pub use self::{
    collector::{FindingCollector, Subject, Update},
    live::{CANNOT_RECORD, End, FileRecorder, Follower, Live, Stop, Wanted, listen, now},
    steps::stderr_is_terminal,
};
