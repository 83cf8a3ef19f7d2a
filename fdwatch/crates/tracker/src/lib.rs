//! The live loop: loads the probe, takes the snapshot, feeds the engine from the ring buffer, audits the
//! model, and keeps the CPU budget. An [`EventHandler`] decides what is reported, and where.

mod allocator;
mod allowance;
mod auditing;
mod audits;
pub mod checks;
mod clock;
mod collector;
mod detail_targets;
pub mod explain;
mod live;
mod load_shedder;
pub mod message;
pub mod priority;
mod recorder;
pub mod rows;
pub mod snapshot;
mod steps;
mod stop;

pub use self::{
    audits::Audits,
    clock::now,
    collector::{FindingCollector, Subject, Update},
    live::{EventHandler, Tracker, TrackerOptions},
    load_shedder::LoadShedder,
    recorder::{FileRecorder, RECORDING_FAILED},
    steps::stderr_is_terminal,
    stop::{SignalOrTimeout, StopCondition, listen},
};
