//! Output of fdwatch: text for people, JSON, and JUnit's XML. Makes no decisions.

mod calls;
pub mod escape;
mod explanation;
pub mod junit;
mod legacy;
mod reporter;
mod run;
pub mod text;

pub use fdwatch_events::{Explanation, FileStory, RunReport, TracedCall, wire::SCHEMA};

pub use self::{
    escape::{Escaped, escaped},
    legacy::{json, line, note, say_started, say_summary, summary_text},
    reporter::{Format, Report, Reporter, json_line},
    text::{path, size},
};
