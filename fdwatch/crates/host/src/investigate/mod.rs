//! Makes findings: adds facts from /proc that the tables lack, and applies the filter.

mod cross_process;
mod detail;
mod investigator;
mod lookup;
mod supervisord;
mod table;

pub use self::{
    cross_process::pinned,
    detail::{add_detail, add_detail_with},
    investigator::{Investigator, Source},
    lookup::{path_of, process, process_of},
    supervisord::SupervisordConfigs,
    table::{pipe_ends, table_report},
};
