//! Configurations of supervisord: what processes they make, and which logs these have.
//!
//! Pure: files, names of files, the environment and the host's name are handed
//! in by a [`Host`]. How anything is shown is not known here, nor descriptors. Whatever supervisord
//! refuses is refused here, with its line, as far as it does not need Python to know (plugins, users).

mod config;
mod expand;
pub mod host;
mod ini;
mod keys;
pub mod lint;
pub mod logrotate;
pub mod pattern;
mod programs;
mod running;
mod uses;
pub mod values;

pub use self::{
    config::{Config, Daemon, ReadError, Remark, RemarkKind, Setting, read},
    expand::{ExpandError, Names, Value, expand},
    host::Host,
    ini::{Document, Entry, Fault, Place, Section},
    programs::{Log, MAX_PROCESSES, Process, Stream, Target},
    running::configurations,
    uses::{Use, User, uses},
};

#[cfg(test)]
mod tests;
