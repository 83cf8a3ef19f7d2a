//! Text and JSON of everything fdwatch reports.

#[cfg(feature = "fleet")]
pub mod fleet;
#[cfg(feature = "agent")]
pub mod history;
#[cfg(feature = "lint")]
pub mod lint;

pub use fdwatch_events::{BudgetReport, GrowthReport, Pinned, RunStats, TableReport, time};
pub use fdwatch_render::*;
