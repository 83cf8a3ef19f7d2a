//! fdwatch.
pub mod duplicates;
pub mod model;
pub mod probe;
