//! Types of everything that fdwatch reports, and of its JSON.

pub mod event;
pub mod report;
#[cfg(feature = "schema")]
pub mod schema;
pub mod time;
pub mod wire;

pub use fdwatch_core::{
    diagnose::TableReport,
    growth::{GrowthReport, Pinned},
};

pub use self::{
    event::{Event, EventKind, Key, Measure, ThresholdReport},
    report::{
        BudgetReport, Explanation, FileStory, ProcessRow, RunReport, RunStats, Started, TracedCall,
    },
};
