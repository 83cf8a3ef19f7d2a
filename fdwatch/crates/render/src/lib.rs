//! Output of fdwatch: human-readable text, lines of JSON, and JUnit XML.

mod calls;
pub mod escape;
mod explanation;
pub mod fleet;
pub mod history;
pub mod junit;
pub mod lint;
mod reporter;
mod run;
pub mod text;

pub use self::{
    escape::{Escaped, escaped},
    reporter::{Format, Report, Reporter, json_line},
    text::{path, size},
};
