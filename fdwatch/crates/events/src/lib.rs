//! What fdwatch reports: events, reports, and their times. Every one of them has one type here.

pub mod event;
pub mod report;
pub mod time;

pub use fdwatch_core::{
    diagnose::TableReport,
    growth::{GrowthReport, Pinned},
};

pub use self::{
    event::{Event, EventKind, Key, Measure, ThresholdReport},
    report::{BudgetReport, ProcessRow, RunStats},
};
