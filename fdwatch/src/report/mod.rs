//! Text and JSON of everything fdwatch reports.

pub mod fleet;
pub mod history;
pub mod lint;

pub use fdwatch_events::{BudgetReport, GrowthReport, Pinned, RunStats, TableReport, time};
pub use fdwatch_render::*;
