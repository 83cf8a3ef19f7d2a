//! Options that the command line, the agent's configuration and its API share: filters, sizes, durations,
//! limits, and their parsers.

mod filters;
mod limits;
pub mod parse;
pub mod paths;

pub use self::{
    filters::{Filters, add_parameter},
    limits::{Detail, MaxCpu, RingSize, Target},
};
