//! Output of fdwatch: text for people, lines of JSON, and JUnit's XML.

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
