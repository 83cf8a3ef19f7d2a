//! Options that the command line, the agent's configuration and its API have in common: filters, sizes,
//! durations, limits, and how each is parsed.

mod filters;
mod limits;
pub mod parse;
pub mod paths;

pub use self::{
    filters::Filters,
    limits::{Detail, MaxCpu, RingSize, Target},
};
